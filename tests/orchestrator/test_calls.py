"""What an owner does about calls: who may start them, whom it listens to, and what it does when nobody speaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import orjson
import pytest
from playhead.agents import Agent
from playhead.commands import (
    AnnounceTool,
    AnswerQuestion,
    CallTool,
    CancelRun,
    Command,
    DeadLetter,
    Grant,
    Heartbeat,
    Report,
    ReportPending,
    ReportQuestion,
    ReportStarted,
    RunTool,
    StopTool,
)
from playhead.events import (
    FinalResponse,
    Json,
    QuestionAsked,
    ToolCall,
    ToolResult,
    ToolResultLate,
    ToolRetry,
)
from playhead.ids import CallId, SessionId, message_id, run_id
from playhead.tools import tool
from playhead_orchestrator.acting import NOBODY
from playhead_orchestrator.parts import Waits

from tests.orchestrator.stage import PATIENCE_SECONDS, Actor, Stage, answer, names, only, use

QUICK = Waits(silence=0.15, lost=0.3, look=0.02)


@tool
async def look(city: str) -> str:
    """Look."""
    return city


@tool(effect="once")
async def pay(order: str) -> str:
    """Pay."""
    return order


async def find(order: str) -> str:
    return order


@tool(effect="once", reconcile=find)
async def wire(order: str) -> str:
    """Pay by wire."""
    return order


@tool(effect="write", key="order")
async def ship(order: str) -> str:
    """Ship."""
    return order


@tool(after="pay")
async def mail(to: str) -> str:
    """Mail."""
    return to


def stage(*uses: tuple[str, dict[str, object]], waits: Waits = QUICK) -> Stage:
    agent = Agent("helper", model="stage:one", tools=[look, pay, wire, ship, mail])
    made = Stage(Actor([use(*uses), answer("done")]), [agent])
    made.waits = waits
    return made


async def report(on: Stage, made: Report) -> None:
    await on.queue.publish(on.topics.results.name, made.session, on.codec.encode(made))


def begun(call: RunTool, claim: str = "claim", worker: str = "worker-1", *, asks: bool = False) -> ReportStarted:
    return ReportStarted(claim, call.session, call.call_id, call.lease, worker, asks, call.pool)


@asynccontextmanager
async def beating(on: Stage, call: RunTool, worker: str = "worker-1") -> AsyncGenerator[None]:
    """Be the worker of a call: say every now and then that it runs."""

    async def beat() -> None:
        while True:
            await report(on, Heartbeat(call.session, call.call_id, call.lease, worker))
            await asyncio.sleep(0.03)

    async with asyncio.TaskGroup() as tasks:
        beats = tasks.create_task(beat())
        try:
            yield
        finally:
            beats.cancel()


async def said(on: Stage, kind: type[Command], count: int = 1, pool: str = "default") -> list[Command]:
    """Wait for what is said on a pool's control topic."""
    found: list[Command] = []
    topic = on.topics.control(pool).name
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(on.queue.replay(topic, follow=True)) as batches:
        async for messages in batches:
            found += [
                one for one in map(on.codec.command, (message.value for message in messages)) if type(one) is kind
            ]
            if len(found) >= count:
                return found
    raise AssertionError("the queue ended")


async def letters(on: Stage, count: int) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    topic = on.topics.deadletter.name
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(on.queue.replay(topic, follow=True)) as batches:
        async for messages in batches:
            for message in messages:
                letter = on.codec.command(message.value)
                assert isinstance(letter, DeadLetter)
                found.append(letter)
            if len(found) >= count:
                return found
    raise AssertionError("the queue ended")


# --- once ---


async def test_the_first_that_asks_is_granted_and_every_other_is_told_who():
    on = stage(("pay", {"order": "17"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        assert await said(on, Grant) == [Grant(call.call_id, "first")]
        await report(on, begun(call, "second", "worker-2", asks=True))
        assert await said(on, Grant, 2) == [Grant(call.call_id, "first")] * 2
        await on.result(call)
        log = await on.until(session, "run_completed")
    assert names(log).count("tool_started") == 1


async def test_nothing_is_granted_before_the_log_says_so():
    on = stage(("pay", {"order": "17"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        await said(on, Grant)
        log = await on.until(session, "tool_started")
        assert log[-1].stamp.cause == "first"


async def test_who_asks_for_a_call_that_is_over_is_told_so():
    on = stage(("pay", {"order": "17"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await on.ask(CancelRun("cancel", session, None, "user"))
        await on.until(session, "run_cancelled")
        await report(on, begun(call, "late", asks=True))
        stops = await said(on, StopTool, 2)
    assert {stop.call_id for stop in stops if isinstance(stop, StopTool)} == {call.call_id}


async def test_a_worker_that_asks_for_a_call_that_is_already_looked_into_is_not_granted_it():
    on = stage(("wire", {"order": "17"}))
    async with on.orchestrator():
        await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        await said(on, Grant)
        _, again = await on.dispatched(2)
        assert again.reconcile and again.idempotency_key == call.idempotency_key
        await report(on, begun(call, "first", asks=True))
        assert await said(on, Grant, 2) == [Grant(call.call_id, "first"), Grant(call.call_id, NOBODY)]


async def test_a_lost_once_call_ends_unknown_and_is_left_to_people_whole():
    on = stage(("pay", {"order": "17"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        log = await on.until(session, "tool_result", "run_completed")
        (letter,) = await letters(on, 1)
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult) and result.event.status == "unknown"
    kept = on.codec.command(letter.value)
    assert isinstance(kept, RunTool) and kept.call_id == call.call_id and kept.input == call.input
    assert letter.topic == on.topics.tools("default").name and "unknown" in letter.error


async def test_others_that_ask_in_vain_do_not_keep_a_lost_call_alive():
    on = stage(("pay", {"order": "17"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        async with beating(on, call, "worker-2"):
            log = await on.until(session, "tool_result")
    assert isinstance(log[-1].event, ToolResult) and log[-1].event.status == "unknown"


async def test_a_once_call_that_is_heard_of_is_not_lost():
    on = stage(("pay", {"order": "17"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        async with beating(on, call):
            await asyncio.sleep(3 * QUICK.lost)
            await on.result(call)
            log = await on.until(session, "run_completed")
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult) and result.event.status == "ok"


# --- silence ---


async def test_a_silent_call_is_handed_out_again_and_that_is_an_event():
    on = stage(("look", {"city": "Oslo"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call))
        log = await on.until(session, "tool_retry")
        first, second = await on.dispatched(2)
        assert isinstance(log[-1].event, ToolRetry) and log[-1].event.delivery == 2
        assert replace(first, dispatched_at=0) == replace(second, dispatched_at=0)
        await on.result(call)
        await on.until(session, "run_completed")


async def test_an_owner_that_was_suspended_declares_nobody_lost():
    on = stage(("pay", {"order": "17"}), waits=replace(QUICK, lost=0.5))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, begun(call, "first", asks=True))
        await on.until(session, "tool_started")
        async with beating(on, call):
            time.sleep(1.0)  # noqa: ASYNC251 - nothing runs here meanwhile, as in a process that is stopped
            await on.result(call)
            log = await on.until(session, "run_completed")
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult) and result.event.status == "ok"


async def test_a_call_that_waits_in_its_queue_is_not_silent():
    on = stage(("look", {"city": "Oslo"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await asyncio.sleep(3 * QUICK.silence)
        await on.result(call)
        log = await on.until(session, "run_completed")
    assert "tool_retry" not in names(log)


async def test_a_call_that_no_delivery_brings_to_an_end_is_left_to_people_and_the_model_told():
    on = stage(("look", {"city": "Oslo"}), waits=replace(QUICK, silence=0.05))

    async def begin_each(deliveries: int) -> RunTool:
        for number in range(1, deliveries + 1):
            call = (await on.dispatched(number))[-1]
            await report(on, begun(call, f"start-{number}", f"worker-{number}"))
        return call  # pyright: ignore[reportPossiblyUnboundVariable] - there is at least one

    async with on.orchestrator():
        session = await on.start("hello")
        call = await begin_each(6)
        (letter,) = await letters(on, 1)
        log = await on.until(session, "tool_result", "run_completed")
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult) and result.event.status == "error"
    assert "6 deliveries" in result.event.output and "6 deliveries" in letter.error
    kept = on.codec.command(letter.value)
    assert isinstance(kept, RunTool) and replace(kept, dispatched_at=0) == replace(call, dispatched_at=0)


async def test_a_new_owner_hands_out_no_call_that_a_worker_has_begun_with():
    on = stage(("look", {"city": "Oslo"}), ("look", {"city": "Rome"}), waits=Waits())
    async with on.orchestrator("first"):
        session = await on.start("hello")
        running, waiting = await on.dispatched(2)
        await report(on, begun(running))
        await on.until(session, "tool_started")
    async with on.orchestrator("second"):
        calls = await on.dispatched(3)
        assert calls[2].call_id == waiting.call_id
        await on.result(running)
        await on.result(waiting)
        await on.until(session, "run_completed")
        assert len(await on.dispatched(3)) == 3


# --- order ---


async def test_calls_of_one_key_go_to_one_place_whatever_session_they_are_of():
    on = stage(("ship", {"order": "17"}), waits=Waits())
    on.actor.scripts = [use(("ship", {"order": "17"}))]
    async with on.orchestrator():
        await on.start("one")
        await on.start("two")
        first, second = await on.dispatched(2)
        assert first.key == second.key is not None and first.call_id != second.call_id
        topic = on.topics.tools("default").name
        async with aclosing(on.queue.replay(topic)) as batches:
            keys = {message.key async for messages in batches for message in messages}
    assert keys == {first.key}


async def test_a_call_is_handed_out_when_those_it_comes_after_have_ended():
    on = stage(("mail", {"to": "a"}), ("pay", {"order": "17"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (first,) = await on.dispatched(1)
        assert first.name == "pay"
        await on.result(first)
        _, second = await on.dispatched(2)
        assert second.name == "mail"
        await on.result(second)
        log = await on.until(session, "run_completed")
    asked = [one.event for one in only(log, ToolCall)]
    assert [call.waits_for for call in asked if isinstance(call, ToolCall)] == [(first.call_id,), ()]


# --- from outside ---


async def test_a_result_from_outside_is_waited_for_across_owners():
    on = stage(("look", {"city": "Oslo"}))
    async with on.orchestrator("first"):
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, ReportPending("p", call.session, call.call_id, call.lease, 60_000))
        await on.until(session, "tool_pending")
    async with on.orchestrator("second"):
        await asyncio.sleep(3 * QUICK.silence)
        await on.result(call, '"at last"')
        log = await on.until(session, "run_completed")
        assert len(await on.dispatched(1)) == 1
    assert "tool_retry" not in names(log)


async def test_a_result_that_does_not_come_from_outside_is_a_timeout():
    on = stage(("look", {"city": "Oslo"}))
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        await report(on, ReportPending("p", call.session, call.call_id, call.lease, 50))
        log = await on.until(session, "tool_result", "run_completed")
        await on.result(call, '"too late"')
        late = (await on.until(session, "tool_result_late"))[-1].event
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult) and result.event.status == "timeout"
    assert isinstance(late, ToolResultLate) and late.output == '"too late"'


async def test_a_question_reaches_the_log_and_its_answer_the_worker():
    on = stage(("look", {"city": "Oslo"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        place = (call.session, call.call_id, call.lease)
        await report(on, ReportQuestion("r", *place, "q_1", Json('"which?"'), None, Json("[7]")))
        log = await on.until(session, "question_asked")
        assert isinstance(log[-1].event, QuestionAsked) and log[-1].event.call_id == call.call_id
        await on.ask(AnswerQuestion("a", session, "q_1", Json('"that one"'), "somebody"))
        _, again = await on.dispatched(2)
        assert orjson.loads(again.answer or "") == {"content": "that one", "state": [7]}
        await on.result(again)
        await on.until(session, "question_answered", "run_completed")


# --- by hand ---


def by_hand(session: SessionId, name: str) -> CallTool:
    message = message_id(session, "call")
    return CallTool("call", session, message, run_id(session, message), name, Json('{"city":"Oslo"}'))


async def test_a_call_by_hand_goes_through_the_queue_and_its_session_ends_with_the_result():
    on = stage(waits=Waits())
    async with on.orchestrator():
        session = await on.log.create()
        await on.ask(by_hand(session, "look"))
        (call,) = await on.dispatched(1)
        assert (call.name, call.input) == ("look", '{"city":"Oslo"}')
        await on.result(call, '{"deg":3}')
        log = await on.until(session, "run_completed")
    (final,) = only(log, FinalResponse)
    assert isinstance(final.event, FinalResponse) and final.event.text == '{"deg":3}'
    assert on.actor.asked == [], "no model has anything to do with it"


async def test_a_call_by_hand_of_no_tool_says_which_there_are():
    on = stage(waits=Waits())
    async with on.orchestrator():
        session = await on.log.create()
        await on.ask(by_hand(session, "lok"))
        log = await on.until(session, "run_failed")
    (result,) = only(log, ToolResult)
    assert isinstance(result.event, ToolResult)
    assert "no tool named 'lok'" in result.event.output and "look, mail, pay, ship, wire" in result.event.output


# --- the catalogue ---


def announced(name: str, *, withdrawn: bool = False, after: Sequence[str] = ()) -> AnnounceTool:
    schema = Json('{"type":"object","properties":{}}')
    made = AnnounceTool("elsewhere", name, "Far away.", schema, "hash", "read", 1000, 0, 1, withdrawn)
    return replace(made, after=tuple(after))


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_a_tool_that_is_withdrawn_is_offered_no_more(withdrawn: bool):
    agent = Agent("helper", model="stage:one", tools=["far"])
    on = Stage(Actor([answer("done")]), [agent])
    await on.queue.prepare(*on.topics.fixed)
    topic = on.topics.catalog.name
    await on.queue.publish(topic, "elsewhere/far", on.codec.encode(announced("far")))
    if withdrawn:
        await on.queue.publish(topic, "elsewhere/far", on.codec.encode(announced("far", withdrawn=True)))
    async with on.orchestrator():
        await on.until(await on.start("hello"), "run_completed")
    assert [offer.name for offer in on.actor.asked[0].tools] == ([] if withdrawn else ["far"])


async def test_a_call_that_was_never_made_has_no_owner_to_answer_for_it():
    on = stage(("look", {"city": "Oslo"}), waits=Waits())
    async with on.orchestrator():
        session = await on.start("hello")
        (call,) = await on.dispatched(1)
        other = replace(call, call_id=CallId("call_other"))
        await report(on, begun(other, asks=True))  # its lease is of another call
        letter = await on.dead_letter()
        assert isinstance(letter, DeadLetter) and "lease" in letter.error
        await on.result(call)
        await on.until(session, "run_completed")
