from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from playhead import Agent, tool
from playhead.commands import CancelRun, CloseSession, DeadLetter
from playhead.events import Budget, ModelCallCompleted, OwnerChanged, RunFailed, TextDelta, ToolCall, ToolResult
from playhead.ids import SessionId
from playhead_orchestrator.model import ModelFailed, ModelRequest, Said, TextSaid

from tests.orchestrator.faults import EagerQueue
from tests.orchestrator.stage import Actor, Script, Stage, answer, names, only, use


@tool
async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


def agent(**more: object) -> Agent:
    return Agent("helper", model="stage:one", tools=[weather], **more)  # pyright: ignore[reportArgumentType] - a test's shorthand


def stage(*scripts: Script, **more: object) -> Stage:
    return Stage(Actor(list(scripts)), [agent(**more)])


def endless(started: asyncio.Event) -> Script:
    async def play(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        yield (TextSaid("I will "), TextSaid("never end"))
        started.set()
        await asyncio.Event().wait()

    return play


def failing(*failures: ModelFailed | Script) -> list[Script]:
    def play(failure: ModelFailed) -> Script:
        async def fail(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
            yield (TextSaid("half of "),)
            raise failure

        return fail

    return [play(one) if isinstance(one, ModelFailed) else one for one in failures]


async def test_a_message_is_answered_and_every_step_of_it_is_an_event() -> None:
    play = stage(answer("Hello", " there"))
    async with play.orchestrator():
        session = await play.start("hi")
        events = await play.until(session, "run_completed")
    assert names(events) == [
        "session_started",
        "owner_changed",
        "user_message",
        "run_started",
        "model_call_started",
        "text_delta",
        "text_delta",
        "model_call_completed",
        "final_response",
        "run_completed",
    ]
    assert [one.stamp.seq for one in events] == list(range(1, 11))


async def test_parallel_calls_are_dispatched_together_and_the_next_step_waits_for_all_of_them() -> None:
    play = stage(use(("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("weather?")
        first, second = await play.dispatched(2)
        assert {first.input, second.input} == {'{"city":"Rome"}', '{"city":"Oslo"}'}
        await play.result(second, '"cold"')
        events = await play.until(session, "tool_result")
        assert len(play.actor.asked) == 1
        await play.result(first, '"warm"')
        events = await play.until(session, "run_completed")
    assert len(only(events, ToolCall)) == len(only(events, ToolResult)) == 2
    said = play.actor.asked[1].messages
    assert [block["tool_use_id"] for block in said[-1]["content"]] == [first.call_id, second.call_id] or {
        block["tool_use_id"] for block in said[-1]["content"]
    } == {first.call_id, second.call_id}


async def test_a_result_that_comes_twice_is_in_the_log_once() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("weather?")
        (call,) = await play.dispatched(1)
        await play.result(call)
        await play.result(call)
        events = await play.until(session, "run_completed")
        await play.ask(play.say(session, "again"))
        events = await play.until(session, "run_completed", "run_completed")
    assert len(only(events, ToolResult)) == 1


async def test_a_result_with_a_wrong_lease_is_set_aside() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("weather?")
        (call,) = await play.dispatched(1)
        await play.result(call, '"forged"', lease="0" * 32)
        letter = await play.dead_letter()
        assert isinstance(letter, DeadLetter)
        assert "lease" in letter.error
        await play.result(call, '"true"')
        events = await play.until(session, "run_completed")
    assert [one.event.output for one in events if isinstance(one.event, ToolResult)] == ['"true"']


async def test_bytes_that_are_no_request_are_set_aside_and_the_next_request_is_answered() -> None:
    play = stage(answer("fine"))
    async with play.orchestrator():
        session = await play.log.create()
        await play.queue.publish(play.topics.requests.name, session, b"poison")
        session = await play.start("hi")
        await play.until(session, "run_completed")


async def test_a_new_owner_abandons_the_attempt_in_flight_and_starts_the_next() -> None:
    started = asyncio.Event()
    play = stage(endless(started), answer("the whole answer"))
    async with play.orchestrator("first"):
        session = await play.start("hi")
        await play.until(session, "text_delta")
        await started.wait()
    assert play.actor.closed == 1
    async with play.orchestrator("second"):
        events = await play.until(session, "run_completed")
    assert names(events)[5:] == [
        "text_delta",
        "text_delta",
        "owner_changed",
        "model_call_abandoned",
        "model_call_started",
        "text_delta",
        "model_call_completed",
        "final_response",
        "run_completed",
    ]
    assert [one.event.owner for one in events if isinstance(one.event, OwnerChanged)] == ["first", "second"]
    assert [one.stamp.epoch for one in events][-1] == 2


async def test_a_new_owner_dispatches_open_calls_again_under_the_same_key() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator("first"):
        session = await play.start("hi")
        await play.dispatched(1)
    async with play.orchestrator("second"):
        first, again = await play.dispatched(2)
        assert (first.call_id, first.idempotency_key, first.lease) == (
            again.call_id,
            again.idempotency_key,
            again.lease,
        )
        await play.result(again)
        await play.until(session, "run_completed")


async def test_cancelling_keeps_what_was_said_and_closes_the_models_stream() -> None:
    started = asyncio.Event()
    play = stage(endless(started))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "text_delta", "text_delta")
        await play.ask(CancelRun("c1", session, None, "stopped by the user"))
        events = await play.until(session, "run_cancelled")
    (kept,) = [one.event for one in events if isinstance(one.event, ModelCallCompleted)]
    assert "I will never end" in kept.message
    assert kept.stop_reason == "cancelled"
    assert play.actor.closed == 1


async def test_an_interrupting_message_is_answered_before_one_that_waits() -> None:
    started = asyncio.Event()
    play = stage(endless(started), answer("yes"))
    async with play.orchestrator():
        session = await play.start("first")
        await play.until(session, "text_delta", "text_delta")
        await play.ask(play.say(session, "waits"))
        await play.ask(play.say(session, "now", mode="interrupt"))
        events = await play.until(session, "run_completed", "run_completed")
    runs = [one.event.run_id for one in events if names([one]) == ["run_started"]]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType] - run_started has one
    assert runs[1] == play.say(session, "now").run_id
    assert runs[2] == play.say(session, "waits").run_id


async def test_a_failure_that_may_pass_is_tried_again_and_one_that_may_not_ends_the_run() -> None:
    busy = ModelFailed("overloaded", "try later", retryable=True, retry_after_seconds=0.0)
    refused = ModelFailed("refused", "I will not", retryable=False)
    play = stage(*failing(busy, answer("well"), refused))
    async with play.orchestrator():
        session = await play.start("hi")
        events = await play.until(session, "model_call_failed", "model_call_started", "run_completed")
        assert [one.event.attempt for one in events if isinstance(one.event, TextDelta)] == [1, 2]
        await play.ask(play.say(session, "again"))
        events = await play.until(session, "run_failed")
    (failed,) = [one.event for one in events if isinstance(one.event, RunFailed)]
    assert (failed.error.code, failed.error.message) == ("refused", "I will not")


async def test_a_run_that_uses_up_its_time_fails_and_says_so() -> None:
    started = asyncio.Event()
    play = stage(endless(started), budget=Budget(wall_seconds=1))
    async with play.orchestrator():
        session = await play.start("hi")
        events = await play.until(session, "run_failed")
    (failed,) = [one.event for one in events if isinstance(one.event, RunFailed)]
    assert failed.error.code == "budget_wall_time"


async def test_an_unknown_agent_fails_the_run_with_advice() -> None:
    play = stage(answer("unheard"))
    async with play.orchestrator():
        session = await play.start("hi", agent="nobody")
        events = await play.until(session, "run_failed")
    (failed,) = [one.event for one in events if isinstance(one.event, RunFailed)]
    assert failed.error.code == "unknown_agent"


async def test_a_call_of_a_tool_that_is_not_there_is_told_to_the_model() -> None:
    play = stage(use(("wether", {})), answer("sorry"))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "tool_call", "tool_result", "run_completed")
    assert "there is no tool named" in str(play.actor.asked[1].messages)


async def test_closing_ends_everything_and_is_the_last_event() -> None:
    started = asyncio.Event()
    play = stage(endless(started))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "text_delta")
        await play.ask(CloseSession("c1", session, "done"))
        events = await play.until(session, "session_closed")
    assert names(events)[-2:] == ["run_cancelled", "session_closed"]


async def test_two_orchestrators_share_the_sessions_and_one_takes_over_from_the_other() -> None:
    play = stage(answer("hello"))
    sessions = list[SessionId]()
    async with play.orchestrator("one"):
        async with play.orchestrator("two"):
            for number in range(12):
                sessions.append(await play.start(f"hi {number}"))
            logs = [await play.until(session, "run_completed") for session in sessions]
        owners = {one.event.owner for log in logs for one in log if isinstance(one.event, OwnerChanged)}
        assert owners == {"one", "two"}
        for session in sessions:
            await play.ask(play.say(session, "and now?"))
        for session in sessions:
            await play.until(session, "run_completed", "run_completed")


async def test_a_rebalance_after_which_the_partitions_come_back_tears_no_run_apart() -> None:
    started, rebalance = asyncio.Event(), asyncio.Event()
    play = stage(endless(started), answer("and one more"))
    play.queue = EagerQueue(play.queue, rebalance)
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "text_delta", "text_delta")
        rebalance.set()
        other = await play.start("hi too")  # answered after the rebalance
        await play.until(other, "run_completed")
        await play.ask(CancelRun("c1", session, None, "enough"))
        events = await play.until(session, "run_cancelled")
    assert not rebalance.is_set(), "there was no rebalance"
    assert "model_call_abandoned" not in names(events)
    assert len(only(events, OwnerChanged)) == 1
