"""What a session's owner does outside the log: model calls, timers, dispatch. All of it can be lost without harm.

Everything that runs here was derived from the state by `pending`, and comes back to the owner as an input. `Acts.match`
starts what is pending and not under way, and stops what is under way and no longer pending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import assert_never

from playhead.accept import Head
from playhead.commands import StopTool
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

from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.dispatch import DELIVERIES_MAX, Watch, run_tool
from playhead_orchestrator.parts import Agents, OrchestratorParts
from playhead_orchestrator.speaking import converse, request_of

__all__ = ["Acts", "Setting", "Tell"]

log = logger(__name__)

Tell = Callable[[Input], Coroutine[None, None, None]]
"""Hands an input to the owner; waits while too much that the model said is not yet in the log."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What acts need of their surroundings."""

    parts: OrchestratorParts
    agents: Agents
    catalogue: Catalogue
    session: SessionId
    loading: asyncio.Semaphore


class Acts:
    """The acts under way for one session. Tasks live in the owner's task group and end with it."""

    def __init__(self, setting: Setting, tell: Tell, tasks: asyncio.TaskGroup) -> None:
        self._setting = setting
        self._tell = tell
        self._tasks = tasks
        self._under_way: dict[Key, Callable[[], object]] = {}
        self._calls: dict[CallId, tuple[OpenCall, Watch]] = {}

    def match(self, state: Session, events: tuple[Event, ...]) -> None:
        """Do what `state` leaves pending, and no more of what it does not; `events` are those that led to it."""
        wanted = {_key(effect): effect for effect in pending(state)}
        for key in self._under_way.keys() - wanted.keys():
            self._under_way.pop(key)()
        for key, effect in wanted.items():
            if key not in self._under_way:
                self._under_way[key] = self._start(effect, state)
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

    def look(self, head: Head) -> None:
        """Hand silent calls to their pool again; give those up that no worker brings to an end."""
        now = time.monotonic()
        for call, watch in list(self._calls.values()):
            if watch.is_silent(now):
                watch.heard_at = None
                watch.deliveries += 1
                self._tasks.create_task(self._again(call, watch, head))

    def close(self) -> None:
        """Stop every timer. Tasks are cancelled with their group."""
        for stop in self._under_way.values():
            stop()
        self._under_way.clear()

    def _start(self, effect: Effect, state: Session) -> Callable[[], object]:
        """Begin an act and return how to stop it."""
        match effect:
            case CallModel():
                return self._tasks.create_task(self._call_model(effect, state)).cancel
            case WaitForRetry(run_id, step, attempt, until):
                return self._at(until, RetryDue(run_id, step, attempt))
            case WatchTime(run_id, until):
                return self._at(until, OutOfTime(run_id))
            case Dispatch(call):
                self._calls[call.call_id] = (call, Watch())
                return self._tasks.create_task(self._dispatch(call)).cancel
            case _:
                assert_never(effect)

    def _at(self, until: int, given: Input) -> Callable[[], object]:
        delay = max(0.0, (until - self._setting.parts.clock()) / 1_000_000)

        async def tell() -> None:
            await self._tell(given)

        return asyncio.get_running_loop().call_later(delay, lambda: self._tasks.create_task(tell())).cancel

    async def _call_model(self, effect: CallModel, state: Session) -> None:
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
        command = run_tool(self._setting.session, call, key=parts.lease_key, now=parts.clock(), trace=None)
        await parts.queue.publish(parts.topics.tools(call.pool).name, call.call_id, parts.codec.encode(command))

    async def _again(self, call: OpenCall, watch: Watch, head: Head) -> None:
        # Whoever slept through the loss of a session also finds its calls silent. Looking at the log first keeps such
        # an owner from dispatching anything.
        if (await self._setting.parts.log.end(self._setting.session)).hash != head.hash:
            return
        if watch.deliveries > DELIVERIES_MAX:
            await self._tell(GaveUp(call.call_id, f"no worker finished the call after {DELIVERIES_MAX} deliveries"))
        else:
            log.warning("call fell silent: dispatched again", session=self._setting.session, call=call.call_id)
            await self._dispatch(call)

    async def _stop(self, call: OpenCall) -> None:
        parts = self._setting.parts
        command = parts.codec.encode(StopTool(call.call_id, "cancelled"))
        await parts.queue.publish(parts.topics.control(call.pool).name, call.call_id, command)


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
