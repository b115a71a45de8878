"""One HTTP connection, with what ASGI has no words for: dropping it, and writing a part of a body without waiting."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from playhead_gateway.problems import Problem, problem_response
from playhead_gateway.stream import ABORT
from playhead_gateway.tail import DIRECT

__all__ = ["Connection"]


HEAD_BYTES_MAX = 64 * 1024
"""The longest head of a request, its first line and headers: what is read of it before it is whole stays in memory."""

LAST_WORDS_SECONDS = 2.0
"""How long what a refused client still sends is read and thrown away."""

HEAD_SECONDS_MAX = 10.0
"""How long a head may take from its first byte, or from the beginning of the connection."""


def _too_large() -> bytes:
    detail = f"the head of a request has at most {HEAD_BYTES_MAX} bytes"
    response = problem_response(Problem(431, "head-too-large", detail, headers={"Connection": "close"}))
    headers = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 431 Request Header Fields Too Large\r\n%b\r\n%b" % (headers, bytes(response.body))


TOO_LARGE = _too_large()


class Connection(HttpToolsProtocol):
    """A connection that a response can drop, and write to directly, and whose requests have heads of bounded size.

    Closing in order waits for a client that may never read on. And a message that is sent goes through every layer of
    the application, each a coroutine: with a thousand viewers that is more than what the network costs.
    """

    _head_bytes = 0
    _is_in_head = True
    _is_refused = False
    _begins = False
    _impatience: asyncio.TimerHandle | None = None
    _going_on: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """Begin a connection, and wait for its first head."""
        super().connection_made(transport)
        self._impatience = self.loop.call_later(HEAD_SECONDS_MAX, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Read on. What comes while a head goes on is counted."""
        if self._is_refused or self.transport.is_closing():
            return
        self._begins = False
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += 0 if self._begins else len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """End. A response that goes on while another request waits behind it is told as well."""
        self._be_patient()
        super().connection_lost(exc)
        going_on, self._going_on = self._going_on, None
        if going_on is not None and not going_on.response_complete:
            going_on.disconnected = True
            going_on.message_event.set()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_head = False
        self._be_patient()
        before = self.cycle  # none before the first request, though uvicorn's annotation denies it
        super().on_headers_complete()
        if self._going_on is None or self._going_on.response_complete:
            # uvicorn itself forgets the response that is being written once another request is read behind it.
            self._going_on = before if before and not before.response_complete else self.cycle

    def on_message_begin(self) -> None:
        """Begin a request's scope."""
        super().on_message_begin()
        self._is_in_head = self._begins = True
        self._head_bytes = 0
        if self._impatience is None:
            self._impatience = self.loop.call_later(HEAD_SECONDS_MAX, self._give_up)
        self.scope["extensions"] = {ABORT: self._abort, DIRECT: self}  # pyright: ignore[reportGeneralTypeIssues] - typed otherwise

    @property
    def has_room(self) -> bool:
        """Whether a part of the body can be written now. Never while another request waits behind this response."""
        cycle = self.cycle
        is_open = cycle.response_started and not (cycle.response_complete or cycle.disconnected)
        return is_open and cycle.chunked_encoding is True and not self.flow.write_paused

    def write_part(self, data: bytes) -> None:
        """Write a part of the body, where there is room: at least a byte."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _refuse(self) -> None:
        """Say why, and let the client read it: a connection that is closed while it still sends is reset."""
        self._is_refused = True
        self._be_patient()
        self.transport.write(TOO_LARGE)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._impatience = self.loop.call_later(LAST_WORDS_SECONDS, self._give_up)

    def _be_patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _give_up(self) -> None:
        """Close a connection that says nothing, or says it too slowly, as one does that has been idle for too long."""
        self._impatience = None
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()
