"""AG-UI as a pure dialect: what a stream says, whatever its portions, and wherever a client comes back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
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
from playhead.ids import call_id, message_id, run_id
from playhead_gateway.projections.agui import AgUi, Window

from tests.gateway.agui_model import SESSION, Client, Said, events_in, frames_of, logs
from tests.gateway.support import CLOSED, OWNED, STARTED, a_turn

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


def asked(question: str, call: str = CALL) -> QuestionAsked:
    return QuestionAsked(*AT, question, Json('"Sure?"'), Json('{"type":"string"}'), call_id=call)  # type: ignore[arg-type]


def called(call: str) -> ToolCall:
    return ToolCall(*AT, call, "weather", Json('{"city":"Oslo"}'), "read", "default")  # type: ignore[arg-type]


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
        assert client.running or client.interrupts == uncut.interrupts
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
