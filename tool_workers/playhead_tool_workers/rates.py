"""How long a call must wait so that its tool's rate limit holds. Pure: time comes in as seconds; nothing waits here.

A bucket remembers the starts that it gave out, so the limit holds exactly, not only on average: `10/h` lets ten calls
go at once, and the eleventh an hour after the first. Calls are spread over a pool's workers, and each keeps to its
`share` of the rate without asking the others:

- a worker with all of it (`share` 1) has at most `count` starts in any `seconds`;
- a worker with a part has at most `count * share`, rounded up, in any `seconds`, and over time not more than its part.
  So workers whose shares add to 1 together have fewer than `count` and one for each of them;
- when the share changes, what is reserved stays, and in `seconds` around the change the greater of the two holds.

What is bounded are the moments given out. Take everything else that a call needs first, and start it when it is due.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from playhead.options import RateLimit

__all__ = ["Rates", "Reservation"]

TENANTS_MAX = 10_000
"""How many tenants are counted each for itself. Those beyond are counted together, as one."""

MARKS_MAX = 64
"""How many marks a bucket keeps for one `seconds`. A limit with more starts keeps one mark for several, which may make
the first of several wait for a time that only the last would have to, and never lets more go."""

TENANTS_SWEPT_MAX = 16
"""How many tenants are looked at to find one whose bucket can be forgotten."""

ROUNDING = 1e-9
"""What floating point may add to a share of a count: a third of 3 is 1."""


@dataclass(slots=True, eq=False)
class Reservation:
    """The right to start at a moment, `delay_seconds` after it was asked for."""

    starts_at: float
    delay_seconds: float
    mark: _Mark = field(repr=False)
    returned: bool = False


class Rates:
    """The buckets of one tool in one worker: one, or one for each tenant."""

    def __init__(self, limit: RateLimit, tenants_max: int = TENANTS_MAX) -> None:
        self._limit = limit
        self._tenants_max = tenants_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._rest = _Bucket()
        """The tool's bucket, if it has one for all; else that of the tenants for whom there is no room."""

    def __len__(self) -> int:
        return len(self._buckets)

    def reserve(self, tenant: str, now: float, share: float = 1.0) -> Reservation:
        """Take the next moment at which a call may start; never before one that was reserved earlier.

        `share`, in (0, 1], is this worker's part of the pool's rate at the moment.
        """
        if not 0 < share <= 1:
            raise ValueError(f"a worker's share of a rate is in (0, 1], not {share}")
        part = self._limit.count * share
        starts = max(math.ceil(part - ROUNDING), 1)
        seconds = self._limit.seconds * max(starts / part, 1.0)
        bucket = self._rest if self._limit.per == "tool" else self._bucket(tenant, now, seconds)
        return bucket.reserve(now, starts, seconds)

    def give_back(self, reservation: Reservation) -> None:
        """Return a reservation whose call does not start. The moments of others stay as they are.

        A second time it does nothing.
        """
        if not reservation.returned:
            reservation.returned = True
            reservation.mark.starts -= 1

    def _bucket(self, tenant: str, now: float, seconds: float) -> _Bucket:
        bucket = self._buckets.get(tenant)
        if bucket is not None:
            self._buckets.move_to_end(tenant)
            return bucket
        # While others are counted together, a newcomer may be one of them: its own bucket would forget its starts.
        if not self._rest.full(now, seconds) or not self._make_room(now, seconds):
            return self._rest
        bucket = self._buckets[tenant] = _Bucket()
        return bucket

    def _make_room(self, now: float, seconds: float) -> bool:
        """Forget a tenant that has not called for longest, if its bucket is full again: that is, as good as new."""
        for _ in range(TENANTS_SWEPT_MAX):
            if len(self._buckets) < self._tenants_max:
                return True
            tenant, bucket = next(iter(self._buckets.items()))
            if bucket.full(now, seconds):
                del self._buckets[tenant]
            else:
                self._buckets.move_to_end(tenant)
        return len(self._buckets) < self._tenants_max


@dataclass(slots=True, eq=False)
class _Mark:
    """Some starts that followed each other, all counted as if they were at the last of them."""

    last: float
    starts: int


class _Bucket:
    """The starts given out lately, oldest first: as many marks as count now, and those of calls that still wait."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()

    def full(self, now: float, seconds: float) -> bool:
        """Tell whether nothing that was given out counts any more, and forget what does not."""
        while self._marks and self._marks[0].last + seconds <= now:
            self._marks.popleft()
        while self._marks and not self._marks[-1].starts:
            self._marks.pop()
        return not self._marks

    def reserve(self, now: float, starts: int, seconds: float) -> Reservation:
        """Give the first moment before which fewer than `starts` were given out in `seconds`."""
        self.full(now, seconds)
        at = max(self._free_at(starts, seconds), self._marks[-1].last if self._marks else now, now)
        if self._marks and self._marks[-1].starts < math.ceil(starts / MARKS_MAX):
            mark = self._marks[-1]
            mark.last = at
            mark.starts += 1
        else:
            mark = _Mark(at, 1)
            self._marks.append(mark)
        return Reservation(at, at - now, mark)

    def _free_at(self, starts: int, seconds: float) -> float:
        counted = 0
        for mark in reversed(self._marks):
            counted += mark.starts
            if counted >= starts:
                return mark.last + seconds
        return -math.inf
