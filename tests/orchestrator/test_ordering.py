"""Which calls of one message wait for which."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead_orchestrator.ordering import UNORDERED, Order, waits

NAMES = ("a", "b", "c", "d")
ORDERS = st.builds(Order, st.lists(st.sampled_from(NAMES), max_size=3).map(tuple), st.booleans())
TOOLS = st.fixed_dictionaries(dict.fromkeys(NAMES, ORDERS))
"""What each tool declares: every call of it comes with the same."""

MESSAGES = TOOLS.flatmap(
    lambda tools: st.lists(st.sampled_from(NAMES), max_size=8).map(
        lambda names: [(name, tools[name]) for name in names]
    )
)

Calls = list[tuple[str, Order]]


def reached(graph: list[list[int]], start: int) -> set[int]:
    """All that a call waits for, by way of others too."""
    seen, left = set[int](), list(graph[start])
    while left:
        place = left.pop()
        if place not in seen:
            seen.add(place)
            left += graph[place]
    return seen


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_no_call_waits_for_itself_by_whatever_way(calls: Calls) -> None:
    graph = waits(calls)
    assert len(graph) == len(calls)
    for place in range(len(calls)):
        assert place not in reached(graph, place)


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_an_exclusive_call_runs_beside_no_other(calls: Calls) -> None:
    graph = waits(calls)
    for place, (_, order) in enumerate(calls):
        if order.exclusive:
            assert set(range(place)) <= set(graph[place]), "what came before it may still run"
            assert all(place in graph[later] for later in range(place + 1, len(calls))), "what comes next runs with it"


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_a_call_comes_after_those_that_it_names_unless_they_come_after_it(calls: Calls) -> None:
    graph = waits(calls)
    for place, (_, order) in enumerate(calls):
        for other, (name, _) in enumerate(calls):
            if other != place and name in order.after:
                assert other in graph[place] or place in reached(graph, other)


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_calls_wait_for_nothing_that_nobody_declared(calls: Calls) -> None:
    graph = waits(calls)
    for place, (_, order) in enumerate(calls):
        for other in graph[place]:
            name, others_order = calls[other]
            assert name in order.after or (other < place and (order.exclusive or others_order.exclusive))


AFTER_B = Order(("b",))
ALONE = Order((), exclusive=True)


EXAMPLES: list[tuple[Calls, list[list[int]]]] = [
    ([], []),
    ([("a", UNORDERED), ("b", UNORDERED)], [[], []]),
    ([("b", UNORDERED), ("a", AFTER_B)], [[], [0]]),
    ([("a", AFTER_B), ("b", UNORDERED), ("b", UNORDERED)], [[1, 2], [], []]),
    ([("a", AFTER_B), ("b", Order(("a",)))], [[], [0]]),
    ([("a", AFTER_B), ("c", Order(("a",))), ("b", Order(("c",)))], [[], [0], [1]]),
    ([("a", Order(("a",))), ("a", Order(("a",)))], [[], [0]]),
    ([("b", UNORDERED), ("a", ALONE), ("b", UNORDERED), ("c", UNORDERED)], [[], [0], [1], [1]]),
    ([("a", AFTER_B), ("c", ALONE), ("b", UNORDERED)], [[], [0], [1]]),
]


@pytest.mark.parametrize(("calls", "expected"), EXAMPLES)
def test_what_waits_for_what(calls: Calls, expected: list[list[int]]) -> None:
    assert waits(calls) == expected
