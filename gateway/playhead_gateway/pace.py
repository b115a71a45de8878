"""Replaying at the speed at which it happened, or faster. Pure: the recorded times and a clock's come in."""

from __future__ import annotations

import orjson

from playhead_gateway.projections.sse import event_of

__all__ = ["SILENCE_SECONDS_MAX", "SPEED_MAX", "Pace"]

SPEED_MAX = 1_000.0
"""The fastest pace that can be asked for; without one everything comes as fast as it is read."""

SILENCE_SECONDS_MAX = 10.0
"""How long a replay is silent at most: nobody waits for the days between two messages."""


class Pace:
    """When each event of a session is due, from their recorded times; `speed` is a multiple of those."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._at: int | None = None
        self._due = 0.0

    def wait(self, frame: bytes, now: float) -> float:
        """Tell for how many seconds a native frame must still wait; `now` is a steady clock's time."""
        at = _at(frame)
        if at is None:
            return 0.0
        if self._at is None:
            self._at, self._due = at, now
        elif at != self._at:
            # Recorded times may step back: they are for people, and order is by seq.
            silence = max(0, at - self._at) / 1_000_000 / self._speed
            self._at, self._due = at, self._due + min(silence, SILENCE_SECONDS_MAX)
        return self._due - now


def _at(frame: bytes) -> int | None:
    return int(orjson.loads(event_of(frame))["at"]) if frame else None
