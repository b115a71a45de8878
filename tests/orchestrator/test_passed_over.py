"""Owners that were passed over: while they kept their session, another one had it, went on with it, and is no more.

A partition that is taken away and given back within `handover` leaves its owners where they were. What they take the
session to be is then no longer what its log says, and nobody else will do what the log leaves pending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from playhead import Agent, tool
from playhead.accept import Head
from playhead.commands import CancelRun, Grant, RunTool
from playhead.errors import Unavailable
from playhead.events import Json, OwnerChanged, RunCancelled, Stamped, ToolResult, Usage
from playhead.ids import SessionId, call_id
from playhead.session import Answered, Asked, Input, PlannedCall, Reported, Session, TakeOver, empty, fold
from playhead_orchestrator.dispatch import run_tool
from playhead_orchestrator.draft import Draft
from playhead_orchestrator.parts import Waits

from tests.orchestrator.faults import EagerQueue, FaultyLog
from tests.orchestrator.stage import LEASE_KEY, PATIENCE_SECONDS, Actor, Hand, Stage, answer, only, use

PATIENT = Waits(again=0.02, reacquire=0.05, handover=0.04, silence=60.0, lost=60.0, look=0.02, unassigned=0.05)
"""With this nobody looks at the log because a call is silent."""


class Unanswering(FaultyLog):
    """A log that `silent` times does not tell where it ends."""

    silent = 0

    async def end(self, session: SessionId) -> Head:
        if self.silent:
            self.silent -= 1
            raise Unavailable("told to fail")
        return await super().end(session)


@tool
async def read() -> str:
    """Read."""
    return "read"


@tool(effect="once")
async def send() -> str:
    """Send."""
    return "sent"


def calling(*tools: str) -> Stage:
    """A stage whose model calls these tools, and then is done."""
    play = Stage(
        Actor([use(*((name, dict[str, object]()) for name in tools)), answer("done")]),
        [Agent("helper", model="stage:one", tools=[read, send])],
    )
    play.waits = PATIENT
    return play


async def read_of(play: Stage, session: SessionId) -> list[Stamped]:
    return [play.codec.event(record.value) async for page in play.log.read(session) for record in page.records]


async def go_on(play: Stage, session: SessionId, *inputs: Input) -> Session:
    """Go on with a session as another orchestrator would that then is no more."""
    state = empty(session)
    for one in await read_of(play, session):
        state = fold(state, one)
    draft = Draft(play.codec, state, await play.log.end(session), time.time_ns() // 1000)
    for given in (TakeOver("another"), *inputs):
        draft.add(given)
    head = await play.log.end(session)
    for batch in draft.batches:
        head = await play.log.append(session, head, batch)
    return draft.state


async def go_on_to(play: Stage, call: RunTool, name: str) -> RunTool:
    """As `go_on`: bring a call to its end, ask the model, and hand out the call of `name` that it asks for."""
    session, run = call.session, call.run_id
    planned = PlannedCall(
        call_id(session, run, 2, 0), name, Json("{}"), "once" if name == "send" else "read", "default"
    )
    message = Json('{"role":"assistant","content":[]}')
    answered = Answered(run, 2, 1, message, "", (planned,), Usage(1, 1), "tool_use", 1)
    begun, ended = Reported(Hand(call).begins("begun by another")), Reported(Hand(call).ends("heard by another"))
    state = await go_on(play, session, begun, ended, answered)
    (open_call,) = state.open_calls
    return run_tool(state, open_call, key=LEASE_KEY, now=1, trace=None)


def owners(events: Sequence[Stamped]) -> list[str]:
    return [one.event.owner for one in events if isinstance(one.event, OwnerChanged)]


def results(events: Sequence[Stamped]) -> list[str]:
    return [one.event.status for one in events if isinstance(one.event, ToolResult)]


# --- what is said to it ----------------------------------------------------------------------------------------------


async def test_the_result_of_a_call_that_only_the_log_knows_of_is_not_let_go_of() -> None:
    play = calling("read")
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        second = await go_on_to(play, call, "read")
        await play.report(Hand(second).ends("r"))
        events = await play.until(session, "run_completed")
    assert results(events) == ["ok", "ok"]
    assert owners(events) == ["first", "another", "first"]


async def test_a_worker_that_asks_for_a_call_that_only_the_log_knows_of_is_granted_it() -> None:
    play = calling("read")
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        second = await go_on_to(play, call, "send")
        await play.report(Hand(second).claims("mine"))
        assert await play.told(1) == [Grant(second.call_id, "mine")]
        await play.report(Hand(second).ends("r"))
        await play.until(session, "run_completed")


async def test_a_run_that_only_the_log_knows_of_can_be_cancelled() -> None:
    play = calling("read")
    async with play.orchestrator():
        session = await play.start("go")
        await play.dispatched(1)
        say = play.say(session, "and then")
        await go_on(play, session, Asked(say, "another"))
        await play.ask(CancelRun("c", session, say.run_id, "no more"))
        events = await play.until(session, "run_cancelled")
    (cancelled,) = only(events, RunCancelled)
    assert cancelled.event == RunCancelled(say.run_id, "no more")


async def test_a_log_that_cannot_be_asked_is_asked_again_before_anything_is_let_go_of() -> None:
    play = calling("read")
    play.log = log = Unanswering(play.log)
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        second = await go_on_to(play, call, "read")
        log.silent = 1
        await play.report(Hand(second).ends("r"))
        events = await play.until(session, "run_completed")
    assert (log.silent, results(events)) == (0, ["ok", "ok"])


# --- what nobody says to it ------------------------------------------------------------------------------------------


async def test_what_another_left_pending_goes_on_when_the_session_comes_back() -> None:
    rebalance = asyncio.Event()
    play = calling("read")
    play.queue = EagerQueue(play.queue, rebalance)
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        state = await go_on(play, session, Reported(Hand(call).begins("b")), Reported(Hand(call).ends("e")))
        assert state.run is not None
        assert state.run.step == 2, "the model is asked, by somebody who is no more"
        rebalance.set()
        await play.report(Hand(call).beats())  # wakes the member, and says nothing to the session
        events = await play.until(session, "run_completed")
    assert owners(events) == ["first", "another", "first"]


async def test_a_session_that_comes_back_as_it_was_is_not_begun_anew() -> None:
    rebalance = asyncio.Event()
    play = calling("read")
    play.queue = EagerQueue(play.queue, rebalance)
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        asked = log.ends_asked
        rebalance.set()
        await play.report(Hand(call).beats())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while log.ends_asked == asked:  # noqa: ASYNC110 - the log tells nobody that it was asked
                await asyncio.sleep(0.005)
        await play.report(Hand(call).ends("r"))
        events = await play.until(session, "run_completed")
    assert owners(events) == ["first"]
