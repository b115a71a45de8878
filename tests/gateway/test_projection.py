"""The native projection: what a record looks like as an event and as a frame."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.accept import Head, Record, genesis, hash_of
from playhead.codec import Context
from playhead.events import (
    Event,
    Failure,
    Json,
    ModelCallFailed,
    QuestionAsked,
    SessionStarted,
    TextDelta,
    ToolInputDelta,
    ToolProgress,
    ToolResult,
    ToolRetry,
    UserMessage,
)
from playhead.ids import CallId, Seq, session_id
from playhead_gateway.projections.sse import Projection, event_of

from tests.gateway.support import CODEC, MESSAGE, NOW, RUN, parse

SESSION = session_id(bytes(16))
CALL = CallId("call_" + "c" * 26)
PROJECTION = Projection(CODEC)


def record(event: Event, head: Head | None = None) -> Record:
    return CODEC.seal(head or genesis(SESSION), [event], Context(SESSION, 1, "msg_1", NOW))[0]


def shown(event: Event) -> object:
    data = PROJECTION.event(record(event))
    assert data is not None
    return orjson.loads(data)


def test_an_event_has_seq_type_and_at_and_then_its_fields_by_wire_name() -> None:
    data = PROJECTION.event(record(TextDelta(RUN, 2, 1, "hi")))
    assert data == b'{"seq":1,"type":"text_delta","at":%d,"run_id":"%b","step":2,"attempt":1,"text":"hi"}' % (
        NOW,
        RUN.encode(),
    )


def test_a_frame_is_event_then_data_then_id_with_the_cursor_of_its_record() -> None:
    """protocol:P5 protocol:P31"""
    one = record(TextDelta(RUN, 2, 1, "hi"))
    frame = PROJECTION.frame(one)
    assert frame == b"event: text_delta\ndata: %b\nid: 1-%b\n\n" % (PROJECTION.event(one), one.hash[:4].hex().encode())
    assert event_of(frame) == PROJECTION.event(one)


def test_what_is_absent_is_left_out_here_and_in_the_records_within() -> None:
    """protocol:P10"""
    assert shown(ModelCallFailed(RUN, 1, 1, Failure("overloaded", "later"))) == {
        "seq": 1,
        "type": "model_call_failed",
        "at": NOW,
        "run_id": RUN,
        "step": 1,
        "attempt": 1,
        "error": {"code": "overloaded", "message": "later"},
    }
    progress = shown(ToolProgress(RUN, 1, 1, CALL, 0.5))
    assert isinstance(progress, dict)
    assert "total" not in progress
    assert "message" not in progress
    started = shown(SessionStarted("support", "1", "scripted:plain", Json("{}")))
    assert isinstance(started, dict)
    assert started["budget"] == {"steps": 32, "calls": 128, "wall_seconds": 3600}


def test_a_trailing_underscore_is_not_part_of_the_wire_name() -> None:
    assert '"try":3' in orjson.dumps(shown(ToolRetry(RUN, 1, 1, CALL, 3, 100, Failure("x", "y")))).decode()


def test_json_is_spliced_in_as_it_was_logged() -> None:
    """protocol:P11"""
    data = PROJECTION.event(record(ToolResult(RUN, 1, 1, CALL, "ok", Json('{"a": 1.10,"a":2}'), 3)))
    assert data is not None
    assert b'"output":{"a": 1.10,"a":2}' in data


def test_what_is_logged_as_json_and_is_none_is_shown_as_the_string_that_it_is() -> None:
    result = shown(ToolResult(RUN, 1, 1, CALL, "ok", Json('"},"seq":99'), 3))
    assert isinstance(result, dict)
    assert result["output"] == '"},"seq":99'
    assert result["seq"] == 1


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\r", "\n\ndata: x\n\n", "nul \0", "\u2028\u2029\u0085", "\ufeff", "\x1c"]
)
def test_no_content_breaks_the_framing(text: str) -> None:
    """protocol:P31"""
    quoted = orjson.dumps(text).decode()
    for event in (
        TextDelta(RUN, 1, 1, text),
        ToolInputDelta(RUN, 1, 1, CALL, text),
        UserMessage(RUN, MESSAGE, Json(quoted)),
        UserMessage(RUN, MESSAGE, Json(text)),
        ToolResult(RUN, 1, 1, CALL, "ok", Json(f'{{\r\n "text": {quoted}\n}}'), 1),
    ):
        frame = PROJECTION.frame(record(event))
        assert frame.endswith(b"\n\n")
        assert b"\r" not in frame
        assert len(frame.decode().splitlines()) == 4
        assert [one.raw for one in parse(frame)] == [frame]
    (one,) = parse(PROJECTION.frame(record(ToolResult(RUN, 1, 1, CALL, "ok", Json(f"[\n{quoted}\r]"), 1))))
    assert one.data["output"] == [text]


@given(st.text())
def test_whatever_a_model_says_comes_out_as_it_went_in(text: str) -> None:
    (frame,) = parse(PROJECTION.frame(record(TextDelta(RUN, 1, 1, text))))
    assert frame.data["text"] == text


def test_a_record_of_an_unknown_schema_has_no_frame() -> None:
    known = record(TextDelta(RUN, 1, 1, "hi"))
    value = known.value[:2] + bytes(8) + known.value[10:]
    newer = Record(Seq(1), known.prev, hash_of(value), value)
    assert PROJECTION.frame(newer) == b""
    assert PROJECTION.event(newer) is None


def test_bytes_that_do_not_decode_have_no_frame() -> None:
    known = record(TextDelta(RUN, 1, 1, "hi"))
    value = known.value[:-2]
    assert PROJECTION.frame(Record(Seq(1), known.prev, hash_of(value), value)) == b""


async def test_what_a_tool_leaves_for_itself_with_a_question_is_shown_to_nobody():
    asked = QuestionAsked(RUN, 1, 1, "q_1", Json('"which?"'), None, CallId("call_a"), Json('"a secret"'))
    projection = Projection(CODEC)
    (record,) = CODEC.seal(genesis(SESSION), [asked], Context(SESSION, 1, None, 1))
    event = projection.event(record)
    assert event is not None and b"which?" in event and b"call_a" in event
    assert b"secret" not in event and b"secret" not in projection.frame(record)
