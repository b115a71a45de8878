"""The OpenAI Responses API: a response as a stream of server-sent events, or whole as one JSON document. Pure dialects.

A frame is `event` and one `data` line, LF only. There is no `id` and no `retry`: the stock client takes a heartbeat
that follows the one, and a block of the other, for an event without data, and fails on it. Comments alone it passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from playhead_gateway.projections.native import STREAM_HEADERS
from playhead_gateway.projections.responses_items import Said
from playhead_gateway.projections.responses_run import Telling
from playhead_gateway.projections.sse import HEARTBEAT, LINE_BREAKS, event_of, prefix_of

__all__ = ["ResponseStream", "WholeResponse"]

BEGINNING = prefix_of("session_started")

JSON_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class ResponseStream:
    """Says a response event by event: those whose `sequence_number` is above `starting_after`."""

    protocol = "responses"
    headers: Mapping[str, str] = STREAM_HEADERS
    heartbeat = HEARTBEAT

    def __init__(self, telling: Telling, starting_after: int = -1) -> None:
        self.done = False
        self._telling = telling
        self._last = starting_after

    def opening(self) -> bytes:
        """Give nothing: what comes first depends on the log."""
        return b""

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say what of the native frames is of this response."""
        said: list[bytes] = []
        for event in _told(self._telling, frames):
            if event["sequence_number"] > self._last:
                self._last = event["sequence_number"]
                said.append(_frame(event))
        self.done = self._telling.is_over or self._telling.is_missing
        if self._telling.is_missing:
            said.append(self._error("response_not_found", f"the run ended without {self._telling.name}"))
        return b"".join(said)

    def ending(self, last_seq: int) -> bytes:
        """Say that a response which has not ended by now never will: the session is closed."""
        return self._error("response_not_found", f"the session is closed, and has no {self._telling.name}")

    def farewell(self, reason: str) -> bytes:
        """Say that the stream ends and the response does not. The number is that of the last event, to go on after."""
        return self._error(f"stream_{reason}", "the response goes on; retrieve it with starting_after to see the rest")

    def _error(self, code: str, message: str) -> bytes:
        error = {"type": "error", "sequence_number": self._last, "code": code, "message": message, "param": None}
        return _frame(error)


class WholeResponse:
    """Says a response as one JSON document, once it is over. While it is not, white space keeps the connection."""

    protocol = "responses"
    headers: Mapping[str, str] = JSON_HEADERS
    heartbeat = b"\n"

    def __init__(self, telling: Telling) -> None:
        self.done = False
        self._telling = telling

    def opening(self) -> bytes:
        """Give nothing yet."""
        return b""

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the response if the frames bring its end."""
        _told(self._telling, frames)
        self.done = self._telling.is_over
        return orjson.dumps(self._telling.response()) if self.done else b""

    def ending(self, last_seq: int) -> bytes:
        """Say that there will be no answer: the session was closed first."""
        error = {"code": "server_error", "message": "the session was closed before this was begun"}
        return orjson.dumps(self._telling.response() | {"status": "failed", "error": error})

    def farewell(self, reason: str) -> bytes:
        """Say the response as it stands: who asked can retrieve the rest."""
        return orjson.dumps(self._telling.response())


def _told(telling: Telling, frames: Sequence[bytes]) -> list[Said]:
    run = telling.name.run.encode()
    told: list[Said] = []
    for frame in frames:
        if run in frame or frame.startswith(BEGINNING):
            told += telling.take(orjson.loads(event_of(frame)))
    return told


def _frame(event: Said) -> bytes:
    data = orjson.dumps(event)
    if not data.isascii():
        for raw, escaped in LINE_BREAKS:
            data = data.replace(raw, escaped)
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data)
