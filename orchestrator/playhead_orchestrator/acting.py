"""What a session's owner does outside the log: model calls, timers, dispatch. All of it can be lost without harm.

Everything that runs here was derived from the state by `pending`, and comes back to the owner as an input. `Acts.match`
starts what is pending and not under way, and stops what is under way and no longer pending. Whatever goes wrong in an
act comes back as an input too: it ends the attempt or the call, never the session or what else goes on in the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import assert_never

from playhead.accept import Head
from playhead.commands import StopTool
from playhead.errors import PlayheadError, Unavailable
from playhead.events import Event, Failure, ToolResult
from playhead.ids import CallId, SessionId
from playhead.session import (
    Broke,
    CallModel,
    Dispatch,
    Effect,
    GaveUp,
    Input,
    OpenCall,
    OutOfTime,
    RetryDue,
    Session,
    Spoke,
    WaitForRetry,
    WatchTime,
    pending,
)
from playhead.telemetry import logger
from prometheus_client import Counter

from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.dispatch import DELIVERIES_MAX, Watch, run_tool
from playhead_orchestrator.parts import Agents, OrchestratorParts
from playhead_orchestrator.speaking import converse, request_of

__all__ = ["Acts", "Setting", "Tell"]

log = logger(__name__)

Tell = Callable[[Input], Coroutine[None, None, None]]
"""Hands an input to the owner; waits while too much that the model said is not yet in the log."""

ERROR_CHARS_MAX = 2_000
"""How much of an error's text goes into the log."""

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
        self._calls: dict[CallId, tuple[OpenCall, Watch]] = {}

    def match(self, state: Session, events: Sequence[Event]) -> None:
        """Do what `state` leaves pending, and no more of what it does not; `events` are those that led to it."""
        if state is self._matched:
            return
        self._matched = state
        wanted = {_key(effect): effect for effect in pending(state)}
        for key in self._under_way.keys() - wanted.keys():
            self._under_way.pop(key)()
        for key, effect in wanted.items():
            if key not in self._under_way:
                self._under_way[key] = self._tasks.create_task(self._start(effect, state)).cancel
        for event in events:
            if isinstance(event, ToolResult):
                call, _ = self._calls.pop(event.call_id, (None, None))
                if call is not None and event.status == "cancelled":
                    self._tasks.create_task(self._stop(call))

    def heard(self, call_id: CallId) -> None:
        """Note that a worker is at a call."""
        known = self._calls.get(call_id)
        if known is not None:
            known[1].heard_at = time.monotonic()

    def look(self) -> None:
        """Hand silent calls to their pool again; give those up that no worker brings to an end."""
        now = time.monotonic()
        for call, watch in list(self._calls.values()):
            if watch.is_silent(now, self._setting.parts.waits.silence):
                heard_at, watch.heard_at = watch.heard_at, None
                self._tasks.create_task(self._again(call, watch, heard_at))

    def _start(self, effect: Effect, state: Session) -> Coroutine[None, None, None]:
        match effect:
            case CallModel():
                return self._call_model(effect, state)
            case WaitForRetry(run_id, step, attempt, until):
                return self._wait(until, RetryDue(run_id, step, attempt))
            case WatchTime(run_id, until):
                return self._wait(until, OutOfTime(run_id))
            case Dispatch(call):
                self._calls[call.call_id] = (call, Watch())
                return self._dispatch(call)
            case _:
                assert_never(effect)

    async def _wait(self, until: int, given: Input) -> None:
        await asyncio.sleep(max(0.0, (until - self._setting.parts.clock()) / 1_000_000))
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
        place = (setting.session, effect)
        async with aclosing(converse(model, request, place, offers, setting.parts.telemetry)) as spoken:
            async for given in spoken:
                if not isinstance(given, Spoke):
                    # What is left is to put the connection away, which needs no stopping.
                    self._under_way[_key(effect)] = _nothing
                await self._tell(given)

    async def _dispatch(self, call: OpenCall) -> None:
        parts = self._setting.parts
        try:
            command = run_tool(self._setting.session, call, key=parts.lease_key, now=parts.clock(), trace=None)
            await parts.publish(parts.topics.tools(call.pool).name, call.call_id, command)
        except PlayheadError as error:  # no such pool, or too large for a message
            log.warning("a call cannot be dispatched", session=self._setting.session, call=call.call_id, pool=call.pool)
            await self._tell(GaveUp(call.call_id, f"the call cannot be handed to its pool: {_text(error)}"))

    async def _again(self, call: OpenCall, watch: Watch, heard_at: float | None) -> None:
        # Whoever slept through the loss of a session also finds its calls silent. Looking at the log first keeps such
        # an owner from dispatching anything. An append of our own that is under way looks the same: then later.
        try:
            end = await self._setting.parts.log.end(self._setting.session)
        except Unavailable:
            end = None
        head = self._head()
        if watch.heard_at is not None:
            return
        if end is None or end.seq > head.seq or (end.seq == head.seq and end.hash != head.hash):
            watch.heard_at = heard_at
        elif watch.deliveries >= DELIVERIES_MAX:
            await self._tell(GaveUp(call.call_id, f"no worker finished the call after {DELIVERIES_MAX} deliveries"))
        else:
            watch.deliveries += 1
            log.warning("call fell silent: dispatched again", session=self._setting.session, call=call.call_id)
            await self._dispatch(call)

    async def _stop(self, call: OpenCall) -> None:
        parts = self._setting.parts
        try:
            await parts.publish(parts.topics.control(call.pool).name, call.call_id, StopTool(call.call_id, "cancelled"))
        except PlayheadError as error:  # a courtesy: the call has its result
            log.warning("a call could not be stopped", call=call.call_id, pool=call.pool, error=str(error))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]


def _nothing() -> None:
    """Stop what has ended."""


def _key(effect: Effect) -> Key:
    match effect:
        case CallModel(run_id, step, attempt):
            return ("model", run_id, step, attempt)
        case WaitForRetry(run_id, step, attempt, _):
            return ("retry", run_id, step, attempt)
        case WatchTime(run_id, _):
            return ("time", run_id)
        case Dispatch(call):
            return ("call", call.call_id)
        case _:
            assert_never(effect)
