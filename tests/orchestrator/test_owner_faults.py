"""What an orchestrator does when what it stands on fails, or strangers misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import orjson
from playhead import Agent, tool
from playhead.accept import genesis, hash_of
from playhead.codec import RECORD_BYTES_MAX, Context
from playhead.commands import (
    AnnounceTool,
    CancelRun,
    DeadLetter,
    Heartbeat,
    ReportProgress,
    ReportResult,
    ReportStarted,
    StartSession,
)
from playhead.errors import Unavailable
from playhead.events import (
    Event,
    Json,
    ModelCallAbandoned,
    OwnerChanged,
    RunFailed,
    SessionStarted,
    Stamped,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from playhead.ids import SessionId
from playhead.queue import Topics
from playhead.session import WAITING_MAX
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.model import Finished, ModelRequest, Said, TextSaid
from playhead_orchestrator.parts import Waits
from playhead_orchestrator.service import Orchestrator
from playhead_orchestrator.speaking import CALLS_MAX

from tests.orchestrator.faults import FaultyLog, FaultyQueue
from tests.orchestrator.stage import PATIENCE_SECONDS, Actor, Script, Stage, answer, names, only, use

FAST = Waits(again=0.02, reacquire=0.05, handover=0.04, silence=0.1, look=0.02, unassigned=0.05)


@tool
async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


def stage(*scripts: Script) -> Stage:
    play = Stage(Actor(list(scripts)), [Agent("helper", model="stage:one", tools=[weather])])
    play.waits = FAST
    return play


def speaking(*pieces: str, until: asyncio.Event) -> Script:
    """A script that says these pieces and then nothing more before `until`."""

    async def play(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        for piece in pieces:
            yield (TextSaid(piece),)
        await until.wait()
        yield (Finished(({"type": "text", "text": "".join(pieces)},), Usage(1, 1), "end_turn"),)

    return play


def failures(events: Sequence[Stamped]) -> list[str]:
    return [one.event.error.code for one in events if isinstance(one.event, RunFailed)]


async def dead_letters(play: Stage) -> list[DeadLetter]:
    letters = list[DeadLetter]()
    async with aclosing(play.queue.replay(play.topics.deadletter.name)) as batches:
        async for messages in batches:
            for message in messages:
                letter = play.codec.command(message.value)
                assert isinstance(letter, DeadLetter)
                letters.append(letter)
    return letters


async def settled(service: Orchestrator) -> None:
    """Wait until every message that was taken is done with."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while service.under_way:  # noqa: ASYNC110 - nobody is told when all is done with
            await asyncio.sleep(0.01)
    assert service.under_way == 0


# --- the log fails ---------------------------------------------------------------------------------------------------


async def test_a_request_that_the_log_could_not_take_is_answered_when_it_can() -> None:
    play = stage(answer("hello"))
    play.log = log = FaultyLog(play.log)
    log.faults.extend(["before", "before", "after"])
    async with play.orchestrator() as service:
        session = await play.start("hi")
        await play.until(session, "run_completed")
        await settled(service)
    assert await dead_letters(play) == []


async def test_an_attempt_whose_append_failed_is_abandoned_and_never_told_twice() -> None:
    play = stage(speaking("one ", "two ", until=asyncio.Event()), answer("all of it"))
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator():
        log.faults.extend([None, "after"])
        session = await play.start("hi")
        events = await play.until(session, "run_completed")
    assert len(only(events, ModelCallAbandoned)) == 1
    told = [(one.event.attempt, one.event.text) for one in events if isinstance(one.event, TextDelta)]
    assert told == [(1, "one "), (1, "two "), (2, "all of it")]


async def test_an_instance_that_lost_its_session_on_the_way_begins_a_new_attempt_also_under_its_old_name() -> None:
    play = stage(speaking("one ", until=asyncio.Event()), answer("all of it"))
    async with play.orchestrator("the same"):
        session = await play.start("hi")
        await play.until(session, "text_delta")
    async with play.orchestrator("the same"):
        events = await play.until(session, "run_completed")
    assert [one.event.attempt for one in events if isinstance(one.event, TextDelta)] == [1, 2]


async def test_a_superseded_owner_goes_on_by_itself_if_the_session_stays_its_own() -> None:
    said = asyncio.Event()
    play = stage(speaking("one", until=said), answer("all of it"))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "text_delta")
        head = await play.log.end(session)
        zombie = play.codec.seal(head, (OwnerChanged(2, "zombie"),), Context(session, 2, None, 1))
        await play.log.append(session, head, zombie)
        said.set()
        events = await play.until(session, "run_completed")
    assert [one.event.owner for one in events if isinstance(one.event, OwnerChanged)] == ["first", "zombie", "first"]


async def test_an_owner_that_is_let_go_while_it_fails_does_not_stay() -> None:
    closing = asyncio.Event()

    async def slow_to_close(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        yield (TextSaid("one"),)
        try:
            await asyncio.Event().wait()
        finally:
            closing.set()
            for _ in range(10):  # the owner has failed and waits for this when it is stopped
                await asyncio.sleep(0)

    play = stage(slow_to_close)
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, "text_delta")
        log.faults.append("before")
        await play.ask(play.say(session, "again"))
        await closing.wait()


async def test_a_session_whose_input_is_being_answered_is_not_idle() -> None:
    play = stage(answer("hello"))
    play.log = log = FaultyLog(play.log)
    play.waits = replace(FAST, idle=0.0)
    async with play.orchestrator() as service:
        session = await play.start("hi")
        await play.until(session, "run_completed")
        await settled(service)
        log.door.clear()
        await play.ask(play.say(session, "again"))
        await log.waiting.wait()
        await asyncio.sleep(5 * FAST.look)  # looks at the sessions, none of which may put this one away
        log.door.set()
        await play.until(session, "run_completed", "run_completed")
        await settled(service)


async def test_stopping_waits_for_an_answer_that_is_on_its_way_into_the_log() -> None:
    play = stage(answer("hello"))
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator(drain_seconds=4.0):
        session = await play.start("hi")
        await play.until(session, "run_completed")
        log.door.clear()
        await play.ask(play.say(session, "again"))
        await log.waiting.wait()
        asyncio.get_running_loop().call_later(0.1, log.door.set)
    await play.until(session, "run_completed", "run_completed")


async def test_a_request_is_handled_once_whose_append_was_under_way_when_its_partition_was_lost() -> None:
    play = stage(answer("hello"))
    play.topics = Topics(session_partitions=1)
    play.log = log = FaultyLog(play.log)
    async with play.orchestrator("one"):
        log.door.clear()
        log.acts_before_the_door = True
        session = await play.start("hi")
        await log.waiting.wait()
    log.door.set()
    async with play.orchestrator("two") as service:
        events = await play.until(session, "run_completed")
        await settled(service)
    assert names(events).count("user_message") == 1


# --- the queue fails -------------------------------------------------------------------------------------------------


async def test_a_queue_that_cannot_be_reached_is_tried_again() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    failing = dict.fromkeys((play.topics.sessions.name, play.topics.tools("default").name), 3)

    async def fail(topic: str) -> None:
        if failing.get(topic, 0):
            failing[topic] -= 1
            raise Unavailable("told to fail")

    play.queue = FaultyQueue(play.queue, fail)
    async with play.orchestrator():
        session = await play.start("hi")
        (call,) = await play.dispatched(1)
        await play.result(call)
        events = await play.until(session, "run_completed")
    assert not any(failing.values())
    assert len(only(events, OwnerChanged)) == 1


async def test_a_call_to_a_pool_that_does_not_exist_ends_with_an_error_and_nothing_else_ends() -> None:
    play = stage(use(("ghost", {})), answer("sorry"))
    play.agents = [Agent("helper", model="stage:one", tools=["ghost"])]
    await play.queue.prepare(play.topics.catalog)
    announced = AnnounceTool("nowhere", "ghost", "", Json('{"type":"object"}'), "", "read", 1000, 0, 1)
    await play.queue.publish(play.topics.catalog.name, "nowhere/ghost", play.codec.encode(announced))
    async with play.orchestrator():
        session = await play.start("hi")
        events = await play.until(session, "tool_result", "run_completed")
        await play.until(await play.start("and now?"), "run_completed")
    (result,) = [one.event for one in events if isinstance(one.event, ToolResult)]
    assert result.status == "error"
    assert "nowhere" in result.output


async def test_stopping_a_call_of_a_pool_without_a_control_topic_ends_nothing_else() -> None:
    play = stage(use(("ghost", {})), answer("sorry"))
    play.agents = [Agent("helper", model="stage:one", tools=["ghost"])]
    await play.queue.prepare(play.topics.catalog, play.topics.tools("half"))
    announced = AnnounceTool("half", "ghost", "", Json('{"type":"object"}'), "", "read", 1000, 0, 1)
    await play.queue.publish(play.topics.catalog.name, "half/ghost", play.codec.encode(announced))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.dispatched(1, "half")
        await play.ask(CancelRun("c", session, None, "enough"))
        await play.until(session, "run_cancelled")
        await play.ask(play.say(session, "still there?"))
        await play.until(session, "run_completed")


# --- the model breaks its word ---------------------------------------------------------------------------------------


async def test_a_model_adapter_that_breaks_ends_the_run_and_not_the_session() -> None:
    async def broken(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        yield (TextSaid("half"),)
        raise KeyError("choices")

    play = stage(broken, answer("well"))
    async with play.orchestrator():
        session = await play.start("hi")
        assert failures(await play.until(session, "run_failed")) == ["internal"]
        await play.ask(play.say(session, "again"))
        await play.until(session, "run_completed")


async def test_a_burst_of_more_pieces_than_an_append_holds_is_told_whole() -> None:
    async def burst(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        yield tuple(TextSaid(str(number)) for number in range(2000))
        yield (Finished(({"type": "text", "text": "all"},), Usage(1, 1), "end_turn"),)

    play = stage(burst)
    async with play.orchestrator():
        session = await play.start("hi")
        events = await play.until(session, "run_completed")
    assert [one.event.text for one in events if isinstance(one.event, TextDelta)] == [str(n) for n in range(2000)]


async def test_an_answer_that_no_record_can_hold_fails_its_run_whatever_its_script() -> None:
    text = "語" * 200_000  # three bytes each, and twice: in the message and in the final response

    async def huge(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        yield (Finished(({"type": "text", "text": text},), Usage(1, 1), "end_turn"),)

    play = stage(huge, answer("short"))
    async with play.orchestrator():
        session = await play.start("hi")
        assert failures(await play.until(session, "run_failed")) == ["answer_too_large"]
        await play.ask(play.say(session, "shorter"))
        await play.until(session, "run_completed")


async def test_what_was_said_before_a_cancel_is_no_reason_not_to_cancel() -> None:
    pieces = ["x" * 400_000 for _ in range(4)]
    play = stage(speaking(*pieces, until=asyncio.Event()), answer("short"))
    async with play.orchestrator():
        session = await play.start("hi")
        await play.until(session, *["text_delta"] * 4)
        await play.ask(CancelRun("c", session, None, "enough"))
        await play.until(session, "run_cancelled")


async def test_a_message_may_ask_for_more_calls_than_are_run() -> None:
    play = stage(use(*[("weather", {"city": str(number)}) for number in range(CALLS_MAX + 20)]), answer("sorry"))
    async with play.orchestrator():
        session = await play.start("hi")
        calls = await play.dispatched(CALLS_MAX)
        await play.ask(CancelRun("c", session, None, "enough"))
        events = await play.until(session, "run_cancelled")
    assert len(calls) == CALLS_MAX
    assert len(only(events, ToolCall)) == len(only(events, ToolResult)) == CALLS_MAX + 20


# --- strangers -------------------------------------------------------------------------------------------------------


async def test_a_record_as_large_as_a_message_can_be_is_set_aside_and_ends_nothing() -> None:
    play = stage(answer("fine"))
    async with play.orchestrator() as service:
        session = await play.log.create()
        await play.queue.publish(play.topics.requests.name, session, b"x" * RECORD_BYTES_MAX)
        await play.until(await play.start("hi"), "run_completed")
        await settled(service)
    (letter,) = await dead_letters(play)
    assert str(RECORD_BYTES_MAX) in letter.error


async def test_a_message_that_no_record_can_hold_is_set_aside_alone() -> None:
    play = stage(answer("fine"))
    async with play.orchestrator() as service:
        session = await play.start("hi")
        await play.until(session, "run_completed")
        say = play.say(session, "huge")
        bare = len(play.codec.encode(replace(say, content=Json('""'))))
        content = Json('"' + "x" * (RECORD_BYTES_MAX - bare - 4) + '"')
        await play.ask(replace(say, content=content))
        await play.ask(play.say(session, "small"))
        events = await play.until(session, "run_completed", "run_completed")
        await settled(service)
    assert names(events).count("user_message") == 2
    assert len(await dead_letters(play)) == 1


async def test_a_result_that_no_record_can_hold_is_an_error_that_says_so() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("hi")
        (call,) = await play.dispatched(1)
        report = ReportResult("r", session, call.call_id, call.lease, "ok", Json('""'), 5)
        room = RECORD_BYTES_MAX - len(play.codec.encode(report)) - 4
        await play.result(replace(call), '"' + "x" * (room - len(f"result:{call.call_id}")) + '"')
        events = await play.until(session, "run_completed")
    (result,) = [one.event for one in events if isinstance(one.event, ToolResult)]
    assert result.status == "error"
    assert "too large" in result.output


async def test_more_messages_than_may_wait_fail_at_once_and_cancelling_ends_them_all() -> None:
    play = stage(speaking("one", until=asyncio.Event()))
    async with play.orchestrator() as service:
        session = await play.start("hi")
        await play.until(session, "text_delta")
        for number in range(WAITING_MAX + 3):
            await play.ask(play.say(session, f"message {number}"))
        events = await play.until(session, *["run_failed"] * 3)
        assert set(failures(events)) == {"too_many_waiting"}
        await play.ask(CancelRun("c", session, None, "all of it"))
        events = await play.until(session, *["run_cancelled"] * (WAITING_MAX + 1))
        await settled(service)


async def test_inputs_of_sessions_that_are_not_there_are_set_aside_and_all_accounted_for() -> None:
    play = stage(answer("fine"))
    async with play.orchestrator() as service:
        for number in range(5):
            nowhere = SessionId(f"ses_{number:026}")
            await play.ask(StartSession(f"s{number}", nowhere, None, Json("{}")))
            await play.ask(play.say(nowhere, "hello?"))
        await play.until(await play.start("hi"), "run_completed")
        await settled(service)
    assert len(await dead_letters(play)) == 10


async def test_a_report_under_another_sessions_key_takes_no_session_from_its_owner() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("hi")
        (call,) = await play.dispatched(1)
        report = ReportResult("r", session, call.call_id, call.lease, "ok", Json('"astray"'), 5)
        await play.queue.publish(play.topics.results.name, "ses_of_somebody_else", play.codec.encode(report))
        letter = await play.dead_letter()
        assert isinstance(letter, DeadLetter)
        assert "its key" in letter.error
        await play.result(call, '"right"')
        events = await play.until(session, "run_completed")
    assert [one.event.output for one in events if isinstance(one.event, ToolResult)] == ['"right"']


async def test_an_unknown_event_within_a_log_is_skipped_by_its_new_owner() -> None:
    play = stage(answer("hello"))
    session = await play.log.create()
    begun: tuple[Event, ...] = (SessionStarted("helper", "1", "stage:one", Json("{}")), OwnerChanged(1, "newer"))
    records = play.codec.seal(genesis(session), begun, Context(session, 1, None, 1))
    head = await play.log.append(session, genesis(session), records)
    (known,) = play.codec.seal(head, (OwnerChanged(2, "newer"),), Context(session, 2, None, 1))
    value = known.value[:2] + b"\0" * 8 + known.value[10:]
    unknown = replace(known, value=value, hash=hash_of(value))
    await play.log.append(session, head, [unknown])
    async with play.orchestrator():
        await play.ask(play.say(session, "hi"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await play.log.end(session)).seq < 10:  # noqa: ASYNC110 - `until` reads no unknown events
                await asyncio.sleep(0.01)
        letters = await dead_letters(play)
    assert letters == []


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_silent_call_is_dispatched_again_although_its_session_was_appending_when_it_was_looked_at() -> None:
    play = stage(use(("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})), answer("done"))
    play.log = log = FaultyLog(play.log)
    log.acts_before_the_door = True
    async with play.orchestrator():
        session = await play.start("hi")
        silent, talking = await play.dispatched(2)
        started = ReportStarted("s", session, silent.call_id, silent.lease, "w")
        await play.queue.publish(play.topics.results.name, session, play.codec.encode(started))
        await play.until(session, "tool_started")
        log.door.clear()
        progress = ReportProgress("p", session, talking.call_id, talking.lease, 0.5)
        await play.queue.publish(play.topics.results.name, session, play.codec.encode(progress))
        await log.waiting.wait()
        await asyncio.sleep(FAST.silence + 3 * FAST.look)  # it falls silent while the append is on its way
        log.door.set()
        calls = await play.dispatched(3)
        assert calls[2].call_id == silent.call_id
        for call in (silent, talking):
            await play.result(call)
        await play.until(session, "run_completed")


async def test_a_call_may_fall_silent_while_its_owner_that_failed_is_coming_to_its_end() -> None:
    play = stage(use(("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})), answer("done"))
    play.log = log = FaultyLog(play.log)
    dispatched, ending = 0, asyncio.Event()

    async def second_is_slow_to_stop(topic: str) -> None:
        nonlocal dispatched
        if topic != play.topics.tools("default").name:
            return
        dispatched += 1
        if dispatched == 2:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await asyncio.sleep(FAST.silence + 3 * FAST.look)

    play.queue = FaultyQueue(play.queue, second_is_slow_to_stop)
    async with play.orchestrator():
        session = await play.start("hi")
        (call,) = await play.dispatched(1)
        await play.queue.publish(
            play.topics.results.name,
            session,
            play.codec.encode(ReportStarted("s", session, call.call_id, call.lease, "w")),
        )
        await play.until(session, "tool_started")
        log.faults.append("before")
        await play.ask(play.say(session, "and then"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ending.wait()
        for one in (call, (await play.dispatched(2))[1]):
            await play.result(one)
        await play.until(session, "run_completed")


async def test_a_heartbeat_keeps_a_call_from_being_dispatched_again() -> None:
    play = stage(use(("weather", {"city": "Rome"})), answer("done"))
    async with play.orchestrator():
        session = await play.start("hi")
        (call,) = await play.dispatched(1)
        beat = play.codec.encode(Heartbeat(session, call.call_id, call.lease, "w"))
        for _ in range(10):
            await play.queue.publish(play.topics.results.name, session, beat)
            await asyncio.sleep(FAST.silence / 4)
        await play.result(call)
        await play.until(session, "run_completed")
        assert len(await play.dispatched(1)) == 1


# --- membership and catalogue ----------------------------------------------------------------------------------------


async def test_a_member_for_whom_there_is_no_partition_is_ready() -> None:
    play = stage(answer("hello"))
    play.topics = Topics(session_partitions=1)
    async with play.orchestrator("one"), play.orchestrator("two"):
        await play.until(await play.start("hi"), "run_completed")


async def test_a_pool_cannot_take_another_pools_calls_by_announcing_their_tool() -> None:
    play = stage(answer("unheard"))
    found = Catalogue([Agent("helper", model="stage:one", tools=[weather, "search"])])
    await play.queue.prepare(play.topics.catalog)

    async def announce(pool: str, name: str, schema: str = '{"type":"object"}') -> None:
        told = AnnounceTool(pool, name, f"of {pool}", Json(schema), "", "read", 1000, 0, 1)
        await play.queue.publish(play.topics.catalog.name, f"{pool}/{name}", play.codec.encode(told))

    for pool in ("default", "beta", "alpha", "zeta"):
        await announce(pool, "weather")
    for pool in ("beta", "zeta"):
        await announce(pool, "search")
    await announce("alpha", "search", "[]")  # no schema of a tool: as if it had not been said
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(found.follow(play.queue, play.topics.catalog.name, play.codec))
        await found.caught_up.wait()
        following.cancel()
    offers = found.offers(Agent("helper", model="stage:one", tools=[weather, "search"]))
    assert {name: offered.pool for name, offered in offers.items()} == {"weather": "default", "search": "beta"}


async def test_a_tool_that_is_announced_anew_is_offered_as_it_is_now() -> None:
    play = stage(answer("one"), answer("two"))
    play.agents = [Agent("helper", model="stage:one", tools=["search"])]
    async with play.orchestrator():
        await play.until(await play.start("hi"), "run_completed")
        schema = Json(orjson.dumps({"type": "object", "properties": {"q": {}}}).decode())
        told = AnnounceTool("default", "search", "", schema, "", "read", 1000, 0, 1)
        await play.queue.publish(play.topics.catalog.name, "default/search", play.codec.encode(told))
        await play.until(await play.start("again"), "run_completed")
    assert [len(request.tools) for request in play.actor.asked] == [0, 1]


async def test_a_second_start_of_a_session_changes_nothing() -> None:
    play = stage(answer("hello"))
    async with play.orchestrator("one"):
        session = await play.log.create()
        start = StartSession("s", session, None, Json("{}"), play.say(session, "hi"))
        await play.ask(start)
        await play.until(session, "run_completed")
    async with play.orchestrator("two") as service:
        await play.ask(start)
        await play.ask(play.say(session, "again"))
        events = await play.until(session, "run_completed", "run_completed")
        await settled(service)
    assert names(events).count("session_started") == 1
    assert names(events).count("user_message") == 2
