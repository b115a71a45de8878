"""The words of the Durable Streams protocol, read by a client of a session's log: offsets, cursors, headers, and the
dialect of its server-sent events. Pure.

A session's log is a stream of the content type `application/json`, and each event is one message of it. An offset is a
native cursor whose seq is written with zeros to a fixed width, so that offsets sort as text: everything up to event 42
is `0000000000000042-9f3a2c41`. A cursor of the native protocol is taken for one as it is.

A *stream cursor* is another thing: a number by which caches tell one round of waiting from the next. It counts
intervals of 20 seconds, and is always greater than the one that the client had before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from playhead.ids import BEGINNING, Cursor, Seq, parse_cursor

from playhead_gateway.projections.native import STREAM_HEADERS
from playhead_gateway.projections.sse import HEARTBEAT, event_of, prefix_of

__all__ = ["JITTER_INTERVALS_MAX", "NOW", "DurableEvents", "Edge", "cursor_after", "cursor_at", "offset_of", "place_of"]

OFFSET_DIGITS = 16
START, NOW = "-1", "now"
"""Words for the place before everything, and for the end as it is now."""

EPOCH_SECONDS = 1_728_432_000
"""2024-10-09T00:00:00Z, from which the protocol counts."""
INTERVAL_SECONDS = 20
JITTER_INTERVALS_MAX = 180
"""An hour: how far a cursor may jump ahead of the time."""

HEADERS = {**STREAM_HEADERS, "Cache-Control": "no-cache, no-store"}
"""The protocol's suite wants to see `no-cache`; `no-store` says more."""

LAST = prefix_of("session_closed")


class Edge(Protocol):
    """The end of a log, as far as it is known now."""

    @property
    def last_seq(self) -> int:
        """The seq of the last event."""
        ...

    @property
    def closed(self) -> bool:
        """Whether nothing will follow it."""
        ...


def offset_of(cursor: Cursor) -> str:
    """Write a place in a log as an offset."""
    seq = f"{cursor.seq:0{OFFSET_DIGITS}d}"
    return seq if cursor.tag is None else f"{seq}-{cursor.tag}"


def place_of(offset: str) -> Cursor | None:
    """Read an offset; None is the end as it is now. Raises `InvalidCursor`."""
    if offset == NOW:
        return None
    return BEGINNING if offset == START else parse_cursor(offset)


def cursor_at(at: int) -> int:
    """Give the stream cursor of a time, in microseconds since 1970."""
    return max(0, (at // 1_000_000 - EPOCH_SECONDS) // INTERVAL_SECONDS)


def cursor_after(given: int | None, at: int, jitter: int) -> int:
    """Give the stream cursor for a client that had one: `jitter` intervals (at least one) ahead, if its is not past."""
    now = cursor_at(at)
    return now if given is None or given < now else given + jitter


class DurableEvents:
    """Says a session's events: a `data` event with an array of them, and always a `control` event with the offset."""

    protocol = "durable-streams"
    headers: Mapping[str, str] = HEADERS
    heartbeat = HEARTBEAT

    def __init__(self, start: Cursor, edge: Edge, cursor: Callable[[], int]) -> None:
        self.done = False
        self._seq = start.seq
        self._offset = offset_of(start)
        self._edge = edge
        self._cursor = cursor

    def opening(self) -> bytes:
        """Say where a client stands for whom there is nothing yet."""
        waits = self._seq >= self._edge.last_seq and not self._edge.closed
        return self._control() if waits else b""

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the events that come next."""
        if not frames:
            return b""
        self._seq = Seq(self._seq + len(frames))
        # Of an event that cannot be shown only the number is known: enough to go on after it.
        self._offset = _offset_in(frames[-1]) if frames[-1] else offset_of(Cursor(self._seq))
        self.done = frames[-1].startswith(LAST)
        events = b",".join([event_of(frame) for frame in frames if frame])
        data = b"event: data\ndata:[%b]\n\n" % events if events else b""
        return data + self._control(closed=self.done)

    def ending(self, last_seq: int) -> bytes:
        """Say that nothing will follow."""
        return self._control(closed=True)

    def farewell(self, reason: str) -> bytes:
        """Say nothing: the client comes back with its last offset, unless it was told that the stream is closed."""
        return b""

    def _control(self, *, closed: bool = False) -> bytes:
        told: dict[str, Any] = {"streamNextOffset": self._offset}
        if not closed:
            told["streamCursor"] = str(self._cursor())
        if closed or self._seq >= self._edge.last_seq:
            told["upToDate"] = True
        if closed:
            told["streamClosed"] = True
        return b"event: control\ndata:%b\n\n" % orjson.dumps(told)


def _offset_in(frame: bytes) -> str:
    return offset_of(parse_cursor(frame[frame.rindex(b"\nid: ") + 5 : -2].decode()))
