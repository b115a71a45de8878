"""How long to wait before trying again. Pure: chance comes in as a number."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_seconds` and never exceed `max_seconds`."""

    first_seconds: float = 0.5
    max_seconds: float = 30.0

    def delay_seconds(self, failures: int, jitter: float) -> float:
        """Give the wait after this many failures (1 or more); `jitter` in [0, 1) picks from its upper half.

        Half of it is chance, so that those that failed together do not come back together.
        """
        doublings = min(failures - 1, 60)
        full = min(self.first_seconds * 2**doublings, self.max_seconds)
        return full * (0.5 + 0.5 * jitter)
