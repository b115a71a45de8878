"""From events to text."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from playhead_cli.render import Renderer, clean, compact, text_of


def shown(*events: dict[str, Any], echo_user: bool = True) -> str:
    renderer = Renderer(echo_user=echo_user)
    pieces = [piece for event in events for piece in renderer.feed(event)]
    return "".join(piece.text for piece in [*pieces, *renderer.close()])


def delta(text: str, attempt: int = 1) -> dict[str, Any]:
    return {"type": "text_delta", "text": text, "step": 1, "attempt": attempt}


def completed(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"type": "model_call_completed", "message": message, "attempt": 1}


def test_deltas_flow_into_one_line_and_the_completed_message_is_not_repeated():
    assert (
        shown(delta("Hel"), delta("lo"), completed("Hello"), {"type": "final_response", "text": "Hello"}) == "Hello\n"
    )


def test_a_message_whose_deltas_were_not_seen_is_shown_whole():
    assert shown(completed("Hello")) == "Hello\n"


def test_a_final_response_alone_is_shown():
    assert shown({"type": "final_response", "text": "Hello"}) == "Hello\n"


def test_thinking_and_text_are_on_lines_of_their_own():
    assert shown({"type": "thinking", "text": "hm"}, delta("Yes")) == "hm\nYes\n"


def test_a_lost_attempt_is_visibly_dropped_and_the_text_starts_again():
    lost = {"type": "model_call_abandoned", "attempt": 1, "reason": "owner_changed"}
    assert shown(delta("Hel"), lost, delta("Hello", 2), completed("Hello")) == (
        "Hel\n⟲ attempt 1 was lost (owner_changed); what it said is dropped\nHello\n"
    )


def test_what_a_lost_attempt_said_does_not_stand_for_the_message_that_follows():
    lost = {"type": "model_call_abandoned", "attempt": 1, "reason": "owner_lost"}
    assert shown(delta("Hel"), lost, completed("Hello")).endswith("dropped\nHello\n")


def test_a_failed_attempt_says_why_and_when_the_next_one_starts():
    failed = {
        "type": "model_call_failed",
        "attempt": 1,
        "error": {"code": "overloaded", "message": "busy"},
        "retry_in_ms": 500,
    }
    assert shown(failed) == "⟲ attempt 1 failed (overloaded: busy); again in 0.5 s\n"


def test_a_tool_call_and_its_result_are_a_line_each():
    call = {"type": "tool_call", "call_id": "call_1", "name": "clock", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "call_id": "call_1", "status": "ok", "output": {"time": "12:00"}, "elapsed_ms": 7}
    assert shown(call, result) == '→ clock(city="Oslo")\n← clock (7 ms) {"time": "12:00"}\n'


def test_a_result_that_comes_from_outside_and_one_that_comes_late_say_so():
    call = {"type": "tool_call", "call_id": "call_1", "name": "pay", "input": {"to": "A"}}
    pending = {"type": "tool_pending", "call_id": "call_1", "at": 2_000_000, "until": 62_000_000, "message": "bank"}
    ended = {"call_id": "call_1", "elapsed_ms": 7}
    timeout = {"type": "tool_result", "status": "timeout", "output": "too slow", **ended}
    late = {"type": "tool_result_late", "status": "ok", "output": {"paid": True}, **ended}
    assert shown(call, pending, timeout, late) == (
        '→ pay(to="A")\n'
        "  pay's result comes later, within 60 s: bank\n← pay (7 ms) timeout: too slow\n"
        '← pay (7 ms) {"paid": true} (late: the model was told otherwise)\n'
    )


def test_a_lost_worker_and_the_delivery_that_follows_are_a_line():
    call = {"type": "tool_call", "call_id": "call_1", "name": "pay", "input": {"to": "A"}}
    error = {"code": "worker_lost", "message": "w was not heard of any more"}
    lost = {"type": "tool_retry", "call_id": "call_1", "try": 1, "delay_ms": 0, "error": error, "delivery": 2}
    line = "⟲ pay (worker_lost: w was not heard of any more); delivery 2 follows"
    assert shown(call, lost) == f'→ pay(to="A")\n{line}\n'


def test_a_question_is_shown_with_the_name_to_answer_it_by_and_its_answer():
    asked = {"type": "question_asked", "question_id": "q_1", "content": "Sure?"}
    answered = {"type": "question_answered", "question_id": "q_1", "content": True, "by": "user"}
    assert shown(asked, answered) == "? Sure? (q_1)\n  q_1 answered by user: true\n"


def test_a_result_that_is_not_ok_says_so():
    result = {"type": "tool_result", "call_id": "call_1", "status": "unknown", "output": "?", "elapsed_ms": 7}
    assert shown(result) == "← call_1 (7 ms) unknown: ?\n"


def test_types_it_does_not_know_show_nothing():
    assert shown({"type": "tool_moved", "call_id": "c"}, {"type": "weather"}, {"type": "owner_changed"}) == ""


def test_the_users_words_are_echoed_unless_they_just_typed_them():
    said = {"type": "user_message", "content": [{"type": "text", "text": "hi"}]}
    assert shown(said) == "› hi\n"
    assert shown(said, echo_user=False) == ""


def test_text_cannot_drive_the_terminal():
    assert "\x1b" not in shown(delta("\x1b]0;owned\x07"), delta("\x9b2J"))
    assert clean("a\tb\nc") == "a\tb\nc"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_compact_is_one_bounded_line_whatever_it_is_given(value: object):
    line = compact(value, 40)
    assert len(line) <= 40
    assert len(line.splitlines()) <= 1


@given(st.text() | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), st.sampled_from(["text", "x"]))))
def test_text_of_takes_any_content(content: object):
    assert isinstance(text_of(content), str)
