"""What no chance input is long enough to show: the cost of what has no end."""

from __future__ import annotations

import time

import orjson
import pytest
from playhead_orchestrator.adapters.sse_lines import BODY_BYTES_MAX, EVENT_BYTES_MAX, SseLines, TooLong
from playhead_tool_workers.mcp.arguments import arguments_of

SECONDS_MAX = 2.0


def test_a_long_line_in_very_many_pieces_costs_what_its_bytes_cost():
    lines, piece = SseLines(), b"x" * 256
    start = time.perf_counter()
    lines.feed(b"data:")
    for _ in range(EVENT_BYTES_MAX // len(piece) - 1):
        lines.feed(piece)
    assert [len(event) for event in lines.feed(b"\n\n")] == [EVENT_BYTES_MAX - 256]
    assert time.perf_counter() - start < SECONDS_MAX


def test_a_message_without_an_end_is_given_up():
    lines, ping = SseLines(), (b": " + b"x" * 1000 + b"\n") * 1000
    with pytest.raises(TooLong, match="a message"):
        for _ in range(BODY_BYTES_MAX // len(ping) + 1):
            assert lines.feed(ping) == []


LEVELS = {f"l{at}": {"allOf": [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(40)}


@pytest.mark.parametrize(
    "one",
    [
        {"$ref": "#/$defs/l0"},
        {"type": "array", "uniqueItems": True},
        {"type": "array", "items": {"enum": list(range(8_000))}},
        {"$ref": "#/$defs/l0", "unevaluatedProperties": False},
    ],
)
def test_a_schema_of_a_stranger_does_not_keep_a_worker_busy(one: dict[str, object]):
    schema = {"type": "object", "properties": {"a": one}, "$defs": {**LEVELS, "l40": {"not": {"type": "null"}}}}
    taker = arguments_of(schema, "")
    start = time.perf_counter()
    assert taker.parse(orjson.dumps({"a": [{"b": 9_000}] * 30_000}).decode()).keys() == {"given"}
    assert time.perf_counter() - start < SECONDS_MAX
