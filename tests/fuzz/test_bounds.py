"""What no chance input is long enough to show: the cost of what has no end."""

from __future__ import annotations

import time

import pytest
from playhead_orchestrator.adapters.sse_lines import BODY_BYTES_MAX, EVENT_BYTES_MAX, SseLines, TooLong

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
    lines, ping = SseLines(), b": ping\n" * 100_000
    with pytest.raises(TooLong, match="a message"):
        for _ in range(BODY_BYTES_MAX // len(ping) + 1):
            assert lines.feed(ping) == []
