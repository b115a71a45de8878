"""A tool's circuit breaker: whether to try it at all, by how its last tries went. Pure: time comes in as seconds.

Closed, all calls go. After so many failed tries in a row it is open, and none goes. When its time is over it is half
open: one call goes as a probe, and how that ends closes it or opens it again. Each admission belongs to the period in
which it was given, and every change of state, and every probe, starts a new period; so a try that ends late, long after
others have decided, decides nothing. What counts as a failure of the tool is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from playhead.options import Breaker

__all__ = ["Admission", "Admitted", "CircuitBreaker", "Refused", "State"]

State = Literal["closed", "open", "half_open"]

PROBE_SECONDS = 600.0
"""After how long a probe that nobody settled counts as lost, where the caller does not know better."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call may be tried. It is settled once: by `succeeded`, `failed` or `withdrawn`."""

    period: int
    probe: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A call may not be tried. In `seconds` it makes sense to ask again, and not before."""

    seconds: float


Admission = Admitted | Refused


class CircuitBreaker:
    """The breaker of one tool in one worker.

    `probe_seconds` is the longest that a try can take: a probe that is not settled by then is lost, and another goes.
    """

    def __init__(self, breaker: Breaker, probe_seconds: float = PROBE_SECONDS) -> None:
        self._breaker = breaker
        self._probe_seconds = probe_seconds
        self._period = 0
        self._failures = 0
        self._reopens_at: float | None = None
        """Open until then, and half open from then on; `None` while closed."""
        self._probe_lost_at: float | None = None
        """Until then a probe is on its way."""

    def state(self, now: float) -> State:
        """Tell how it stands."""
        if self._reopens_at is None:
            return "closed"
        return "open" if now < self._reopens_at else "half_open"

    def opens_in(self, now: float) -> float | None:
        """Give the seconds until it is half open; `None` if it is not open."""
        return None if self._reopens_at is None or now >= self._reopens_at else self._reopens_at - now

    def admit(self, now: float) -> Admission:
        """Decide about one try of a call."""
        if self._reopens_at is None:
            return Admitted(self._period, probe=False)
        if now < self._reopens_at:
            return Refused(self._reopens_at - now)
        if self._probe_lost_at is not None and now < self._probe_lost_at:
            # A probe that fails right now would open the breaker for its whole time; one that works, at once close it.
            return Refused(min(self._probe_lost_at - now, self._breaker.seconds))
        self._period += 1
        self._probe_lost_at = now + self._probe_seconds
        return Admitted(self._period, probe=True)

    def succeeded(self, admitted: Admitted) -> None:
        """The try worked, or failed in a way that speaks for the tool: it answers."""
        if admitted.period != self._period:
            return
        self._failures = 0
        if admitted.probe:
            self._period += 1
            self._reopens_at = self._probe_lost_at = None

    def failed(self, admitted: Admitted, now: float) -> None:
        """The try failed in a way that speaks against the tool."""
        if admitted.period != self._period:
            return
        self._failures += 1
        if admitted.probe or self._failures >= self._breaker.failures:
            self._period += 1
            self._reopens_at = now + self._breaker.seconds
            self._probe_lost_at = None

    def withdrawn(self, admitted: Admitted) -> None:
        """The try says nothing of the tool: it was cancelled, or never began. A probe gives its place back."""
        if admitted.probe and admitted.period == self._period:
            self._period += 1
            self._probe_lost_at = None
