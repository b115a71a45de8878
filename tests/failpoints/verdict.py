"""What must hold when a trial is over: of the log, of what tools did (T1 to T6), and of what the queues have left."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import aclosing

import orjson
from playhead.commands import Command, DeadLetter, ListSession
from playhead.events import RunCompleted, Stamped, ToolCall, ToolResult
from playhead.ids import SessionId
from playhead.session import empty, fold, pending

from tests.failpoints.plan import BUDGET, TRIES, Execution
from tests.failpoints.system import System
from tests.failpoints.users import GARBAGE, read
from tests.session.invariants import audit

__all__ = ["hold", "settled"]

DELIVERIES_MAX = 6
POLL_SECONDS = 0.02


async def settled(system: System, runs: dict[SessionId, int]) -> None:
    """Wait until nothing is left to do: everything is acknowledged, and the directory knows that all is over."""
    while await system.behind() or await _open_work(system) & runs.keys():  # noqa: ASYNC110 - queues tell nobody
        await asyncio.sleep(POLL_SECONDS)


async def hold(system: System, runs: dict[SessionId, int], *, may_lose: bool) -> None:
    """Hold all sessions against what they asked for and what was done. Raises `AssertionError`.

    `may_lose`: somebody died or was late, so that nobody may know what became of a `once` call.
    """
    for session, count in runs.items():
        events = await read(system, session)
        state = empty(session)
        for one in events:
            state = fold(state, one)
        audit([one.event for one in events], state, BUDGET, [one.stamp.cause for one in events])
        assert sum(isinstance(one.event, RunCompleted) for one in events) == count, "a run did not complete"
        assert not pending(state)
        _hold_calls(system, events, may_lose=may_lose)
    listed = {one.session for one in await _said(system, system.topics.sessions.name) if isinstance(one, ListSession)}
    assert listed == runs.keys(), "what was asked for again was begun again"
    letters = [one for one in await _said(system, system.topics.deadletter.name) if isinstance(one, DeadLetter)]
    for topic in (system.topics.requests.name, system.topics.tools("default").name):
        sent = [one for one in await _values(system, topic) if one in GARBAGE]
        kept = {one.value for one in letters if one.topic == topic}
        assert kept >= set(sent), "what could not be read is gone"


def _hold_calls(system: System, events: Sequence[Stamped], *, may_lose: bool) -> None:
    calls = {one.event.call_id: one.event for one in events if isinstance(one.event, ToolCall)}
    ends = {one.event.call_id: one.event for one in events if isinstance(one.event, ToolResult)}
    assert calls.keys() == ends.keys(), "a call has no end"
    for call_id, call in calls.items():
        runs, status = system.journal.of(call_id), ends[call_id].status
        what = (call.name, status, runs)
        assert len({one.key for one in runs}) <= 1, what
        assert all(one.given == orjson.loads(call.input) for one in runs), what
        if call.name == "guarded":
            assert (len(runs), status) == (0, "denied"), what
        elif call.effect == "once":
            assert len(runs) <= 1, what
            assert (status == "ok" and runs) or (status == "unknown" and may_lose), what
        else:
            assert runs, what
            assert status == ("error" if call.name == "fails" else "ok"), what
            _hold_tries(call.name, runs)


def _hold_tries(name: str, runs: Sequence[Execution]) -> None:
    """Each delivery begins with try 1 and counts on, no further than the tool says."""
    of = defaultdict[int, list[int]](list)
    for one in runs:
        of[one.life].append(one.try_number)
    for tries in of.values():
        assert max(tries) <= (TRIES if name == "large" else 1), (name, tries)
        assert all(now in (1, before + 1) for before, now in zip([0, *tries], tries, strict=False)), (name, tries)
    assert Counter(one.try_number for one in runs)[1] <= DELIVERIES_MAX, runs


async def _open_work(system: System) -> set[str]:
    """Give the sessions that the directory says have open work."""
    lines = {
        one.session: one for one in await _said(system, system.topics.sessions.name) if isinstance(one, ListSession)
    }
    return {session for session, line in lines.items() if line.open}


async def _said(system: System, topic: str) -> list[Command]:
    return [system.codec.command(value) for value in await _values(system, topic) if value not in GARBAGE]


async def _values(system: System, topic: str) -> list[bytes]:
    async with aclosing(system.queue.replay(topic)) as batches:
        return [message.value async for batch in batches for message in batch]
