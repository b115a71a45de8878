"""The native protocol's dialect of server-sent events: a session's own frames, perhaps not all of them, and the
gateway's words around them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from playhead.ids import SessionId

from playhead_gateway.projections.sse import HEARTBEAT, control_frame, event_of, prefix_of

__all__ = ["DELTAS", "EVERYTHING", "STREAM_HEADERS", "WORDLESS", "Choice", "Native", "farewell"]

STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}

DELTAS = ("text_delta", "thinking", "tool_input_delta")
"""What a step's `model_call_completed` supersedes."""

WORDLESS = ("behind", "conflict")
"""Reasons of which a client learns what it must when it comes back with its cursor, which it can do at once."""

RUN_ENDS = tuple(prefix_of(name) for name in ("run_completed", "run_failed", "run_cancelled"))


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events a client wants to see: `until` is the last seq, and with the end of `until_run` all is said."""

    only: tuple[bytes, ...] = ()
    never: tuple[bytes, ...] = ()
    until: int | None = None
    until_run: str | None = None

    @classmethod
    def of(cls, types: frozenset[str], *, deltas: bool = True) -> Choice:
        """Choose by the names of types (none is all), with or without deltas."""
        only = tuple(prefix_of(name) for name in sorted(types))
        return cls(only, () if deltas else tuple(prefix_of(name) for name in DELTAS))

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out and nothing ends early."""
        return not (self.only or self.never) and self.until is None and self.until_run is None

    def shows(self, frame: bytes) -> bool:
        """Tell whether a native frame is wanted."""
        if self.until is not None and frame and seq_of(frame) > self.until:
            return False  # the last one that is wanted cannot be shown
        return bool(frame) and (not self.only or frame.startswith(self.only)) and not frame.startswith(self.never)

    def ends_with(self, frame: bytes) -> bool:
        """Tell whether nothing is wanted after this frame."""
        if self.until is not None and frame and seq_of(frame) >= self.until:
            return True
        if self.until_run is None or not frame.startswith(RUN_ENDS):
            return False
        return b'"run_id":"%b"' % self.until_run.encode() in event_of(frame)


EVERYTHING = Choice()


class Native:
    """Says a session as it is. `ready` is its first frame; `retry_ms` chooses when one that is sent away comes back."""

    protocol = "sse"
    headers = STREAM_HEADERS
    heartbeat = HEARTBEAT

    def __init__(self, session: SessionId, ready: bytes, choice: Choice, retry_ms: Callable[[], int]) -> None:
        self.done = False
        self._session = session
        self._ready = ready
        self._choice = choice
        self._retry_ms = retry_ms

    def opening(self) -> bytes:
        """Give the `ready` frame."""
        return self._ready

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the frames that are wanted."""
        choice = self._choice
        if choice.is_all:
            return b"".join(frames)
        said: list[bytes] = []
        for frame in frames:
            if choice.shows(frame):
                said.append(frame)
            if choice.ends_with(frame):
                self.done = True
                said.append(control_frame("end", self._session, last_seq=seq_of(frame), reason="until"))
                break
        return b"".join(said)

    def ending(self, last_seq: int) -> bytes:
        """Say that the session is over."""
        return control_frame("end", self._session, last_seq=last_seq)

    def farewell(self, reason: str) -> bytes:
        """Say goodbye for now, if it is the gateway that goes."""
        return b"" if reason in WORDLESS else farewell(self._session, reason, self._retry_ms())


def farewell(session: SessionId, reason: str, retry_ms: int) -> bytes:
    """Say goodbye for now. Its `retry` is within an event: stock clients stumble over one that stands alone."""
    return control_frame("draining", session, retry_ms=retry_ms, reason=reason)


def seq_of(frame: bytes) -> int:
    """Give the seq in a native frame's id."""
    start = frame.rindex(b"\nid: ") + 5
    return int(frame[start : frame.index(b"-", start)])
