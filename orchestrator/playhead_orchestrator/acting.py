"""What a session's owner does outside the log: model calls, timers, dispatch. All of it can be lost without harm.

Everything that runs here was derived from the state by `pending`, and comes back to the owner as an input. `Acts.match`
starts what is pending and not under way, and stops what is under way and no longer pending. Whatever goes wrong in an
act comes back as an input too: it ends the attempt or the call, never the session or what else goes on in the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import inf
from typing import assert_never

from playhead.accept import Head
from playhead.commands import Grant, Heartbeat, ReportStarted, RunTool, StopTool
from playhead.errors import PlayheadError, Superseded, Unavailable
from playhead.events import Event, Failure, ToolResult
from playhead.ids import CallId, SessionId
from playhead.session import (
    AwaitResult,
    Broke,
    CallModel,
    Dispatch,
    Effect,
    Expired,
    FellSilent,
    GaveUp,
    GiveUp,
    Input,
    OpenCall,
    OutOfTime,
    RetryDue,
    Session,
    Spoke,
    WaitForRetry,
    WatchCall,
    WatchTime,
    may_start,
    pending,
)
from playhead.telemetry import logger
from prometheus_client import Counter

from playhead_orchestrator.attaching import attached
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.dispatch import Watch, run_tool
from playhead_orchestrator.parts import Agents, OrchestratorParts
from playhead_orchestrator.reading import is_ahead
from playhead_orchestrator.speaking import converse, request_of

__all__ = ["Acts", "Setting", "Tell"]

log = logger(__name__)

Tell = Callable[[Input], Coroutine[None, None, None]]
"""Hands an input to the owner; waits while too much that the model said is not yet in the log."""

ERROR_CHARS_MAX = 2_000
"""How much of an error's text goes into the log."""

NOBODY = ""
"""A claim that no worker draws: who hears that it is granted knows that its own is not."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What acts need of their surroundings. `counts` gives the counter of an event type."""

    parts: OrchestratorParts
    agents: Agents
    catalogue: Catalogue
    session: SessionId
    loading: asyncio.Semaphore
    counts: Callable[[type[Event]], Counter]
    bury: Callable[[RunTool, str], Coroutine[None, None, None]]
    """Puts a call that came to nothing, and why, where operators find it."""


class Acts:
    """The acts under way for one session. Tasks live in the owner's task group and end with it.

    `head` gives what the owner knows to be the end of the log.
    """

    def __init__(self, setting: Setting, tell: Tell, head: Callable[[], Head], tasks: asyncio.TaskGroup) -> None:
        self._setting = setting
        self._tell = tell
        self._head = head
        self._tasks = tasks
        self._matched: Session | None = None
        self._under_way: dict[Key, Callable[[], object]] = {}
        self._buried: set[CallId] = set()
        self._behind: tuple[Head, float] | None = None
        self._watches: dict[CallId, tuple[Watch, asyncio.Event]] = {}

    def match(self, before: Session, state: Session, events: Sequence[Event]) -> None:
        """Do what `state` leaves pending, and no more of what it does not; `events` led to it from `before`."""
        if state is self._matched:
            return
        self._matched = state
        wanted = {_key(effect): effect for effect in pending(state)}
        for key in self._under_way.keys() - wanted.keys():
            self._under_way.pop(key)()
        for key, effect in wanted.items():
            if key not in self._under_way:
                self._under_way[key] = self._tasks.create_task(self._start(effect, state)).cancel
        watched = {effect.call.call_id for effect in wanted.values() if isinstance(effect, WatchCall)}
        self._watches = {call_id: watch for call_id, watch in self._watches.items() if call_id in watched}
        out = {call.call_id: call for call in before.open_calls}
        for event in events:
            if isinstance(event, ToolResult) and event.call_id in out:
                self._over(event, out[event.call_id], state)

    def answer(self, asked: ReportStarted, state: Session) -> None:
        """Answer a worker that asked whether it may run a call, once what it asked for is in the log or is not."""
        call = next((one for one in state.open_calls if one.call_id == asked.call_id), None)
        reply: Grant | StopTool
        if call is None:
            reply = StopTool(asked.call_id, "nobody waits for the call any more")
        elif may_start(call, asked.report_id):
            reply = Grant(asked.call_id, asked.report_id, asked.asking)
        elif call.is_lost or call.claim is None:
            # Not this worker's, or not any more. Whoever finds out what became of it goes on, and whoever is given it
            # later begins: so nobody is told to stop.
            reply = Grant(asked.call_id, NOBODY)
        else:
            reply = Grant(asked.call_id, call.claim)  # given to another, who may not have heard of it yet
        self._tasks.create_task(self._say(asked.pool, reply))

    def heard(self, report: Heartbeat | ReportStarted) -> None:
        """Note that a worker is at a call."""
        if report.call_id in self._watches:
            watch, _ = self._watches[report.call_id]
            watch.heard(report)

    def listen_anew(self) -> None:
        """Forget all silence: it was ours, or the queue's."""
        for watch, _ in self._watches.values():
            watch.silent_seconds = 0.0

    def look(self, seconds: float) -> None:
        """Count `seconds` in which words of running calls would have been heard, and see to those without any."""
        waits = self._setting.parts.waits
        for watch, alarm in self._watches.values():
            watch.silent_seconds += seconds
            if watch.silent_seconds > (waits.lost if watch.call.effect == "once" else waits.silence):
                watch.silent_seconds = 0.0
                alarm.set()

    def _over(self, result: ToolResult, call: OpenCall, state: Session) -> None:
        if result.status == "cancelled":
            self._tasks.create_task(self._say(call.pool, StopTool(call.call_id, "cancelled")))
        elif call.call_id in self._buried:
            self._buried.discard(call.call_id)
            self._tasks.create_task(self._say(call.pool, StopTool(call.call_id, "given up")))
        elif result.status == "unknown":
            log.warning("nobody knows what became of a call", session=state.id, call=call.call_id, tool=call.name)
            self._tasks.create_task(self._bury(call, state, "its worker was lost, and what became of it is unknown"))

    def _start(self, effect: Effect, state: Session) -> Coroutine[None, None, None]:
        match effect:
            case CallModel():
                return self._call_model(effect, state)
            case WaitForRetry(run_id, step, attempt, until, longest):
                return self._wait(until, RetryDue(run_id, step, attempt), longest)
            case WatchTime(run_id, until, longest):
                return self._wait(until, OutOfTime(run_id), longest)
            case Dispatch(call):
                return self._dispatch(call, state)
            case WatchCall(call):
                self._watches[call.call_id] = watch, alarm = Watch(call), asyncio.Event()
                return self._watch(watch, alarm)
            case AwaitResult(call, until):
                return self._wait(until, Expired(call.call_id))
            case GiveUp(call, message):
                return self._give_up(call, state, message)
            case _:
                assert_never(effect)

    async def _wait(self, until: int, given: Input, longest: float = inf) -> None:
        """Wait until a time, in microseconds, but no longer than `longest` by the loop's clock, which nobody sets."""
        loop, clock = asyncio.get_running_loop(), self._setting.parts.clock
        ends_at = loop.time() + longest / 1_000_000
        # More than once: the clock may be set, and over hours it does not run as the loop's does.
        while (left := min((until - clock()) / 1_000_000, ends_at - loop.time())) > 0:  # noqa: ASYNC110 - nobody tells the time
            await asyncio.sleep(left)
        await self._tell(given)

    async def _call_model(self, effect: CallModel, state: Session) -> None:
        try:
            await self._converse(effect, state)
        except Exception as error:
            # A supervisor: the model port promises `ModelFailed`, but a run must also end if that was not kept.
            log.exception("a model call broke", session=self._setting.session, run=effect.run_id)
            failure = Failure("internal", _text(error))
            await self._tell(Broke(effect.run_id, effect.step, effect.attempt, failure, retryable=False))

    async def _converse(self, effect: CallModel, state: Session) -> None:
        setting = self._setting
        agent = setting.agents.named(state.agent)
        model = setting.parts.models.get(state.model.partition(":")[0])
        if agent is None or model is None:
            error = Failure("unknown_model", f"this deployment has no provider for the model {state.model!r}")
            if agent is None:
                error = Failure("unknown_agent", f"this deployment no longer has an agent {state.agent!r}")
            await self._tell(Broke(effect.run_id, effect.step, effect.attempt, error, retryable=False))
            return
        offers = setting.catalogue.offers(agent)
        request = request_of(state, agent, offers, effect.attempt)
        try:
            messages = await attached(request.messages, state.id, setting.parts.archive)
        except Unavailable as unread:
            error = Failure("archive_unavailable", _text(unread))
            await self._tell(Broke(effect.run_id, effect.step, effect.attempt, error, retryable=True))
            return
        request = replace(request, messages=messages)
        place = (setting.session, effect)
        async with aclosing(converse(model, request, place, offers, setting.parts.telemetry)) as spoken:
            async for given in spoken:
                if not isinstance(given, Spoke):
                    # What is left is to put the connection away, which needs no stopping.
                    self._under_way[_key(effect)] = _nothing
                await self._tell(given)

    async def _dispatch(self, call: OpenCall, state: Session) -> None:
        parts = self._setting.parts
        try:
            command = run_tool(state, call, key=parts.lease_key, now=parts.clock(), trace=None)
            await parts.reach("owner.dispatching")
            await parts.publish(parts.topics.tools(call.pool).name, call.key or call.call_id, command)
            await parts.reach("owner.dispatched")
        except PlayheadError as error:  # no such pool, or too large for a message
            log.warning("a call cannot be dispatched", session=self._setting.session, call=call.call_id, pool=call.pool)
            await self._tell(GaveUp(call.call_id, f"the call cannot be handed to its pool: {_text(error)}"))

    async def _watch(self, watch: Watch, alarm: asyncio.Event) -> None:
        # A task from the beginning: whoever finds the call silent may come when no task can be begun here any more.
        while True:
            await alarm.wait()
            alarm.clear()
            await self._fell_silent(watch)

    async def _fell_silent(self, watch: Watch) -> None:
        # Whoever slept through the loss of a session also finds its calls silent. Looking at the log first keeps such
        # an owner from saying anything. An append of our own that is under way looks the same: then later. But the
        # session may be ours again, from an owner that is no more: who is behind for long begins anew.
        try:
            end = await self._setting.parts.log.end(self._setting.session)
        except Unavailable:
            return
        head = self._head()
        if is_ahead(end, head):
            now = asyncio.get_running_loop().time()
            if self._behind is None or self._behind[0] != head:
                self._behind = (head, now)
            elif now - self._behind[1] >= self._setting.parts.waits.silence:
                raise Superseded(self._setting.session, end.seq)
            return
        log.warning("a call fell silent", session=self._setting.session, call=watch.call.call_id)
        await self._tell(FellSilent(watch.call.call_id))

    async def _give_up(self, call: OpenCall, state: Session, message: str) -> None:
        await self._bury(call, state, message)
        self._buried.add(call.call_id)
        await self._tell(GaveUp(call.call_id, message))

    async def _bury(self, call: OpenCall, state: Session, error: str) -> None:
        """Leave the call to people, with all that it takes to run it again."""
        parts = self._setting.parts
        command = run_tool(state, call, key=parts.lease_key, now=parts.clock(), trace=None)
        await self._setting.bury(command, error)

    async def _say(self, pool: str, reply: Grant | StopTool) -> None:
        parts = self._setting.parts
        try:
            if isinstance(reply, Grant):
                await parts.reach("owner.granting")
            await parts.publish(parts.topics.control(pool).name, reply.call_id, reply)
            if isinstance(reply, Grant):
                await parts.reach("owner.granted")
        except PlayheadError as error:  # who asked asks again, and who should stop has been heard
            log.warning("a worker could not be told", call=reply.call_id, pool=pool, error=str(error))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]


def _nothing() -> None:
    """Stop what has ended."""


def _key(effect: Effect) -> Key:
    match effect:
        case CallModel(run_id, step, attempt):
            return ("model", run_id, step, attempt)
        case WaitForRetry(run_id, step, attempt):
            return ("retry", run_id, step, attempt)
        case WatchTime(run_id):
            return ("time", run_id)
        case Dispatch(call):
            return ("call", call.call_id, call.deliveries, call.question, call.answer)
        case WatchCall(call):
            return ("watch", call.call_id, call.worker, call.starts)
        case AwaitResult(call, _):
            return ("result", call.call_id)
        case GiveUp(call, _):
            return ("give up", call.call_id)
        case _:
            assert_never(effect)
