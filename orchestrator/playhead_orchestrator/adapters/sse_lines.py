"""From the bytes of an event stream, cut anywhere, to the data of its events. Pure; knows no provider.

Only `data` is kept: the providers repeat an event's name in its JSON. Lines end with LF or CR LF; a lone CR, which the
specification (WHATWG HTML 9.2.6) also allows, is sent by no provider, and reading it would mean looking at each byte.
"""

from __future__ import annotations

__all__ = ["BODY_BYTES_MAX", "EVENT_BYTES_MAX", "SseLines", "TooLong"]

EVENT_BYTES_MAX = 16 * 1024 * 1024
"""The most bytes of one event that are held while its end has not come."""

BODY_BYTES_MAX = 256 * 1024 * 1024
"""The longest stream that is read on. Said in pieces, a message that a record can hold takes less than half of it."""


class TooLong(Exception):
    """What has no end: an event within `EVENT_BYTES_MAX`, or a message within `BODY_BYTES_MAX`."""


class SseLines:
    """Splits a stream into the data of its events, as they become whole."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._held = 0
        self._length = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what came and give the data of the events that it ends. Raises `TooLong`."""
        self._length += len(chunk)
        if self._length > BODY_BYTES_MAX:
            raise TooLong("a message")
        if self._rest:
            self._rest.append(chunk)
            if b"\n" not in chunk:  # joined once, at its end: a long line may come in very many pieces
                return self._bounded(len(chunk), [])
            chunk = b"".join(self._rest)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        self._rest, self._rest_bytes = [rest] if rest else [], 0
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line)
                self._held += len(line)
            elif self._data and (not line or line == b"\r"):
                events.append(self._event())
        return self._bounded(len(rest), events)

    def end(self) -> list[bytes]:
        """Give the event that the stream's end cut off from its blank line, if there is one: some servers forget it."""
        return self.feed(b"\n\n")

    def _bounded(self, more: int, events: list[bytes]) -> list[bytes]:
        self._rest_bytes += more
        if self._rest_bytes + self._held > EVENT_BYTES_MAX:
            raise TooLong("an event")
        return events

    def _event(self) -> bytes:
        data, self._data, self._held = self._data, [], 0
        # A JSON parser skips the space after the colon and the CR at the end, so one line needs no stripping.
        return data[0][5:] if len(data) == 1 else b"\n".join(line[5:] for line in data)
