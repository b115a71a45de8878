"""Which calls of one message wait for which: from what their tools declare to a graph that has no circle. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["UNORDERED", "Order", "waits"]


@dataclass(frozen=True, slots=True)
class Order:
    """What a tool declares: it comes after calls of these tools, and alone if `exclusive`."""

    after: tuple[str, ...] = ()
    exclusive: bool = False


UNORDERED = Order()


def waits(calls: Sequence[tuple[str, Order]]) -> list[list[int]]:
    """Give for each call, by name and order, the places of those that it waits for.

    An exclusive call waits for all before it, and all behind it wait for it. A call waits for those of the tools that
    it comes `after`, wherever they stand, unless they wait for it already: two tools that each come after the other run
    in the order in which they were asked for.
    """
    found: list[set[int]] = [set() for _ in calls]
    for place, (_, order) in enumerate(calls):
        for earlier in range(place):
            name, other = calls[earlier]
            if order.exclusive or other.exclusive or name in order.after:
                found[place].add(earlier)
    for place, (_, order) in enumerate(calls):
        for later in range(place + 1, len(calls)):
            if calls[later][0] in order.after and not _reaches(found, later, place):
                found[place].add(later)
    return [sorted(places) for places in found]


def _reaches(graph: Sequence[set[int]], start: int, goal: int) -> bool:
    """Tell whether `start` waits for `goal`, perhaps by way of others."""
    seen, open_places = {start}, [start]
    while open_places:
        for place in graph[open_places.pop()] - seen:
            if place == goal:
                return True
            seen.add(place)
            open_places.append(place)
    return False
