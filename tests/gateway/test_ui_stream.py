"""The AI SDK's UI message stream as a pure dialect: what a stream says of a run, however and whenever it is asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.events import (
    ApprovalGiven,
    ApprovalRequested,
    Event,
    Failure,
    FinalResponse,
    GuardrailTripped,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    QuestionAnswered,
    QuestionAsked,
    Range,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    ToolRetry,
    ToolStarted,
    Usage,
    UserMessage,
)
from playhead.ids import MessageId, RunId, Seq, call_id, message_id, run_id
from playhead_gateway.projections.ui_content import Unsupported, content_of
from playhead_gateway.projections.ui_message import PRELIMINARY_CHARS_MAX
from playhead_gateway.projections.ui_stream import UiStream

from tests.gateway.agui_model import SESSION, frames_of, logs
from tests.gateway.support import OWNED, STARTED, a_turn
from tests.gateway.ui_model import Client, Said, chunks_in

MESSAGE = message_id(SESSION, "first")
RUN = run_id(SESSION, MESSAGE)
AT, AGAIN = (RUN, 1, 1), (RUN, 1, 2)
CALL = call_id(SESSION, RUN, 1, 0)
BEGUN: list[Event] = [STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"hello"')), RunStarted(RUN, MESSAGE)]
SPEAKING: list[Event] = [*BEGUN, ModelCallStarted(*AT, "scripted:plain", "scripted")]
CALLED: list[Event] = [*SPEAKING, ToolCall(*AT, CALL, "weather", Json('{"city":"Oslo"}'), "read", "default")]
DONE: Event = RunCompleted(RUN, Usage(1, 2))

FEW = settings(max_examples=80, deadline=None)


def stream_of(events: list[Event], run: str = RUN) -> bytes:
    dialect = UiStream(SESSION, run)
    return dialect.opening() + dialect.say(frames_of(events))


def whole(*events: Event) -> list[Said]:
    return chunks_in(stream_of(list(events)))


def types_of(chunks: list[Said]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def completed(*blocks: Said, at: tuple[RunId, int, int] = AT, stop_reason: str = "end_turn") -> ModelCallCompleted:
    message = Json(orjson.dumps({"role": "assistant", "content": list(blocks)}).decode())
    return ModelCallCompleted(*at, message, Usage(3, 5), stop_reason, 12)


def text(words: str) -> Said:
    return {"type": "text", "text": words}


def runs_of(log: list[Event]) -> list[RunId]:
    return [event.run_id for event in log if isinstance(event, UserMessage)]


def spoken(log: list[Event], run: RunId) -> list[tuple[str, str]]:
    """Give the texts of a run as the log has them: the whole messages, and what an attempt that goes on has said."""
    settled: list[tuple[str, str]] = []
    going: list[tuple[str, str]] = []
    for event in log:
        if getattr(event, "run_id", None) != run:
            continue
        match event:
            case TextDelta(text=piece):
                _join(going, "text", piece)
            case Thinking(text=piece):
                _join(going, "reasoning", piece)
            case ModelCallCompleted(message=message):
                parts: list[tuple[str, str]] = []
                for block in orjson.loads(message)["content"]:
                    if block["type"] != "tool_use":
                        _join(parts, "text" if block["type"] == "text" else "reasoning", block["text"])
                settled, going = settled + parts, []
            case FinalResponse(text=answer) if not any(kind == "text" for kind, _ in settled):
                settled, going = [*settled, ("text", answer)], []
            case ModelCallAbandoned() | ModelCallFailed() | RunCompleted() | RunFailed() | RunCancelled():
                going = []
            case _:
                pass
    return settled + going


def _join(parts: list[tuple[str, str]], kind: str, piece: str) -> None:
    if parts and parts[-1][0] == kind:
        piece = parts.pop()[1] + piece
    parts.append((kind, piece))


# --- properties --------------------------------------------------------------------------------------------------


@FEW
@given(logs(), st.data())
def test_the_same_frames_give_the_same_bytes_in_whatever_portions_they_come(
    log: list[Event], data: st.DataObject
) -> None:
    frames = frames_of(log)
    run = data.draw(st.sampled_from([RUN, *runs_of(log)]))
    at_once, in_portions = UiStream(SESSION, run), UiStream(SESSION, run)
    said, left = b"", frames
    while left:
        count = data.draw(st.integers(1, len(left)))
        said += in_portions.say(left[:count])
        left = left[count:]
    assert said == at_once.say(frames)
    assert in_portions.done == at_once.done


@FEW
@given(logs())
def test_whatever_happens_the_client_knows_every_chunk_and_shows_what_the_log_says(log: list[Event]) -> None:
    for run in runs_of(log):
        client = Client().apply(chunks_in(stream_of(log, run)))
        assert client.id == run
        assert client.texts == spoken(log, run)
        calls = [event.call_id for event in log if isinstance(event, ToolCall) and event.run_id == run]
        assert [part["toolCallId"] for part in client.tools] == calls
        is_over = any(isinstance(event, RunCompleted | RunFailed | RunCancelled) for event in of(run, log))
        assert (client.finish is not None) == is_over
        assert not (is_over and client.growing)


def of(run: RunId, log: list[Event]) -> list[Event]:
    return [event for event in log if getattr(event, "run_id", None) == run]


@FEW
@given(logs(), st.data())
def test_whenever_a_client_comes_back_it_is_told_the_same_from_the_start(log: list[Event], data: st.DataObject) -> None:
    frames = frames_of(log)
    for run in runs_of(log):
        cut = data.draw(st.integers(0, len(frames)))
        first, second = UiStream(SESSION, run), UiStream(SESSION, run)
        before = first.opening() + first.say(frames[:cut])
        assert (second.opening() + second.say(frames)).startswith(before)


@FEW
@given(logs())
def test_a_stream_that_begins_behind_what_was_before_its_run_says_the_same(log: list[Event]) -> None:
    for run in runs_of(log):
        asked = next(place for place, event in enumerate(log) if isinstance(event, UserMessage) and event.run_id == run)
        late = UiStream(SESSION, run)
        assert late.opening() + late.say(frames_of(log)[asked:]) == stream_of(log, run)


# --- what is said ------------------------------------------------------------------------------------------------


def test_a_run_is_one_message_with_its_id_steps_tools_and_usage() -> None:
    chunks = whole(STARTED, OWNED, *a_turn(SESSION))
    assert types_of(chunks) == [
        "start",
        "start-step",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
        "start-step",
        "text-start",
        *["text-delta"] * 3,
        "text-end",
        "finish-step",
        "finish",
    ]
    assert chunks[0]["messageId"] == RUN
    assert chunks[0]["messageMetadata"] == {"playhead": {"session": SESSION, "run_id": RUN}}
    assert chunks[2] == {
        "type": "tool-input-available",
        "toolCallId": CALL,
        "toolName": "weather",
        "input": {"city": "Paris"},
        "dynamic": True,
        "providerExecuted": True,
    }
    assert chunks[3]["output"] == {"sky": "clear"}
    assert chunks[-1]["finishReason"] == "stop"
    assert chunks[-1]["messageMetadata"]["playhead"]["usage"]["output_tokens"] == 11
    assert stream_of([STARTED, OWNED, *a_turn(SESSION)]).endswith(b"data: [DONE]\n\n")


def test_what_another_run_says_is_not_told_even_if_it_names_this_one() -> None:
    other = run_id(SESSION, MessageId("msg_other"))
    quoting = ToolCall(other, 1, 1, CALL, "weather", Json(f'{{"run_id":"{RUN}"}}'), "read", "default")
    assert types_of(whole(*SPEAKING, quoting, TextDelta(other, 1, 1, "no"))) == ["start", "start-step"]


def test_a_lost_attempt_is_taken_back_before_the_next_one_speaks() -> None:
    lost = [*SPEAKING, Thinking(*AT, "hm"), TextDelta(*AT, "lost"), ModelCallAbandoned(*AT, "owner_lost")]
    again = [ModelCallStarted(*AGAIN, "scripted:plain", "scripted"), TextDelta(*AGAIN, "found")]
    chunks = whole(*lost, *again, completed(text("found"), at=AGAIN), DONE)
    assert types_of(chunks).count("reset-step") == 1
    assert Client().apply(chunks).texts == [("text", "found")]


def test_an_attempt_that_failed_without_a_word_takes_nothing_back() -> None:
    failed = ModelCallFailed(*AT, Failure("overloaded", "later"), 10)
    chunks = whole(*SPEAKING, failed)
    assert types_of(chunks) == ["start", "start-step", "data-playhead-model-call-failed"]
    assert chunks[-1]["transient"]
    assert chunks[-1]["data"]["retry_in_ms"] == 10


def test_what_an_earlier_step_said_and_did_stays_when_a_later_attempt_is_lost() -> None:
    result = ToolResult(*AT, CALL, "ok", Json("1"), 1)
    later = (RUN, 2, 1)
    steps = [*SPEAKING, completed(text("one ")), *CALLED[-1:], result]
    lost = [ModelCallStarted(*later, "m", "p"), TextDelta(*later, "lost"), ModelCallAbandoned(*later, "owner_lost")]
    client = Client().apply(whole(*steps, *lost))
    assert client.text == "one "
    assert [tool["state"] for tool in client.tools] == ["output-available"]


def test_a_whole_message_that_its_deltas_did_not_say_replaces_them() -> None:
    chunks = whole(*SPEAKING, TextDelta(*AT, "as it seemed"), completed(text("as it is")))
    assert Client().apply(chunks).text == "as it is"
    assert "reset-step" in types_of(chunks)


def test_a_whole_message_that_goes_further_than_its_deltas_is_completed() -> None:
    thought = {"type": "thinking", "text": "hm"}
    chunks = whole(*SPEAKING, Thinking(*AT, "h"), completed(thought, text("so "), text("be it")))
    assert Client().apply(chunks).texts == [("reasoning", "hm"), ("text", "so be it")]
    assert "reset-step" not in types_of(chunks)


def test_an_answer_that_no_model_said_is_said() -> None:
    assert Client().apply(whole(*BEGUN, FinalResponse(RUN, "by hand", MessageId("msg_a")), DONE)).text == "by hand"


def test_texts_that_a_tool_emits_are_joined_and_other_values_replace_each_other() -> None:
    pieces = [ToolResultChunk(*AT, CALL, Json(piece)) for piece in ('"one "', '"two"', '{"rows":2}')]
    outputs = [chunk["output"] for chunk in whole(*CALLED, *pieces) if chunk["type"] == "tool-output-available"]
    assert outputs == ["one ", "one two", {"rows": 2}]
    client = Client().apply(whole(*CALLED, *pieces))
    assert client.tools[0]["preliminary"]
    client = Client().apply(whole(*CALLED, *pieces, ToolResult(*AT, CALL, "ok", Json('"all"'), 1)))
    assert client.tools[0]["output"] == "all"
    assert "preliminary" not in client.tools[0]


def test_of_a_long_text_that_a_tool_emits_each_piece_says_the_end_again() -> None:
    piece = ToolResultChunk(*AT, CALL, Json(orjson.dumps("x" * 5_000).decode()))
    chunks = whole(*CALLED, *[piece] * 4)
    assert max(len(chunk.get("output", "")) for chunk in chunks) == PRELIMINARY_CHARS_MAX


def test_another_try_of_a_call_begins_its_output_anew() -> None:
    retry = ToolRetry(*AT, CALL, 1, 10, Failure("broken", "again"))
    again = [retry, ToolStarted(*AT, CALL, "w"), ToolResultChunk(*AT, CALL, Json('"new"'))]
    chunks = whole(*CALLED, ToolResultChunk(*AT, CALL, Json('"old"')), *again)
    assert chunks[-1]["output"] == "new"


def test_progress_is_transient() -> None:
    chunks = whole(*CALLED, ToolProgress(*AT, CALL, 1.0, 3.0, "one"))
    assert chunks[-1]["type"] == "data-playhead-tool-progress"
    assert chunks[-1]["transient"]
    assert (chunks[-1]["data"]["progress"], chunks[-1]["data"]["total"]) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("status", "output", "told"),
    [
        ("error", '"no such city"', "no such city"),
        ("timeout", '{"after":5}', 'timeout: {"after":5}'),
        ("unknown", '"lost"', "unknown: lost"),
        ("denied", '"not allowed"', "denied: not allowed"),
    ],
)
def test_a_call_that_did_not_work_says_why(status: str, output: str, told: str) -> None:
    client = Client().apply(whole(*CALLED, ToolResult(*AT, CALL, status, Json(output), 1)))
    assert (client.tools[0]["state"], client.tools[0]["errorText"]) == ("output-error", told)


def test_the_second_result_of_a_call_and_one_of_no_call_are_not_told() -> None:
    result = ToolResult(*AT, CALL, "ok", Json("1"), 1)
    assert types_of(whole(*CALLED, result, result)).count("tool-output-available") == 1
    assert types_of(whole(*SPEAKING, result, ToolResultChunk(*AT, CALL, Json("1")))) == ["start", "start-step"]


@pytest.mark.parametrize(("decision", "state"), [("approve", "output-available"), ("deny", "output-denied")])
def test_an_approval_is_asked_for_and_decided(decision: str, state: str) -> None:
    waiting = [*CALLED, ApprovalRequested(*AT, CALL, "it costs money")]
    assert Client().apply(whole(*waiting)).tools[0]["state"] == "approval-requested"
    decided = [*waiting, ApprovalGiven(*AT, CALL, decision, "ada", "because")]
    tool = Client().apply(whole(*decided)).tools[0]
    assert (tool["state"], tool["approval"]["approved"]) == ("approval-responded", decision == "approve")
    status = "ok" if decision == "approve" else "denied"
    client = Client().apply(whole(*decided, ToolResult(*AT, CALL, status, Json("1"), 1)))
    assert client.tools[0]["state"] == state


def test_a_question_is_a_part_of_the_message_and_gets_its_answer_in_place() -> None:
    asked = QuestionAsked(*AT, "q_1", Json('"Sure?"'), Json('{"type":"string"}'), CALL)
    answered = QuestionAnswered(*AT, "q_1", Json('"yes"'), "ada")
    shown = {"question_id": "q_1", "call_id": CALL, "schema": {"type": "string"}, "question": "Sure?"}
    parts = Client().apply(whole(*CALLED, asked)).parts
    assert parts[-1] == {"type": "data-playhead-question", "id": "q_1", "data": shown}
    parts = Client().apply(whole(*CALLED, asked, answered)).parts
    assert parts[-1]["data"] == shown | {"answer": "yes", "by": "ada"}


def test_what_a_guardrail_withdraws_is_taken_back() -> None:
    tripped = GuardrailTripped(*AT, "tone", "block", Range(Seq(6), Seq(6)))
    assert Client().apply(whole(*SPEAKING, TextDelta(*AT, "rude"), tripped)).text == ""
    said = whole(*SPEAKING, TextDelta(*AT, "rude"), tripped, TextDelta(*AT, "ly"), completed(text("polite")))
    assert Client().apply(said).text == "polite"


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("refusal", "content-filter"), ("strange", "other")],
)
def test_the_reason_why_a_run_finished_is_the_last_model_calls(stopped: str, reason: str) -> None:
    assert Client().apply(whole(*SPEAKING, completed(text("x"), stop_reason=stopped), DONE)).finish == reason


def test_a_run_that_failed_is_an_error_and_its_half_answer_is_gone() -> None:
    client = Client().apply(whole(*SPEAKING, TextDelta(*AT, "half"), RunFailed(RUN, Failure("overloaded", "later"))))
    assert (client.errors, client.finish, client.text) == (["later (overloaded)"], "error", "")


def test_a_run_that_was_stopped_is_aborted_and_keeps_what_was_said() -> None:
    kept = completed(text("half"), stop_reason="cancelled")
    chunks = whole(*SPEAKING, TextDelta(*AT, "half"), kept, RunCancelled(RUN, "requested"))
    assert chunks[-1] == {"type": "abort", "reason": "requested"}
    assert Client().apply(chunks).text == "half"


def test_a_stream_that_ends_before_its_run_never_looks_whole() -> None:
    dialect = UiStream(SESSION, RUN)
    for words in (dialect.farewell("draining"), dialect.ending(3)):
        (chunk,) = chunks_in(words)
        assert chunk["type"] == "error"
    assert b"[DONE]" not in dialect.farewell("draining")


# --- what a user says --------------------------------------------------------------------------------------------


def test_texts_and_files_become_what_a_session_is_told() -> None:
    picture = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,aaaa"}
    paper = {"type": "file", "mediaType": "application/pdf", "url": "https://example.com/a.pdf", "filename": "a.pdf"}
    assert content_of([{"type": "text", "text": "see"}]) == "see"
    assert content_of([{"type": "text", "text": "see"}, picture, paper, {"type": "data-mood", "data": 1}]) == [
        {"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
    ]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [{"type": "text", "text": ""}],
        [{"type": "data-mood", "data": 1}],
        [{"type": "text", "text": "see"}, {"type": "source-url", "url": "https://example.com"}],
        [{"type": "file", "mediaType": "image/png", "url": "file:///etc/passwd"}],
        [{"type": "file", "mediaType": "image/png", "url": "data:image/png,raw"}],
        ["text"],
    ],
)
def test_what_no_agent_takes_is_refused(parts: list[Any]) -> None:
    with pytest.raises(Unsupported):
        content_of(parts)
