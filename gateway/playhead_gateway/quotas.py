"""How much of the gateway somebody may take: rates as buckets that fill up again, and counts. Pure: time comes in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from playhead.options import RateLimit

__all__ = ["UNBOUNDED", "Buckets", "Level", "Quotas", "rate_headers"]


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a key or a tenant may take of the gateway; `None` is as much as there is.

    `requests` and `messages` are rates; of `streams`, `sessions` and `runs`, how many may be open at once.
    """

    requests: RateLimit | None = None
    messages: RateLimit | None = None
    streams: int | None = None
    sessions: int | None = None
    runs: int | None = None


UNBOUNDED = Quotas()


@dataclass(frozen=True, slots=True)
class Level:
    """How a bucket stands: how many more may be had now, and in how many seconds one more, and all, can be."""

    name: str
    limit: RateLimit
    remaining: int
    next_in: float
    full_in: float


class Buckets:
    """One bucket for each name: full at first, and filled again steadily. Holds `most` at a time, the latest used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[tuple[str, RateLimit], tuple[float, float]] = OrderedDict()

    def take(self, wanted: Sequence[tuple[str, str, RateLimit]], now: float) -> tuple[list[Level], Level | None]:
        """Take one from each bucket, or none from any; give how they stand then, and which one was empty.

        Each is wanted by what it is called, whose it is and its limit. `now` is a steady clock's time in seconds.
        """
        content = [(self._content(f"{name} {whose}", limit, now), name, limit) for name, whose, limit in wanted]
        empty = next((_level(held, name, limit) for held, name, limit in content if held < 1), None)
        taken = 0 if empty is not None else 1
        levels: list[Level] = []
        for (held, _, _), (name, whose, limit) in zip(content, wanted, strict=True):
            self._keep((f"{name} {whose}", limit), held - taken, now)
            levels.append(_level(held - taken, name, limit))
        return levels, empty

    def _content(self, name: str, limit: RateLimit, now: float) -> float:
        held, at = self._held.get((name, limit), (float(limit.count), now))
        return min(float(limit.count), held + max(0.0, now - at) * limit.count / limit.seconds)

    def _keep(self, key: tuple[str, RateLimit], held: float, now: float) -> None:
        self._held[key] = (held, now)
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)


def rate_headers(levels: Sequence[Level], empty: Level | None) -> Mapping[str, str]:
    """Say by headers how buckets stand, as the draft `ietf-httpapi-ratelimit-headers` has it, and when to ask again."""
    if not levels:
        return {}
    policies = ", ".join(f'"{one.name}";q={one.limit.count};w={ceil(one.limit.seconds)}' for one in levels)
    shown = ", ".join(f'"{one.name}";r={one.remaining};t={ceil(one.full_in)}' for one in levels)
    retry = {} if empty is None else {"Retry-After": str(max(1, ceil(empty.next_in)))}
    return {"RateLimit-Policy": policies, "RateLimit": shown, **retry}


def _level(held: float, name: str, limit: RateLimit) -> Level:
    seconds_each = limit.seconds / limit.count
    return Level(name, limit, int(held), max(0.0, 1 - held) * seconds_each, (limit.count - held) * seconds_each)
