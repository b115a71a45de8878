"""The benchmark of many viewers: what its client counts, and that a run of it is whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.viewers import measure
from bench.viewing import Case, Figures, table
from bench.watching import Scanner, Viewer

DUE = 1_000_000_000_000_000_000


def frame(seq: int, text: str) -> bytes:
    return b'event: text_delta\ndata: {"seq":%d,"text":"%b"}\nid: %d-0011aabb\n\n' % (seq, text.encode(), seq)


def chunk(*frames: bytes) -> bytes:
    body = b"".join(frames)
    return b"%x\r\n%b\r\n" % (len(body), body)


def delta(seq: int) -> bytes:
    return frame(seq, f"@{DUE + seq:019d} word")


async def test_what_is_lost_or_comes_twice_is_counted() -> None:
    viewer = Viewer(Scanner(), "ses", stalled=False)
    for part in (chunk(delta(1), delta(2)), chunk(delta(5)), chunk(delta(5)), chunk(delta(6))):
        viewer.data_received(part)
    assert (viewer.seq, viewer.lost, viewer.repeated) == (6, 2, 1)


@given(st.lists(st.integers(1, 700), max_size=12))
async def test_a_stream_cut_into_any_pieces_is_counted_as_it_was_written(cuts: Sequence[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    stream = head + chunk(b"event: ready\nretry: 2000\ndata: {}\n\n") + chunk(frame(1, "no stamp"), delta(2))
    stream += chunk(delta(3)) + chunk(delta(4), delta(5), delta(6))
    viewer, start = Viewer(Scanner(), "ses", stalled=False), 0
    for end in [*sorted(cuts), len(stream)]:
        if end > start:
            viewer.data_received(stream[start:end])
            start = end
    assert (viewer.seq, viewer.lost, viewer.repeated) == (6, 0, 0)
    assert [stamp for stamps, _ in viewer.had for stamp in stamps] == [DUE + seq for seq in range(2, 7)]


def test_a_run_with_viewers_that_stall_is_whole_and_those_get_the_rest() -> None:
    figures = measure(Case("stalled", "sqlite", 1, 3, 50.0, 1.0, stalled=4, padding=20_000))
    assert figures.problems == []
    assert figures.report["delivered"] == 150
    assert figures.later is not None
    assert (figures.later["delivered"], figures.later["reconnected"]) == (200, 2)


def some(system: str, viewers: int, p99: float, lost: int = 0) -> Figures:
    report = {"p50_ms": 1.0, "p99_ms": p99, "delivered": 10 * viewers, "portions": 5, "lost": lost, "repeated": 0}
    case = Case("one", system, 1, viewers, 10.0, 1.0)
    return Figures(case, report, {"append_p99_ms": 1.0}, 1.0, 0.5, 10.0, 10.0, 10.0)


@pytest.mark.parametrize(("p99", "missed"), [(14.0, 0), (16.0, 1)])
def test_a_target_is_of_the_run_with_many_to_the_reference(p99: float, missed: int) -> None:
    shown, found = table(
        [some("memory", 10, 1.0), some("sqlite", 10, 9.0), some("memory", 99, 10.0), some("sqlite", 99, p99)]
    )
    assert len(found) == missed
    assert f"p99 {p99 / 10:.2f} times memory (target" in shown


def test_a_run_in_which_something_was_lost_is_worth_nothing() -> None:
    assert some("sqlite", 10, 1.0, lost=3).problems == ["sqlite, one: 1 x 10: 3 lost and 0 repeated"]
