"""AG-UI as a pure dialect: what a stream says, whatever its portions, and wherever a client comes back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
import pytest
from ag_ui.core import AgentCapabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.commands import AnnounceAgent, AnnounceTool, AnswerQuestion, CancelRun, Say, StartSession
from playhead.events import (
    ApprovalGiven,
    ApprovalRequested,
    Event,
    Failure,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallStarted,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolProgress,
    ToolResult,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, SessionId, call_id, message_id, run_id
from playhead_gateway.projections.agui import AgUi, Window

from tests.gateway.agui_model import SESSION, Client, Reading, Said, events_in, frames_of, logs
from tests.gateway.support import CLOSED, OWNED, STARTED, World, a_turn, client_of, serving, until_ready

THREAD = "a thread"
MESSAGE = message_id(SESSION, "first")
RUN = run_id(SESSION, MESSAGE)
AT = (RUN, 1, 1)
CALL, OTHER = call_id(SESSION, RUN, 1, 0), call_id(SESSION, RUN, 1, 1)
BEGUN: list[Event] = [STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"hello"')), RunStarted(RUN, MESSAGE)]
SPEAKING: list[Event] = [*BEGUN, ModelCallStarted(*AT, "scripted:plain", "scripted")]

FEW = settings(max_examples=60, deadline=None)


def follow(run: str = RUN, **more: Any) -> Window:
    return Window(until=run, first=frozenset({run}), **more)


def whole(events: list[Event], window: Window | None = None, names: dict[str, str] | None = None) -> list[Said]:
    frames = frames_of(events)
    dialect = AgUi(THREAD, window or Window(last_seq=len(frames)), names)
    return events_in(dialect.opening() + dialect.say(frames))


def types_of(told: list[Said]) -> list[str]:
    return [event["type"] for event in told]


def asked(question: str, call: CallId = CALL) -> QuestionAsked:
    return QuestionAsked(*AT, question, Json('"Sure?"'), Json('{"type":"string"}'), call_id=call)


def called(call: CallId) -> ToolCall:
    return ToolCall(*AT, call, "weather", Json('{"city":"Oslo"}'), "read", "default")


def completed(*blocks: Said) -> ModelCallCompleted:
    message = Json(orjson.dumps({"role": "assistant", "content": list(blocks)}).decode())
    return ModelCallCompleted(*AT, message, Usage(3, 5, 2, 1), "end_turn", 12)


# --- properties --------------------------------------------------------------------------------------------------


@FEW
@given(logs(), st.data())
def test_the_same_frames_give_the_same_bytes_in_whatever_portions_they_come(
    log: list[Event], data: st.DataObject
) -> None:
    frames = frames_of(log)
    runs = [event.run_id for event in log if isinstance(event, RunStarted)]
    after = data.draw(st.integers(0, len(frames)))
    windows = [Window(after=after, last_seq=len(frames)), *map(follow, runs)]
    window = data.draw(st.sampled_from(windows))
    at_once, in_portions = AgUi(THREAD, window), AgUi(THREAD, window)
    said, left = b"", frames
    while left:
        count = data.draw(st.integers(1, len(left)))
        said += in_portions.say(left[:count])
        left = left[count:]
    assert said == at_once.say(frames)
    assert in_portions.done == at_once.done


@FEW
@given(logs())
def test_whatever_happens_the_protocols_own_models_take_each_frame_and_its_verifier_their_order(
    log: list[Event],
) -> None:
    client = Client().apply(whole(log))
    ends = sum(isinstance(event, RunCompleted | RunFailed | RunCancelled) for event in log)
    assert len([one for one in client.outcomes if one != "interrupt"]) <= ends


@FEW
@given(logs(), st.data())
def test_a_resume_says_a_prelude_and_then_exactly_the_rest(log: list[Event], data: st.DataObject) -> None:
    frames = frames_of(log)
    dialect = AgUi(THREAD, Window(last_seq=len(frames)))
    parts = [dialect.say([frame]) for frame in frames]
    after = data.draw(st.integers(1, len(frames)))
    resumed = AgUi(THREAD, Window(after=after, last_seq=len(frames)))
    prelude = events_in(resumed.say(frames[:after]))
    assert types_of(prelude[:2]) in ([], ["RUN_STARTED", "MESSAGES_SNAPSHOT"])
    assert all(kind.endswith("_START") for kind in types_of(prelude[2:]))
    assert [resumed.say([frame]) for frame in frames[after:]] == parts[after:]


@FEW
@given(logs(), st.data())
def test_a_client_that_is_cut_anywhere_and_goes_on_at_its_cursor_shows_what_one_that_was_not_cut_shows(
    log: list[Event], data: st.DataObject
) -> None:
    frames = frames_of(log)
    told = whole(log)
    mine: Said = {"id": "its own name for it", "role": "user", "content": "question 1"}
    uncut = Client([deepcopy(mine)]).apply(told)
    client = Client([deepcopy(mine)])
    for _ in range(data.draw(st.integers(1, 3))):
        after = int(client.cursor.partition("-")[0] or 0)
        rest = events_in(AgUi(THREAD, Window(after=after, last_seq=len(frames))).say(frames))
        cut = data.draw(st.integers(0, len(rest)))
        client = client.apply(rest[:cut]).cut()
    after = int(client.cursor.partition("-")[0] or 0)
    client.apply(events_in(AgUi(THREAD, Window(after=after, last_seq=len(frames))).say(frames)))
    assert client.shown == uncut.shown


@FEW
@given(logs())
def test_who_comes_without_a_cursor_is_shown_what_there_is_and_how_it_stands(log: list[Event]) -> None:
    frames, told = frames_of(log), whole(log)
    now = AgUi(THREAD, Window(after=len(frames), last_seq=len(frames), restates=True))
    client, uncut = Client().apply(events_in(now.say(frames))), Client().apply(told)
    if told:
        assert client.shown == uncut.shown
        assert client.running == uncut.running
        assert client.items == uncut.items
        assert client.outcomes[-1:] != ["interrupt"] or client.interrupts == uncut.interrupts
        assert client.outcomes == ([] if uncut.running else uncut.outcomes[-1:])


@FEW
@given(logs(), st.data())
def test_who_asked_is_told_of_the_run_of_the_message_under_the_name_that_he_gave_it(
    log: list[Event], data: st.DataObject
) -> None:
    runs = [event.run_id for event in log if isinstance(event, RunStarted)]
    if not runs:
        return
    run = data.draw(st.sampled_from(runs))
    frames = frames_of(log)
    dialect = AgUi(THREAD, follow(run), {run: "mine"})
    client = Client().apply(events_in(dialect.say(frames)))
    assert client.runs == ["mine"]
    assert dialect.done == (not client.running)


# --- what is said ------------------------------------------------------------------------------------------------


def test_a_run_is_told_with_the_ids_the_cursor_and_the_time_that_the_log_has() -> None:
    events = [STARTED, OWNED, *a_turn(SESSION)]
    told = whole(events)
    assert types_of(told) == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        *["TEXT_MESSAGE_CONTENT"] * 3,
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    cursors = [frame[frame.rindex(b"\nid: ") + 5 : -2].decode() for frame in frames_of(events)]
    assert told[0]["metadata"]["playhead"] == {"run_id": RUN, "cursor": cursors[2]}
    assert told[1]["metadata"]["playhead"] == {"cursor": cursors[3]}
    assert told[0]["timestamp"] == 1_700_000_000_000
    assert (told[0]["threadId"], told[0]["runId"]) == (THREAD, RUN)
    assert told[1]["messages"] == [{"id": MESSAGE, "role": "user", "content": "hello"}]
    usage = {"provider": "scripted", "model": "scripted:plain", "inputTokens": 7, "outputTokens": 11, "totalTokens": 18}
    assert told[-1]["usage"] == [usage | {"cachedInputTokens": 0, "cacheWriteInputTokens": 0}]
    assert told[-1]["outcome"] == {"type": "success"}


def test_tokens_of_a_cache_are_part_of_the_input() -> None:
    told = whole([*SPEAKING, completed({"type": "text", "text": "hi"}), RunCompleted(RUN, Usage())])
    usage = told[-1]["usage"][0]
    assert (usage["inputTokens"], usage["cachedInputTokens"], usage["cacheWriteInputTokens"]) == (6, 2, 1)


def test_reasoning_ends_before_the_answer_begins() -> None:
    told = whole([*SPEAKING, Thinking(*AT, "hm"), TextDelta(*AT, "so")])
    assert types_of(told[2:]) == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
    ]


def test_a_lost_attempt_is_taken_back_before_the_next_one_speaks() -> None:
    again = (RUN, 1, 2)
    lost = [*SPEAKING, Thinking(*AT, "hm"), TextDelta(*AT, "lost"), ModelCallAbandoned(*AT, "owner_lost")]
    told = whole([*lost, ModelCallStarted(*again, "scripted:plain", "scripted"), TextDelta(*again, "found")])
    client = Client().apply(told)
    assert [(one["role"], one["content"]) for one in client.messages] == [
        ("user", "hello"),
        ("reasoning", ""),
        ("assistant", "found"),
    ]
    assert client.messages[-1]["id"] == f"msg-{RUN}-1-2"


def test_a_message_that_its_deltas_did_not_say_is_what_a_snapshot_then_says() -> None:
    told = whole([*SPEAKING, TextDelta(*AT, "as it seemed"), completed({"type": "text", "text": "as it is"})])
    assert types_of(told)[-2:] == ["TEXT_MESSAGE_END", "MESSAGES_SNAPSHOT"]
    assert Client().apply(told).shown[-1]["content"] == "as it is"


def test_progress_is_an_activity_that_is_patched() -> None:
    told = whole(
        [*BEGUN, called(CALL), ToolProgress(*AT, CALL, 1.0, 3.0, "one"), ToolProgress(*AT, CALL, 2.0, 3.0)],
    )
    first, second = told[-2:]
    assert first["messageId"] == second["messageId"] == f"act-{CALL}"
    assert first["content"] == {"toolCallId": CALL, "progress": 1.0, "total": 3.0, "message": "one"}
    assert second["patch"] == [{"op": "remove", "path": "/message"}, {"op": "add", "path": "/progress", "value": 2.0}]


def test_a_run_that_waits_for_its_user_ends_with_an_interrupt_and_the_answer_begins_another() -> None:
    waiting = [*BEGUN, called(CALL), asked("q_1")]
    told = whole(waiting)
    interrupt = {"id": "q_1", "reason": "question", "message": "Sure?", "toolCallId": CALL}
    assert told[-1]["outcome"] == {
        "type": "interrupt",
        "interrupts": [interrupt | {"responseSchema": {"type": "string"}}],
    }
    answered = [
        *waiting,
        QuestionAnswered(*AT, "q_1", Json('"yes"'), "user"),
        ToolResult(*AT, CALL, "ok", Json("1"), 1),
    ]
    client = Client().apply(whole([*answered, RunCompleted(RUN, Usage())]))
    assert client.runs == [RUN, f"{RUN}.2"]
    assert client.outcomes == ["interrupt", "success"]
    window = Window(until=RUN, answers=frozenset({"q_1"}))
    told = whole([*answered, RunCompleted(RUN, Usage())], window, {RUN: "second"})
    client = Client().apply(told)
    assert (client.runs, client.outcomes) == (["second"], ["success"])
    assert [one["role"] for one in client.messages] == ["user", "assistant", "tool"]


def test_a_question_waits_to_be_told_until_no_call_goes_on_without_the_user() -> None:
    told = whole([*BEGUN, called(CALL), called(OTHER), asked("q_1")])
    assert types_of(told)[-1] == "TOOL_CALL_END"
    told = whole([*BEGUN, called(CALL), called(OTHER), asked("q_1"), asked("q_2", OTHER)])
    assert [one["id"] for one in told[-1]["outcome"]["interrupts"]] == ["q_1", "q_2"]


def test_a_call_that_waits_for_the_one_that_asks_does_not_keep_the_question_back() -> None:
    after = ToolCall(*AT, OTHER, "weather", Json("{}"), "read", "default", (CALL,))
    assert types_of(whole([*BEGUN, called(CALL), after, asked("q_1")]))[-1] == "RUN_FINISHED"


def test_each_part_of_a_run_counts_its_own_tokens() -> None:
    waiting = [*SPEAKING, completed({"type": "text", "text": "hm"}), called(CALL), asked("q_1")]
    first = whole(waiting)[-1]
    answered = [
        *waiting,
        QuestionAnswered(*AT, "q_1", Json('"yes"'), "user"),
        ToolResult(*AT, CALL, "ok", Json("1"), 1),
    ]
    second = whole([*answered, RunCompleted(RUN, Usage(3, 5))])[-1]
    assert [one["outputTokens"] for one in first["usage"]] == [5]
    assert "usage" not in second


def test_what_another_attempt_says_than_the_one_that_is_going_is_not_told() -> None:
    again = ModelCallStarted(RUN, 1, 2, "scripted:plain", "scripted")
    assert types_of(whole([*SPEAKING, again, TextDelta(*AT, "too late")])) == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]


def test_an_approval_is_an_interrupt_with_its_time() -> None:
    waiting = [*BEGUN, called(CALL), ApprovalRequested(*AT, CALL, "it costs money", 1_700_000_000_000_000)]
    (interrupt,) = whole(waiting)[-1]["outcome"]["interrupts"]
    expected = {"id": CALL, "reason": "tool_approval", "message": "it costs money", "toolCallId": CALL}
    assert interrupt == expected | {"expiresAt": "2023-11-14T22:13:20+00:00"}
    told = whole([*waiting, ApprovalGiven(*AT, CALL, "approve", "ada")])
    assert types_of(told)[-3:] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "CUSTOM"]


def test_a_run_that_failed_is_an_error_and_one_that_was_stopped_is_no_success() -> None:
    failed = whole([*SPEAKING, TextDelta(*AT, "half"), RunFailed(RUN, Failure("overloaded", "later"))])
    assert {**failed[-1], "metadata": 0, "timestamp": 0} == {
        "type": "RUN_ERROR",
        "message": "later",
        "code": "overloaded",
        "metadata": 0,
        "timestamp": 0,
    }
    assert [one["role"] for one in Client().apply(failed).messages] == ["user"]
    assert whole([*BEGUN, RunCancelled(RUN, "requested")])[-1]["outcome"] == {"type": "cancelled"}


def test_who_waits_behind_another_run_is_told_nothing_of_it_and_at_once_that_he_was_cancelled() -> None:
    message = message_id(SESSION, "second")
    run = run_id(SESSION, message)
    queued = [*SPEAKING, UserMessage(run, message, Json('"and"')), TextDelta(*AT, "busy")]
    assert whole(queued, follow(run)) == []
    client = Client().apply(whole([*queued, RunCancelled(run, "requested")], follow(run), {run: "mine"}))
    assert (client.runs, client.outcomes) == (["mine"], ["cancelled"])


def test_what_has_no_counterpart_is_custom_and_holds_the_native_event() -> None:
    told = whole([*BEGUN, called(CALL), asked("q_1"), QuestionAnswered(*AT, "q_1", Json('"yes"'), "ada")])
    assert told[-1]["name"] == "playhead.question_answered"
    assert told[-1]["value"]["by"] == "ada"


def test_pictures_and_documents_come_and_go_as_parts() -> None:
    blocks = Json(
        '[{"type":"text","text":"see"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aaaa"}},'
        '{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}},{"type":"other"}]'
    )
    told = whole([STARTED, OWNED, UserMessage(RUN, MESSAGE, blocks), RunStarted(RUN, MESSAGE)])
    assert told[1]["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "data", "value": "aaaa", "mimeType": "image/png"}},
        {"type": "document", "source": {"type": "url", "value": "https://example.com/a.pdf"}},
    ]


def test_a_session_that_closes_before_it_said_anything_says_so() -> None:
    dialect = AgUi(THREAD, follow())
    assert dialect.say(frames_of([STARTED, OWNED, CLOSED])) == b""
    (told,) = events_in(dialect.ending(3))
    assert (told["type"], told["code"]) == ("RUN_ERROR", "session_closed")
    assert events_in(dialect.farewell("draining")) == []


# --- over HTTP ---------------------------------------------------------------------------------------------------

DONE = [TextDelta(*AT, "hi"), completed({"type": "text", "text": "hi"}), RunCompleted(RUN, Usage(3, 5))]


def body(*messages: Said, thread: str, run: str = "r1", **more: Any) -> Said:
    return {"threadId": thread, "runId": run, "messages": list(messages), "tools": [], **more}


def user(content: object, identity: str = "u1") -> Said:
    return {"id": identity, "role": "user", "content": content}


async def a_session(world: World, *events: Event) -> SessionId:
    session = await world.log.create()
    await world.write(session, *events)
    return session


async def test_a_thread_that_is_new_is_a_session_that_begins_and_is_told_what_comes(world: World) -> None:
    async with serving(world.parts()) as served:
        thread, sent = "my thread", body(user("hello"), thread="my thread", forwardedProps={"agent": "support"})
        async with served.client.stream("POST", "/agui", json=sent) as response:
            assert response.headers["content-type"] == "text/event-stream"
            watched = Reading(response)
            start, say = await world.published()
            assert isinstance(start, StartSession)
            assert isinstance(say, Say)
            assert (start.agent, start.message, say.content) == ("support", None, '"hello"')
            session, run = say.session, say.run_id
            begun = [STARTED, OWNED, UserMessage(run, say.message_id, say.content), RunStarted(run, say.message_id)]
            await world.write(session, *begun)
            await watched.until(b"MESSAGES_SNAPSHOT")
            await world.write(session, RunCompleted(run, Usage()))
            await watched.finish()
        told = events_in(watched.raw)
        assert types_of(told) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert {event["runId"] for event in told if "runId" in event} == {"r1"}
        again = await served.client.post("/agui", json=sent)
        assert again.content == watched.raw
        assert len(await world.published()) == 2
        renamed = body(user("hello", told[1]["messages"][0]["id"]), user("and?", "u2"), thread=thread, run="r2")
        async with served.client.stream("POST", "/agui", json=renamed):
            *_, last = await world.published()
        assert isinstance(last, Say)
        assert (last.content, len(await world.published())) == ('"and?"', 3)


async def test_a_run_in_full_is_resumed_at_each_cursor_and_at_its_end_there_is_nothing_left(world: World) -> None:
    session = await a_session(world)
    await world.write(session, STARTED, OWNED, *a_turn(session))
    async with serving(world.parts()) as served:
        url = f"/agui/{session}/events"
        full = await served.client.get(url, params={"after": "0"})
        uncut = Client().apply(events_in(full.content))
        for event in events_in(full.content):
            cursor = event["metadata"]["playhead"]["cursor"]
            answer = await served.client.get(url, params={"after": cursor})
            shown = Client().apply(events_in(answer.content)).shown if answer.status_code == 200 else uncut.shown
            assert shown == uncut.shown
        ended = await served.client.get(url, params={"after": uncut.cursor})
        assert (ended.status_code, ended.content) == (204, b"")
        now = Client().apply(events_in((await served.client.get(url)).content))
        assert (now.shown, now.outcomes) == (uncut.shown, ["success"])


async def test_a_cursor_that_is_not_of_the_thread_and_a_thread_that_is_not_there_are_refused(world: World) -> None:
    session = await a_session(world, STARTED, OWNED, *a_turn(SESSION))
    async with client_of(world.parts()) as client:
        for after, status in (("3-00000000", 409), ("99", 409), ("x", 400)):
            assert (await client.get(f"/agui/{session}/events", params={"after": after})).status_code == status
        assert (await client.get("/agui/nobody/events")).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"tools": [{"name": "confirm", "description": "Ask."}]}, 422, "client-tools"),
        ({"messages": []}, 422, "nothing-to-run"),
        ({"messages": [{"id": "a", "role": "assistant", "content": "hi"}]}, 422, "nothing-to-run"),
        ({"messages": [{"id": "a", "role": "user", "content": ""}]}, 422, "invalid-message"),
        ({"messages": [{"id": "a", "role": "user", "content": [{"type": "audio"}]}]}, 422, "invalid-message"),
        ({"resume": [{"interruptId": "q_9", "status": "resolved"}]}, 422, "unknown-interrupt"),
        ({"runId": ""}, 422, "invalid-body"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_a_run_starts(
    world: World, change: Said, status: int, code: str
) -> None:
    async with client_of(world.parts()) as client:
        answer = await client.post("/agui", json={**body(user("hello"), thread="t"), **change})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await world.published() == []


async def test_what_was_answered_elsewhere_is_not_asked_again(world: World) -> None:
    async with serving(world.parts()) as served:
        elsewhere = {"id": "a1", "role": "assistant", "content": "I was told before"}
        sent = body(
            user("once"), elsewhere, user("now", "u2"), user([{"type": "text", "text": "more"}], "u3"), thread="t"
        )
        async with served.client.stream("POST", "/agui", json=sent):
            said = [one.content for one in await world.published() if isinstance(one, Say)]
        assert said == ['"now"', '[{"type":"text","text":"more"}]']


async def test_another_message_under_a_name_that_was_used_is_refused(world: World) -> None:
    thread = "t"
    async with serving(world.parts()) as served:
        async with served.client.stream("POST", "/agui", json=body(user("hello"), thread=thread)):
            assert len(await world.published()) == 2
        other = await served.client.post("/agui", json=body(user("something else"), thread=thread))
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")


async def test_an_agent_that_the_thread_does_not_have_is_refused(world: World) -> None:
    session = await a_session(world, STARTED, OWNED, *a_turn(SESSION))
    async with client_of(world.parts()) as client:
        answer = await client.post("/agui", params={"agent": "other"}, json=body(user("hi"), thread=session))
        assert (answer.status_code, answer.json()["code"]) == (409, "other-agent")


async def test_an_interrupt_is_answered_by_the_next_request_or_given_up_and_not_passed_over(world: World) -> None:
    session = await a_session(world, *BEGUN, called(CALL), asked("q_1"))
    async with serving(world.parts()) as served:
        passed = await served.client.post("/agui", json=body(user("hi", "u9"), thread=session))
        assert (passed.status_code, passed.json()["interrupts"]) == (409, ["q_1"])
        resume = [{"interruptId": "q_1", "status": "resolved", "payload": {"yes": True}}]
        async with served.client.stream(
            "POST", "/agui", json=body(thread=session, run="r2", resume=resume)
        ) as response:
            watched = Reading(response)
            (answer,) = await world.published()
            assert isinstance(answer, AnswerQuestion)
            assert (answer.question_id, answer.content) == ("q_1", '{"yes":true}')
            await world.write(session, QuestionAnswered(*AT, "q_1", answer.content, "user"), cause=answer.request_id)
            await world.write(session, ToolResult(*AT, CALL, "ok", Json("1"), 1), RunCompleted(RUN, Usage()))
            await watched.finish()
        client = Client().apply(events_in(watched.raw))
        assert (client.runs, client.outcomes) == (["r2"], ["success"])
        again = await served.client.post("/agui", json=body(thread=session, run="r2", resume=resume))
        assert again.content == watched.raw


async def test_an_interrupt_that_is_given_up_cancels_its_run(world: World) -> None:
    session = await a_session(world, *BEGUN, called(CALL), asked("q_1"))
    async with serving(world.parts()) as served:
        sent = body(thread=session, run="r2", resume=[{"interruptId": "q_1", "status": "cancelled"}])
        async with served.client.stream("POST", "/agui", json=sent) as response:
            watched = Reading(response)
            (cancel,) = await world.published()
            assert isinstance(cancel, CancelRun)
            assert cancel.run_id == RUN
            await world.write(
                session, ToolResult(*AT, CALL, "cancelled", Json("{}"), 1), RunCancelled(RUN, "requested")
            )
            await watched.finish()
        client = Client().apply(events_in(watched.raw))
        assert client.outcomes == ["cancelled"]


async def test_an_agents_capabilities_are_such_as_the_protocol_has(world: World) -> None:
    agent = AnnounceAgent("support", "1", "scripted:plain", "Helps.", ("weather",), True, 1)
    await world.announce(world.topics.catalog.name, "agent/support", agent)
    tool = AnnounceTool("default", "weather", "Sky.", Json('{"type":"object"}'), "abc", "read", 5000, 3, 1)
    await world.announce(world.topics.catalog.name, "default/weather", tool)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        shown = (await client.get("/agui/capabilities")).json()
    known = AgentCapabilities.model_validate(shown)
    assert known.model_dump(by_alias=True, exclude_none=True, mode="json") == shown
    assert known.transport is not None
    assert known.transport.resumable
    assert [tool["name"] for tool in shown["tools"]["items"]] == ["weather"]
