"""Which calls of a message wait for which: nothing waits for itself, whatever tools declare."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from playhead_orchestrator.ordering import Order, waits

NAMES = st.sampled_from(["a", "b", "c", "d"])
ORDERS = st.builds(Order, st.lists(NAMES, max_size=3).map(tuple), st.booleans())
CALLS = st.lists(st.tuples(NAMES, ORDERS), max_size=12)


def reaches(graph: list[list[int]], start: int) -> set[int]:
    """All that a call waits for, also by way of others."""
    seen: set[int] = set()
    places = list(graph[start])
    while places:
        place = places.pop()
        if place not in seen:
            seen.add(place)
            places += graph[place]
    return seen


@given(CALLS)
def test_no_call_waits_for_itself_by_whatever_way(calls: list[tuple[str, Order]]):
    graph = waits(calls)
    assert len(graph) == len(calls)
    assert all(place not in reaches(graph, place) for place in range(len(calls)))


@given(CALLS)
def test_an_exclusive_call_has_nothing_beside_it(calls: list[tuple[str, Order]]):
    graph = waits(calls)
    for place, (_, order) in enumerate(calls):
        if order.exclusive:
            assert reaches(graph, place) >= set(range(place))
            assert all(place in reaches(graph, later) for later in range(place + 1, len(calls)))


@given(CALLS)
def test_a_call_comes_after_all_of_the_tools_it_names_unless_those_come_after_it(calls: list[tuple[str, Order]]):
    graph = waits(calls)
    for place, (_, order) in enumerate(calls):
        for other, (name, _) in enumerate(calls):
            if name in order.after and other != place:
                assert other in reaches(graph, place) or place in reaches(graph, other)


@given(st.lists(NAMES, max_size=12))
def test_calls_that_declare_nothing_wait_for_nothing(names: list[str]):
    assert waits([(name, Order()) for name in names]) == [[] for _ in names]


def test_a_call_waits_for_one_that_the_model_asked_for_later():
    assert waits([("mail", Order(("refund",))), ("refund", Order())]) == [[1], []]


def test_two_that_each_come_after_the_other_run_as_they_were_asked_for():
    assert waits([("a", Order(("b",))), ("b", Order(("a",)))]) == [[], [0]]
