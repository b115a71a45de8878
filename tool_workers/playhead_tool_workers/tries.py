"""Where tools run: each try in a task of its own, and a function that is not `async` in a thread.

Nothing that a tool does may hurt the worker: not an exception, not `SystemExit`, not a cancellation of its own making,
not refusing to stop. A thread cannot be stopped and a task may ignore its cancellation, so a try can outlive its call.
This module owns those leaked tries: they are counted and bounded, and new tries wait once there are too many. Threads
are daemons, so that a stuck one does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from playhead.content import Pending, Question
from playhead.tools import Tool, ToolFailed
from structlog.stdlib import BoundLogger

from playhead_tool_workers.ends import Asks, Deferred, deferral
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Redact, Returned, Try, failed

__all__ = ["Attempt", "Came", "Keep", "Tries", "raised"]

Came = Try | Deferred | Asks
"""What comes of a try."""

Keep = Callable[[object], Awaitable[Try]]
"""Turns what a tool returned into what is told of it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call: a function of the tool with its arguments, and what becomes of what it returns.

    `asked` is set once the tool should come to an end, `over` once nobody waits for it any more. What it brings after
    that goes to `late`.
    """

    tool: Tool[..., object]
    function: Callable[..., object]
    arguments: Mapping[str, object]
    keep: Keep
    late: Callable[[Came], None]
    redact: Redact
    log: BoundLogger
    asked: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Value:
    """What a function returned, as it is."""

    value: Any


class Tries:
    """Everything that tools run in, of one worker."""

    def __init__(self, concurrency: int, limits: WorkerLimits) -> None:
        self._limits = limits
        self._room = asyncio.Semaphore(concurrency + limits.leaked_max)
        self._tasks: set[asyncio.Task[Came]] = set()

    async def run(self, attempt: Attempt) -> Came:
        """Run a try to its end, or to the end of its time. Cancelled, it has told the tool to stop.

        At the soft end of its time it is only asked to.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + attempt.tool.timeout_seconds
        try:
            async with asyncio.timeout_at(ends_at):
                await self._room.acquire()
        except TimeoutError:
            return _timed_out(attempt, "too many earlier calls were stopped and have not returned")
        task = loop.create_task(self._perform(attempt), name=f"tool {attempt.tool.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if attempt.tool.soft_timeout_seconds is not None:
                soft_at = ends_at - attempt.tool.timeout_seconds + attempt.tool.soft_timeout_seconds
                await asyncio.wait({task}, timeout=max(soft_at - loop.time(), 0))
                if not task.done():
                    attempt.asked.set()
            await asyncio.wait({task}, timeout=max(ends_at - loop.time(), 0))
        except asyncio.CancelledError:
            await self._stop(attempt, task)
            raise
        if not task.done():
            await self._stop(attempt, task)
            return _timed_out(attempt, "it was stopped")
        if task.cancelled():
            return Failed("error", "CancelledError", "the tool cancelled itself", retryable=True, broken=True)
        return task.result()

    async def close(self) -> None:
        """Stop what still runs, and wait for it as long as for any clean-up. Threads are left to the process's end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.cleanup_seconds)

    async def _stop(self, attempt: Attempt, task: asyncio.Task[Came]) -> None:
        attempt.asked.set()
        attempt.over.set()
        task.cancel()
        await asyncio.wait({task}, timeout=self._limits.cleanup_seconds)
        if not task.done():
            attempt.log.warning("a tool ignores its cancellation and runs on", tool=attempt.tool.name)
            task.add_done_callback(lambda done: None if done.cancelled() else attempt.late(done.result()))
        elif not task.cancelled() and isinstance(came := task.result(), Returned):
            attempt.late(came)  # it worked, as it was being stopped

    async def _perform(self, attempt: Attempt) -> Came:
        if not inspect.iscoroutinefunction(attempt.function):
            came = await self._in_thread(attempt)
            return await _settled(attempt, came)
        try:
            return await _settled(attempt, _call(attempt))
        finally:
            self._room.release()

    async def _in_thread(self, attempt: Attempt) -> Failed | _Value:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Failed | _Value] = loop.create_future()
        context = copy_context()

        def settle(came: Failed | _Value) -> None:
            self._room.release()
            if not settled.cancelled():
                settled.set_result(came)
                return
            attempt.log.warning("a stopped tool returned at last", tool=attempt.tool.name)
            task = loop.create_task(_settled(attempt, came), name=f"late {attempt.tool.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: None if done.cancelled() else attempt.late(done.result()))

        def work() -> None:
            came = context.run(_call, attempt)
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who waits
                loop.call_soon_threadsafe(settle, came)

        try:
            threading.Thread(target=work, name=f"tool {attempt.tool.name}", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            return failed(error, retryable=True, broken=True)
        try:
            return await settled
        except asyncio.CancelledError:
            attempt.log.warning("a tool's thread cannot be stopped: it leaks until it returns", tool=attempt.tool.name)
            raise


def raised(attempt: Attempt, error: BaseException) -> Failed:
    """Give the failure that an exception is, and write down what the model is not told."""
    if isinstance(error, ToolFailed):
        return failed(error, retryable=False, redact=attempt.redact)
    attempt.log.warning("a tool raised", tool=attempt.tool.name, exc_info=error)
    retryable = isinstance(error, attempt.tool.retry_on)
    return failed(error, retryable=retryable, broken=True, redact=attempt.redact)


def _call(attempt: Attempt) -> Failed | _Value:
    """Call the function. An `async` one gives what to await."""
    try:
        return _Value(attempt.function(**attempt.arguments))
    except BaseException as error:  # noqa: BLE001 - a tool call: also `SystemExit` is only its own end
        return raised(attempt, error)


async def _settled(attempt: Attempt, came: Failed | _Value) -> Came:
    if isinstance(came, Failed):
        return came
    try:
        value = await came.value if inspect.isawaitable(came.value) else came.value
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - a tool call: also `SystemExit` is only its own end
        return raised(attempt, error)
    try:
        if isinstance(value, Pending | Question):
            return deferral(value, attempt.redact)
        return await attempt.keep(value)
    except Exception as error:
        attempt.log.warning("a tool's result cannot be kept", tool=attempt.tool.name, exc_info=error)
        return failed(error, retryable=False, broken=True, redact=attempt.redact)


def _timed_out(attempt: Attempt, why: str) -> Failed:
    seconds = attempt.tool.timeout_seconds
    message = f"{attempt.tool.name} had no result within {seconds:g} s; {why}"
    return Failed("timeout", "Timeout", message, retryable=True, broken=True)
