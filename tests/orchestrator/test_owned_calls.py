"""What an owner must not get wrong about calls: whom it grants them, what it may call silent, what it leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from playhead import Agent, tool
from playhead.codec import Context
from playhead.commands import AnnounceTool, AnswerQuestion, CallTool, CancelRun, DeadLetter, Grant, RunTool, StopTool
from playhead.events import (
    Budget,
    Event,
    Json,
    OwnerChanged,
    RunFailed,
    Stamped,
    ToolCall,
    ToolPending,
    ToolResult,
    ToolResultLate,
    ToolRetry,
    ToolStarted,
)
from playhead.ids import SessionId, message_id, run_id
from playhead.queue import Topics
from playhead.session import DELIVERIES_MAX, STARTS_MAX, empty, fold
from playhead_orchestrator.acting import NOBODY
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.parts import OrchestratorParts, Waits

from tests.orchestrator.faults import EagerQueue, FaultyLog, FaultyQueue
from tests.orchestrator.stage import PATIENCE_SECONDS, Actor, Hand, Script, Stage, answer, only, use
from tests.session.invariants import audit

FAST = Waits(again=0.02, reacquire=0.05, handover=0.04, silence=0.1, lost=0.2, look=0.02, unassigned=0.05)
PATIENT = replace(FAST, silence=60.0, lost=60.0)
"""With this no call is ever lost."""


@tool
async def read() -> str:
    """Read."""
    return "read"


@tool(effect="write", key="account")
async def pay(account: str) -> str:
    """Pay."""
    return account


@tool(effect="once")
async def send() -> str:
    """Send."""
    return "sent"


def look_into() -> str:
    """Look."""
    return "it was sent"


@tool(effect="once", reconcile=look_into)
async def post() -> str:
    """Post."""
    return "posted"


@tool(after=[read])
async def then() -> str:
    """Come after."""
    return "then"


TOOLS = [read, pay, send, post, then]


def stage(*scripts: Script, waits: Waits = PATIENT) -> Stage:
    agent = Agent("helper", model="stage:one", tools=TOOLS)
    play = Stage(Actor(list(scripts)), [agent])
    play.waits = waits
    return play


def calling(*tools: str, waits: Waits = PATIENT) -> Stage:
    """A stage whose model calls these tools, and then is done."""
    uses = [(name, {"account": "x"} if name == "pay" else {}) for name in tools]
    return stage(use(*uses), answer("done"), waits=waits)


async def first_call(play: Stage, count: int = 1) -> tuple[SessionId, RunTool]:
    session = await play.start("go")
    return session, (await play.dispatched(count))[0]


def by_name(calls: list[RunTool]) -> list[RunTool]:
    """Put calls in an order: in which of a topic's partitions they are is chance."""
    return sorted(calls, key=lambda call: call.name)


def results(events: list[Stamped]) -> list[str]:
    return [one.event.status for one in events if isinstance(one.event, ToolResult)]


def checked(events: list[Stamped], session: SessionId) -> list[Stamped]:
    """Check a log by the rules of the session machine."""
    state = empty(session)
    for one in events:
        state = fold(state, one)
    audit([one.event for one in events], state, Budget())
    return events


async def letters(play: Stage, count: int = 1) -> list[DeadLetter]:
    """Wait until so many records have been set aside."""
    found = list[DeadLetter]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for messages in play.queue.replay(play.topics.deadletter.name, follow=True):
            for message in messages:
                letter = play.codec.command(message.value)
                assert isinstance(letter, DeadLetter)
                found.append(letter)
            if len(found) >= count:
                return found
    raise AssertionError("the queue ended")


async def looked(waits: Waits, times: float = 3) -> None:
    """Wait until an owner has looked at its calls for longer than it would wait for any of them."""
    await asyncio.sleep(times * max(waits.lost, waits.silence))


# --- claims ----------------------------------------------------------------------------------------------------------


async def test_whoever_comes_second_hears_whose_the_call_is_and_the_first_may_ask_again() -> None:
    play = calling("send")
    async with play.orchestrator():
        session, call = await first_call(play)
        for worker, claim in (("a", "first"), ("b", "second"), ("a", "first")):
            await play.report(Hand(call, worker).claims(claim))
        assert await play.told(3) == [Grant(call.call_id, "first")] * 3
        await play.report(Hand(call).ends("r"))
        events = await play.until(session, "run_completed")
    assert [one.stamp.cause for one in only(events, ToolStarted)] == ["first"]


async def test_every_worker_that_asks_for_a_call_that_may_be_repeated_is_granted_it() -> None:
    play = calling("read")
    async with play.orchestrator():
        _, call = await first_call(play)
        for claim in ("first", "second"):
            await play.report(Hand(call).claims(claim))
        assert await play.told(2) == [Grant(call.call_id, "first"), Grant(call.call_id, "second")]


async def test_a_lost_call_is_granted_to_nobody_and_whoever_looks_into_it_is_left_alone() -> None:
    play = calling("post", waits=FAST)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call, "a").claims("first"))
        await play.until(session, "tool_retry")
        again = (await play.dispatched(2))[1]
        assert again.reconcile and not call.reconcile
        for worker, claim in (("a", "first"), ("b", "second")):
            await play.report(Hand(call, worker).claims(claim))
        granted = await play.told(3)
        await play.report(Hand(again, "b").ends("looked"))
        events = await play.until(session, "run_completed")
    assert granted == [Grant(call.call_id, "first"), Grant(call.call_id, NOBODY), Grant(call.call_id, NOBODY)]
    assert results(events) == ["ok"] and len(only(events, ToolStarted)) == 1


async def test_a_call_that_waits_for_somebody_is_granted_to_nobody_and_not_called_over() -> None:
    play = calling("read")
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).asks("q", "q_1"))
        await play.until(session, "question_asked")
        await play.report(Hand(call, "late").claims("late"))
        assert await play.told(1) == [Grant(call.call_id, NOBODY)]


async def test_a_grant_that_could_not_be_published_is_given_when_it_is_asked_for_again() -> None:
    play = calling("send")
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(replace(Hand(call).claims("mine"), pool="nowhere"))
        await play.until(session, "tool_started")
        await play.report(Hand(call).claims("mine"))
        assert await play.told(1) == [Grant(call.call_id, "mine")]


# --- silence ---------------------------------------------------------------------------------------------------------


async def test_a_silent_read_is_handed_out_again_sooner_than_a_silent_once_call_is_lost() -> None:
    play = calling("read", "send", waits=replace(FAST, lost=0.5))
    async with play.orchestrator():
        session = await play.start("go")
        reading, sending = by_name(await play.dispatched(2))
        await play.report(Hand(reading).begins("s1"))
        await play.report(Hand(sending).claims("s2"))
        events = await play.until(session, "tool_retry")
        assert [one.name for one in by_name(await play.dispatched(3))] == ["read", "read", "send"]
        await play.report(Hand(reading).ends("r1"))
        events = await play.until(session, "run_completed")
    assert sorted(results(events)) == ["ok", "unknown"]
    began = min(one.stamp.at for one in only(events, ToolStarted))
    (retried,) = only(events, ToolRetry)
    assert isinstance(retried.event, ToolRetry)
    assert (retried.event.delivery, retried.event.error.code) == (2, "worker_lost")
    (lost,) = [one for one in events if isinstance(one.event, ToolResult) and one.event.status == "unknown"]
    assert retried.stamp.at - began < 450_000 <= lost.stamp.at - began


async def test_an_owner_that_could_hear_nothing_calls_nobody_silent() -> None:
    # A record that cannot be set aside holds up whatever is behind it, heartbeats too.
    play, shut = calling("send", waits=FAST), asyncio.Event()
    door = asyncio.Event()

    async def wait_at_the_door(topic: str) -> None:
        if topic == play.topics.deadletter.name:
            shut.set()
            await door.wait()

    play.queue = FaultyQueue(play.queue, wait_at_the_door)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).claims("mine"))
        await play.until(session, "tool_started")
        await play.queue.publish(play.topics.results.name, session, b"poison")
        await shut.wait()
        await looked(FAST)
        door.set()
        await play.report(Hand(call).ends("r"))
        events = await play.until(session, "run_completed")
    assert results(events) == ["ok"]


async def test_after_a_change_of_the_group_silence_is_counted_anew() -> None:
    rebalance, waits = asyncio.Event(), replace(FAST, lost=0.6)
    play = calling("send", waits=waits)
    play.queue = EagerQueue(play.queue, rebalance)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).claims("mine"))
        await play.until(session, "tool_started")
        for _ in range(3):  # three times almost too long
            await asyncio.sleep(waits.lost * 0.6)
            rebalance.set()
            await play.ask(CancelRun("c", session, run_id(session, message_id(session, "none")), "wakes the member"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while rebalance.is_set():  # noqa: ASYNC110 - the member tells nobody
                    await asyncio.sleep(0.005)
        await play.report(Hand(call).ends("r"))
        events = await play.until(session, "run_completed")
    assert results(events) == ["ok"]


async def test_nothing_is_to_be_heard_of_a_call_whose_result_comes_later() -> None:
    play = calling("read", waits=FAST)
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).begins("s"))
        await play.until(session, "tool_started")
        await play.report(Hand(call).defers("p", 60))
        await play.until(session, "tool_pending")
        asked = log.ends_asked
        await looked(FAST)
        assert log.ends_asked == asked, "somebody looked at the log because of the silence"


async def test_an_owner_that_comes_into_its_session_again_sees_to_its_silent_calls() -> None:
    # Its partition was away for less than it takes to let go, and whoever had it meanwhile is no more.
    play = calling("read", waits=FAST)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).begins("s"))
        await play.until(session, "tool_started")
        head = await play.log.end(session)
        taken = play.codec.seal(head, (OwnerChanged(2, "another"),), Context(session, 2, None, 1))
        await play.log.append(session, head, taken)
        assert (await play.dispatched(2))[1].call_id == call.call_id
        await play.report(Hand(call).ends("r"))
        events = await play.until(session, "run_completed")
    assert [one.event.owner for one in events if isinstance(one.event, OwnerChanged)] == ["first", "another", "first"]


# --- results from outside, and questions -----------------------------------------------------------------------------


class Slow(Stage):
    """A stage whose clock goes at half the speed of the loop's."""

    def parts(self, owner: str) -> OrchestratorParts:
        parts = super().parts(owner)
        began = parts.clock()
        return replace(parts, clock=lambda: began + (parts.clock() - began) // 2)


async def test_a_result_that_does_not_come_is_a_timeout_also_by_a_clock_that_runs_slow() -> None:
    agent = Agent("helper", model="stage:one", tools=TOOLS)
    play = Slow(Actor([use(("read", {})), answer("done")]), [agent])
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).defers("p", 0.1))
        events = await play.until(session, "tool_result")
        await play.until(session, "run_completed")
    assert results(events) == ["timeout"]


async def test_the_next_owner_waits_for_a_pending_result_and_takes_it() -> None:
    play = calling("read", waits=FAST)
    async with play.orchestrator("first"):
        session, call = await first_call(play)
        await play.report(Hand(call).begins("s"))
        await play.report(Hand(call).defers("p", 60))
        await play.until(session, "tool_pending")
    async with play.orchestrator("second"):
        await play.until(session, "owner_changed", "owner_changed")
        await looked(FAST)
        await play.report(Hand(call, "outside").ends("delivered", output='"at last"'))
        events = await play.until(session, "run_completed")
        assert len(await play.dispatched(1)) == 1, "it was handed out although its result was to come from outside"
    assert [one.event.output for one in events if isinstance(one.event, ToolResult)] == ['"at last"']
    assert len(only(events, ToolPending)) == 1


async def test_an_answered_call_is_handed_out_with_its_answer_also_by_the_next_owner() -> None:
    play = calling("send")
    async with play.orchestrator("first"):
        session, call = await first_call(play)
        await play.report(Hand(call).claims("mine"))
        await play.report(Hand(call).asks("q", "q_1"))
        await play.until(session, "question_asked")
    async with play.orchestrator("second"):
        await play.ask(AnswerQuestion("a", session, "q_1", Json('"yes"'), "somebody"))
        again = (await play.dispatched(2))[1]
        assert (call.answer, again.answer) == (None, '{"content":"yes","state":{"n":1}}')
        await play.report(Hand(again, "b").claims("yours"))
        assert (await play.told(2))[1] == Grant(call.call_id, "yours")
        await play.report(Hand(again, "b").ends("r"))
        events = await play.until(session, "run_completed")
    checked(events, session)


# --- calls that come to nothing --------------------------------------------------------------------------------------


async def test_a_call_that_nobody_finishes_is_left_to_people_and_then_ends() -> None:
    play = calling("pay", waits=FAST)
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        for number in range(DELIVERIES_MAX):
            await play.dispatched(number + 1)
            await play.report(Hand(call).begins(f"s{number}"))
        events = await play.until(session, "tool_result", "run_completed")
        (letter,) = await letters(play)
    assert results(events) == ["error"]
    command = play.codec.command(letter.value)
    assert isinstance(command, RunTool)
    assert replace(command, dispatched_at=call.dispatched_at) == call, "with all that it takes to run it again"
    assert (letter.topic, letter.key) == (play.topics.tools("default").name, call.key)
    assert str(DELIVERIES_MAX) in letter.error
    checked(events, session)


async def test_a_lost_once_call_is_left_to_people() -> None:
    play = calling("send", waits=FAST)
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).claims("mine"))
        events = await play.until(session, "tool_result", "run_completed")
        (letter,) = await letters(play)
        await play.report(Hand(call).ends("late", output='"it was sent"'))
        events = await play.until(session, "tool_result_late")
    assert results(events) == ["unknown"]
    command = play.codec.command(letter.value)
    assert isinstance(command, RunTool) and command.call_id == call.call_id and command.input == call.input
    (late,) = [one.event for one in events if isinstance(one.event, ToolResultLate)]
    assert late.output == '"it was sent"'


async def test_a_worker_that_says_unknown_leaves_the_call_to_people() -> None:
    play = calling("post")
    async with play.orchestrator():
        session, call = await first_call(play)
        await play.report(Hand(call).claims("mine"))
        await play.report(Hand(call).ends("r", "unknown", '{"error":"no answer"}'))
        await play.until(session, "run_completed")
        (letter,) = await letters(play)
    assert letter.key == call.call_id


async def test_a_call_that_kills_its_workers_is_given_to_no_more_of_them() -> None:
    play = calling("read")
    async with play.orchestrator():
        session, call = await first_call(play)
        for number in range(STARTS_MAX + 1):
            await play.report(Hand(call, f"w{number}").claims(f"c{number}"))
            await play.until(session, *["tool_started"] * (number + 1))
        events = await play.until(session, "tool_result", "run_completed")
        told = await play.told(STARTS_MAX + 2)
        assert len(await letters(play)) == 1
    assert results(events) == ["error"]
    granted = [one.claim for one in told if isinstance(one, Grant) and one.claim]
    assert granted == [f"c{number}" for number in range(STARTS_MAX)]
    assert any(isinstance(one, StopTool) for one in told), "those that are still at it are told to stop"


async def test_a_call_is_left_to_people_once() -> None:
    # Its outcome is unknown, and nobody finds it out: two reasons to write a letter.
    play = calling("post", waits=FAST)
    async with play.orchestrator():
        session = await play.start("go")
        (call,) = await play.dispatched(1)
        hand = Hand(call)
        await play.report(hand.claims("mine"))
        await play.until(session, "tool_retry")
        await lose(play, session, call)
        events = await play.until(session, "tool_result", "run_completed")
        await play.until(await play.start("again"), "run_completed")
        found = await letters(play)
    assert results(events) == ["unknown"]
    assert len(found) == 1


async def lose(play: Stage, session: SessionId, call: RunTool) -> None:
    """Write into the log that the call was handed out as often as it may be, as earlier owners would have."""
    from playhead.events import Failure  # noqa: PLC0415

    events = await play.until(session, "tool_retry")
    made = next(one.event for one in events if isinstance(one.event, ToolCall))
    retry = ToolRetry(
        made.run_id, made.step, made.attempt, call.call_id, 9, 0, Failure("worker_lost", "gone"), DELIVERIES_MAX + 1
    )
    head = await play.log.end(session)
    stamp = events[-1].stamp
    records = play.codec.seal(head, (retry,), Context(session, stamp.epoch, None, stamp.at))
    await play.log.append(session, head, records)
    await play.ask(play.say(session, "are you there?"))  # at which its owner is superseded, and reads the log again


# --- one owner after another -----------------------------------------------------------------------------------------


async def test_the_next_owner_hands_out_what_waits_and_leaves_alone_what_runs() -> None:
    play = calling("read", "pay")
    async with play.orchestrator("first"):
        session = await play.start("go")
        waiting, running = by_name(await play.dispatched(2))
        await play.report(Hand(running).begins("s"))
        await play.until(session, "tool_started")
    async with play.orchestrator("second"):
        calls = await play.dispatched(3)
        await play.report(Hand(waiting).ends("r1"))
        await play.report(Hand(running).ends("r2"))
        await play.until(session, "run_completed")
        calls = await play.dispatched(3)
    assert [one.name for one in by_name(calls)] == ["pay", "pay", "read"]


async def test_the_next_owner_hands_out_again_what_falls_silent_under_it() -> None:
    play = calling("read", waits=FAST)
    play.waits = PATIENT
    async with play.orchestrator("first"):
        session, call = await first_call(play)
        await play.report(Hand(call).begins("s"))
        await play.until(session, "tool_started")
    play.waits = FAST
    async with play.orchestrator("second"):
        again = (await play.dispatched(2))[1]
        await play.report(Hand(again).ends("r"))
        events = await play.until(session, "run_completed")
    assert len(only(events, ToolRetry)) == 1


async def test_the_next_owner_stops_what_the_last_one_began_if_it_is_cancelled() -> None:
    play = calling("read")
    async with play.orchestrator("first"):
        session, call = await first_call(play)
        await play.report(Hand(call).begins("s"))
        await play.until(session, "tool_started")
    await play.ask(CancelRun("c", session, None, "enough"))  # while nobody has the session
    async with play.orchestrator("second"):
        await play.until(session, "run_cancelled")
        assert await play.told(1) == [StopTool(call.call_id, "cancelled")]


async def test_calls_of_one_key_are_in_one_partition_in_the_order_in_which_they_were_asked_for() -> None:
    play = stage(use(*[("pay", {"account": name}) for name in "xyxyxy"]), answer("done"))
    play.topics = Topics(pool_partitions=8)
    async with play.orchestrator():
        await play.start("go")
        calls = await play.dispatched(6)
    keys = {one.input: one.key for one in calls}
    assert len(set(keys.values())) == 2 and None not in keys.values()
    places = dict[str, set[int]]()
    async for messages in play.queue.replay(play.topics.tools("default").name):
        for message in messages:
            command = play.codec.command(message.value)
            assert isinstance(command, RunTool) and message.key == command.key
            places.setdefault(message.key, set()).add(message.partition)
    assert [len(partitions) for partitions in places.values()] == [1, 1]


# --- by hand ---------------------------------------------------------------------------------------------------------


async def by_hand(play: Stage, name: str, given: str = "{}") -> SessionId:
    session = await play.log.create()
    message = message_id(session, "by hand")
    await play.ask(CallTool("r", session, message, run_id(session, message), name, Json(given), Json('{"tenant":"t"}')))
    return session


def texts(events: list[Stamped], kind: type[Event]) -> list[Event]:
    return [one.event for one in only(events, kind)]


async def test_a_call_by_hand_survives_its_owner() -> None:
    play = calling("read")
    async with play.orchestrator("first"):
        session = await by_hand(play, "send")
        (call,) = await play.dispatched(1)
        await play.report(Hand(call).claims("mine"))
        await play.told(1)
    async with play.orchestrator("second"):
        await play.report(Hand(call).ends("r", "error", '{"error":"no paper"}'))
        events = await play.until(session, "run_failed")
    (failed,) = texts(events, RunFailed)
    assert isinstance(failed, RunFailed)
    assert (failed.error.code, failed.error.message) == ("tool_error", '{"error":"no paper"}')


# --- the catalogue ---------------------------------------------------------------------------------------------------


async def test_a_withdrawn_tool_is_forgotten_and_another_pools_stays() -> None:
    play = calling("read")
    found, agent = Catalogue([]), Agent("helper", model="stage:one", tools=["search", "find"])
    await play.queue.prepare(play.topics.catalog)

    async def announce(pool: str, name: str, *, withdrawn: bool = False) -> None:
        told = AnnounceTool(pool, name, "", Json('{"type":"object"}'), "", "read", 1000, 0, 1, withdrawn=withdrawn)
        await play.queue.publish(play.topics.catalog.name, f"{pool}/{name}", play.codec.encode(told))

    async def comes_to(expected: dict[str, str]) -> None:
        while {name: offered.pool for name, offered in found.offers(agent).items()} != expected:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)

    for pool, name in (("a", "search"), ("b", "search"), ("a", "find")):
        await announce(pool, name)
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(found.follow(play.queue, play.topics.catalog.name, play.codec))
        await comes_to({"search": "a", "find": "a"})
        for pool, name in (("c", "find"), ("a", "search")):
            await announce(pool, name, withdrawn=True)
        await comes_to({"search": "b", "find": "a"})
        await announce("a", "find", withdrawn=True)
        await comes_to({"search": "b"})
        assert found.names == ["search"] and found.named("find") is None
        following.cancel()
