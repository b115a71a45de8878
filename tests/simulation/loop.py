"""An event loop for many processes in one: seeded, in virtual time, and any of its processes can be killed or stopped.

Each callback belongs to a *process*, which its context names. Within a process callbacks run in the order in which they
became ready, as asyncio promises; whose turn it is among the processes, and for how long, is chance. When nobody has
anything to do, time goes on to the next timer. A killed process runs nothing more, not even what would clean up after
it: that is what kill -9 is. A stopped one runs nothing until it goes on, and finds then that time has passed.

Nothing here reads a clock or the machine's randomness, so one seed is one run.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["Livelock", "Process", "SimLoop", "process_of"]

TICK_SECONDS = 5e-6
"""What running a callback takes."""
STEPS_MAX = 3_000_000
"""More callbacks than any run has that comes to an end."""

T = TypeVar("T")


class Livelock(Exception):
    """A run that does not come to an end."""


class Process:
    """What dies together. Its `number` is in the order of their beginnings."""

    __slots__ = ("alive", "context", "name", "number", "paused_until", "ready", "remains")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.alive = True
        self.paused_until = 0.0
        self.ready: deque[asyncio.Handle] = deque()
        self.remains: list[Any] = []
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process] = ContextVar("process")


def process_of() -> Process:
    """Give the process that is running now."""
    return PROCESS.get()


class _Numbered:
    """Has a hash that is the same in each run: the order of sets of tasks and futures is part of what happens."""

    _numbers = 0

    @staticmethod
    def begin() -> None:
        """Count from 1."""
        _Numbered._numbers = 0

    def __hash__(self) -> int:
        try:
            return self._sim_number  # type: ignore[has-type]
        except AttributeError:
            _Numbered._numbers += 1
            self._sim_number = _Numbered._numbers
            return self._sim_number


class SimTask(_Numbered, asyncio.Task[Any]):
    """A task with a number."""

    __hash__ = _Numbered.__hash__


class SimFuture(_Numbered, asyncio.Future[Any]):
    """A future with a number."""

    __hash__ = _Numbered.__hash__


class SimLoop(asyncio.BaseEventLoop):
    """The loop. `burst` is how many callbacks in a row a process runs on average."""

    def __init__(self, chance: random.Random, burst: float) -> None:
        self._is_begun = False
        super().__init__()
        _Numbered.begin()
        self.faults: list[str] = []
        self.steps = 0
        self.processes: list[Process] = []
        self._chance = chance
        self._go_on = 1 - 1 / burst
        self._now = self.began = 1_000.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._timer_number = 0
        self._awake: dict[Process, None] = {}
        self._graveyard: list[Any] = []
        self.outside = self.process("outside")
        self.set_task_factory(_task)
        self.set_exception_handler(_note_fault)

    def process(self, name: str) -> Process:
        """Begin a process."""
        process = Process(name, len(self.processes))
        self.processes.append(process)
        return process

    def begin(self, process: Process, coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine in a process."""
        return self.create_task(coroutine, name=name, context=process.context.copy())

    def kill(self, process: Process) -> None:
        """End a process at once. What it was about to do is kept, so that nothing of it runs when it is collected."""
        process.alive = False
        self._graveyard += process.ready
        process.ready = deque()
        self._awake.pop(process, None)

    def pause(self, process: Process, seconds: float) -> None:
        """Stop a process for a time."""
        process.paused_until = max(process.paused_until, self._now + seconds)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run until a coroutine of the outside has come to its end."""
        events._set_running_loop(self)
        self._is_begun = True
        try:
            task = self.begin(self.outside, coroutine, "outside")
            while not task.done():
                self._turn()
            return task.result()
        finally:
            events._set_running_loop(None)

    def time(self) -> float:
        """Tell the virtual time, in seconds."""
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Have a callback run when its process comes to it."""
        handle = asyncio.Handle(callback, args, self, context)
        process = PROCESS.get(self.outside) if context is None else context.get(PROCESS, self.outside)
        if process.alive:
            if not process.ready:
                self._awake[process] = None
            process.ready.append(handle)
        else:
            self._graveyard.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run at a time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        process = PROCESS.get(self.outside) if context is None else context.get(PROCESS, self.outside)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, handle, process))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run after a time."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future."""
        return SimFuture(loop=self)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time has come."""

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Tell whether it has begun."""
        return self._is_begun

    def _turn(self) -> None:
        """Let one process run on for a while."""
        self._wake()
        awake = [process for process in self._awake if process.paused_until <= self._now]
        if not awake:
            self._pass_time()
            return
        process = awake[0] if len(awake) == 1 else awake[int(self._chance.random() * len(awake))]
        ready, chance, go_on = process.ready, self._chance.random, self._go_on
        events = 0
        while ready and process.alive and process.paused_until <= self._now:
            handle = ready.popleft()
            self._now += TICK_SECONDS
            events += 1
            if not handle._cancelled:
                handle._run()
            if chance() > go_on:
                break
        if not ready:
            self._awake.pop(process, None)
        self.steps += events
        if self.steps > STEPS_MAX:
            raise Livelock(f"{self.steps} callbacks and no end, at {self._now:.3f} s")

    def _wake(self) -> None:
        timers, now = self._timers, self._now
        while timers and timers[0][0] <= now:
            _, _, handle, process = heapq.heappop(timers)
            if handle._cancelled:
                continue
            if process.alive:
                if not process.ready:
                    self._awake[process] = None
                process.ready.append(handle)
            else:
                self._graveyard.append(handle)

    def _pass_time(self) -> None:
        while self._timers and (self._timers[0][2]._cancelled or not self._timers[0][3].alive):
            self._graveyard.append(heapq.heappop(self._timers))
        whens = [process.paused_until for process in self._awake]
        if self._timers:
            whens.append(self._timers[0][0])
        if not whens:
            raise Livelock(f"everybody waits for ever, at {self._now:.3f} s")
        self._now = max(self._now, min(whens))


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **how: Any) -> asyncio.Task[Any]:
    return SimTask(coroutine, loop=loop, **how)


def _note_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    process = PROCESS.get(loop.outside)
    error = context.get("exception")
    loop.faults.append(f"{process.name}: {context.get('message')}: {error!r}")
