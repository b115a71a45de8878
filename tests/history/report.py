"""What a checker found: how often each rule was put to the test, and each time that it did not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["MALFORMED", "Recovery", "Report", "percentile"]

MALFORMED = "H"
"""Not an invariant: the history itself, or a log in it, is not of the form that it should have."""

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError)
"""What Python says of data of another form than was expected."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long it took after a fault until an affected session was seen to go on."""

    kind: str
    target: str
    seconds: float


@dataclass
class Report:
    """`violations` are (invariant, one line of text); `checked` says how often each invariant was really tested."""

    violations: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    checked: Counter[str] = field(default_factory=Counter[str])
    recoveries: list[Recovery] = field(default_factory=list[Recovery])
    lines: int = 0

    @property
    def recovery_seconds(self) -> list[float]:
        """How long each recovery took."""
        return [one.seconds for one in self.recoveries]

    def hold(self, invariant: str, holds: bool, text: str) -> bool:
        """Note one test of an invariant, and whether it failed. `text` has session, seq, and what was expected."""
        self.checked[invariant] += 1
        if not holds:
            self.object(invariant, text)
        return holds

    def object(self, invariant: str, text: str) -> None:
        """Note a violation."""
        self.violations.append((invariant, " ".join(text.split())))

    @contextmanager
    def reading(self, what: str) -> Generator[None]:
        """Turn what cannot be read into a violation: the checker goes on with the next."""
        try:
            yield
        except UNREADABLE as error:
            self.object(MALFORMED, f"{what} cannot be read: {type(error).__name__}: {error}")

    def __str__(self) -> str:
        return "\n".join(f"{invariant}: {text}" for invariant, text in self.violations) or "no violation"


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least `share` (0 to 1) of all values do not exceed; 0 if there are none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
