"""Seats: how many may watch at once, in all and by name, counted exactly whatever order they come and go in."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead_gateway.seats import Full, Seats


def test_a_seat_is_free_again_once_who_sat_there_has_left() -> None:
    seats = Seats(1)
    with seats.seat():
        with pytest.raises(Full) as refused, seats.seat():
            pass
        assert refused.value.name is None
    with seats.seat():
        assert seats.taken == 1
    assert seats.taken == 0


def test_one_name_that_has_all_its_seats_leaves_those_of_others_alone() -> None:
    seats = Seats(10)
    with seats.seat([("key a", 1), ("tenant x", 5)]):
        with pytest.raises(Full) as refused, seats.seat([("key a", 1), ("tenant x", 5)]):
            pass
        assert refused.value.name == "key a"
        with seats.seat([("key b", 1), ("tenant x", 5)]):
            assert seats.taken == 2


def test_who_is_refused_for_one_name_takes_no_seat_of_another() -> None:
    seats = Seats(10)
    with seats.seat([("tenant x", 1)]):
        for _ in range(3):
            with pytest.raises(Full), seats.seat([("key a", 1), ("tenant x", 1)]):
                pass
        with seats.seat([("key a", 1)]):
            assert seats.taken == 2


def test_who_may_have_none_is_refused_and_leaves_no_trace() -> None:
    seats = Seats(10)
    with pytest.raises(Full), seats.seat([("key a", 0)]):
        pass
    assert seats.names == frozenset()


def test_a_seat_is_given_back_when_what_was_done_there_fails() -> None:
    seats = Seats(1)
    with pytest.raises(ValueError, match="gone"), seats.seat([("key a", 1)]):
        raise ValueError("gone")
    assert (seats.taken, seats.names) == (0, frozenset())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_name_ever_has_more_than_its_seats_and_all_are_free_at_the_end(moves: list[tuple[str, bool]]) -> None:
    seats, most = Seats(5), {"a": 1, "b": 2, "c": 4}
    sitting: list[tuple[str, ExitStack]] = []
    for name, comes in moves:
        own = [one for one in sitting if one[0] == name]
        if comes:
            stack = ExitStack()
            has_room = len(own) < most[name] and len(sitting) < 5
            try:
                stack.enter_context(seats.seat([(name, most[name])]))
                sitting.append((name, stack))
                assert has_room
            except Full:
                assert not has_room
        elif own:
            sitting.remove(own[0])
            own[0][1].close()
        assert seats.taken == len(sitting)
        assert seats.names == {name for name, _ in sitting}
    for _, stack in sitting:
        stack.close()
    assert (seats.taken, seats.names) == (0, frozenset())
