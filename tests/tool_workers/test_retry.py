"""How long to wait before trying again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from playhead_tool_workers.retry import Backoff

JITTER = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), JITTER)
def test_a_delay_is_never_longer_than_the_limit_and_never_shorter_than_half_the_first(
    failures: int, jitter: float
) -> None:
    backoff = Backoff(0.5, 30)
    assert 0.25 <= backoff.delay_seconds(failures, jitter) <= 30


@given(st.integers(1, 100), JITTER)
def test_more_failures_never_wait_less_for_the_same_chance(failures: int, jitter: float) -> None:
    backoff = Backoff(0.5, 30)
    assert backoff.delay_seconds(failures + 1, jitter) >= backoff.delay_seconds(failures, jitter)


def test_delays_double_and_chance_picks_from_the_upper_half() -> None:
    backoff = Backoff(1, 30)
    assert [backoff.delay_seconds(failures, 0) for failures in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert backoff.delay_seconds(1, 0.5) == 0.75
