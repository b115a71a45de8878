"""One HTTP connection, with what ASGI has no words for: dropping it, and writing a part of a body without waiting."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from playhead_gateway.stream import ABORT
from playhead_gateway.tail import DIRECT

__all__ = ["Connection"]


class Connection(HttpToolsProtocol):
    """A connection that a response can drop, and write to directly.

    Closing in order waits for a client that may never read on. And a message that is sent goes through every layer of
    the application, each a coroutine: with a thousand viewers that is more than what the network costs.
    """

    def on_message_begin(self) -> None:
        """Begin a request's scope."""
        super().on_message_begin()
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

    def _abort(self) -> None:
        self.transport.abort()
