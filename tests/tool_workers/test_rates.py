"""How long calls wait for a rate limit, and that it holds."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.options import RateLimit
from playhead_tool_workers.rates import MARKS_MAX, Rates

COUNTS = st.one_of(st.integers(1, 12), st.integers(MARKS_MAX, 300))
SECONDS = st.sampled_from([0.5, 1.0, 60.0])
GAPS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 40)), min_size=1, max_size=30)
"""Of the limit's seconds, and how many calls come then."""
SLACK = 1e-6


def most_in_a_window(starts: list[float], seconds: float) -> int:
    """Count the most that start in any half-open window, but for what rounding does at its edges."""
    ordered = sorted(starts)
    return max(bisect_left(ordered, at + seconds - SLACK) - place for place, at in enumerate(ordered))


@given(COUNTS, SECONDS, GAPS, st.data())
@settings(deadline=None)
def test_no_window_has_more_starts_than_the_limit_whatever_is_given_back(
    count: int, seconds: float, gaps: list[tuple[float, int]], data: st.DataObject
):
    rates, now, starts = Rates(RateLimit(count, seconds)), 0.0, list[float]()
    for gap, calls in gaps:
        now += gap * seconds
        for _ in range(calls):
            reservation = rates.reserve("", now)
            if data.draw(st.integers(0, 4)) == 0:
                rates.give_back(reservation)
                rates.give_back(reservation)
            else:
                starts.append(reservation.starts_at)
    assert starts == [] or most_in_a_window(starts, seconds) <= count


@given(COUNTS, SECONDS, GAPS, st.lists(st.floats(0.01, 1), min_size=1))
@settings(deadline=None)
def test_calls_start_in_the_order_in_which_they_asked_and_in_the_greatest_share_while_it_changes(
    count: int, seconds: float, gaps: list[tuple[float, int]], shares: list[float]
):
    rates, now, starts, number = Rates(RateLimit(count, seconds)), 0.0, list[float](), 0
    for gap, calls in gaps:
        now += gap * seconds
        for _ in range(calls):
            starts.append(rates.reserve("", now, shares[number % len(shares)]).starts_at)
            number += 1
    assert all(later >= earlier for earlier, later in pairwise(starts))
    assert most_in_a_window(starts, seconds) <= math.ceil(count * max(shares))


@given(COUNTS, st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 100))
@settings(deadline=None)
def test_workers_whose_shares_add_to_one_keep_the_limit_but_for_less_than_one_each(
    count: int, parts: list[int], calls: int
):
    starts: list[float] = []
    for part in parts:
        rates = Rates(RateLimit(count, 1.0))
        starts += [rates.reserve("", 0.0, part / sum(parts)).delay_seconds for _ in range(calls)]
    assert most_in_a_window(starts, 1.0) < count + len(parts)
    # Over time it is the limit itself: what is beyond were only the first ones.
    rates = Rates(RateLimit(count, 1.0))
    share = parts[0] / sum(parts)
    last = [rates.reserve("", 0.0, share).delay_seconds for _ in range(500)][-1]
    assert last == pytest.approx(500 / (count * share), rel=0.03, abs=2 * max(1, 1 / (count * share)))


def test_as_many_as_the_limit_go_at_once_and_the_next_when_the_first_is_over():
    rates = Rates(RateLimit.parse("10/h"))
    assert [rates.reserve("", 60.0).delay_seconds for _ in range(10)] == [0] * 10
    assert rates.reserve("", 600.0).delay_seconds == 3060
    assert rates.reserve("", 3_660.0).delay_seconds == 0


def test_starts_that_share_a_mark_count_as_the_last_of_them():
    rates = Rates(RateLimit(2 * MARKS_MAX, 1.0))
    moments = [0.0, *[0.9] * (2 * MARKS_MAX - 1), *[1.0] * 4]
    starts = [rates.reserve("", now).starts_at for now in moments]
    assert starts[-4:] == [1.9, 1.9, 1.9, 1.9]


def test_a_greater_share_counts_for_new_reservations_and_a_smaller_one_too():
    rates = Rates(RateLimit(4, 1.0))
    assert [rates.reserve("", 0.0, 0.25).delay_seconds for _ in range(3)] == [0, 1, 2]
    # Three of four are taken, by the last one's moment.
    assert [rates.reserve("", 0.0, 1.0).delay_seconds for _ in range(5)] == [2, 2, 2, 3, 3]
    assert rates.reserve("", 0.0, 0.25).delay_seconds == 4


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
def test_a_share_is_a_part(share: float):
    with pytest.raises(ValueError, match="share"):
        Rates(RateLimit(4, 1.0)).reserve("", 0.0, share)


def test_what_is_given_back_is_taken_by_the_next():
    rates = Rates(RateLimit(1, 1.0))
    first, second, third = (rates.reserve("", 0.0) for _ in range(3))
    rates.give_back(third)
    rates.give_back(second)
    again = rates.reserve("", 0.0)
    assert again.delay_seconds == 1
    rates.give_back(first)
    rates.give_back(again)
    assert rates.reserve("", 0.0).delay_seconds == 0


def test_each_tenant_has_its_own_limit_when_declared_so():
    rates = Rates(RateLimit(1, 1.0, per="tenant"))
    assert [rates.reserve(tenant, 0.0).delay_seconds for tenant in ("a", "b", "a")] == [0, 0, 1]


def test_a_bucket_is_forgotten_only_when_it_is_full_again_and_who_has_no_room_shares_one():
    rates = Rates(RateLimit(1, 1.0, per="tenant"), tenants_max=2)
    assert [rates.reserve(tenant, 0.0).delay_seconds for tenant in "ab"] == [0, 0]
    assert [rates.reserve(tenant, 0.5).delay_seconds for tenant in "cdab"] == [0, 1, 0.5, 0.5]
    assert len(rates) == 2
    # The others are still counted together: a newcomer could be one of them.
    assert rates.reserve("e", 2.0).delay_seconds == 0.5
    # That is over, and so are a and b.
    assert [rates.reserve(tenant, 4.0).delay_seconds for tenant in "cd"] == [0, 0]
    assert [rates.reserve(tenant, 4.0).delay_seconds for tenant in "cd"] == [1, 1]
    assert len(rates) == 2


def test_tenants_that_call_do_not_keep_those_that_stopped_from_being_forgotten():
    rates, tenants = Rates(RateLimit(1, 1.0, per="tenant"), tenants_max=40), [str(number) for number in range(40)]
    for tenant in tenants:
        rates.reserve(tenant, 0.0)
    for tenant in tenants[:30]:
        rates.reserve(tenant, 1.5)
    assert [rates.reserve(tenant, 1.6).delay_seconds for tenant in ("new", "newer", "newest")] == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 0.6)), min_size=1, max_size=200))
@settings(deadline=None)
def test_no_tenant_exceeds_its_limit_however_many_there_are(calls: list[tuple[int, float]]):
    rates, now = Rates(RateLimit(2, 1.0, per="tenant"), tenants_max=3), 0.0
    starts: dict[int, list[float]] = {}
    for tenant, gap in calls:
        now += gap
        starts.setdefault(tenant, []).append(rates.reserve(str(tenant), now).starts_at)
        assert len(rates) <= 3
    assert all(most_in_a_window(of_one, 1.0) <= 2 for of_one in starts.values())
