"""WebSocket connections that a handler can drop. Apart from the server, so that only a gateway loads the library."""

from __future__ import annotations

from typing import cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from playhead_gateway.stream import ABORT

__all__ = ["SocketConnection"]


class SocketConnection(WebSocketsSansIOProtocol):
    """A connection that need not be closed in order: that would wait for a client that may never read on."""

    def handle_connect(self, event: Request) -> None:
        """Begin a connection's scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = cast("dict[str, object]", self.scope.get("extensions"))
            extensions[ABORT] = self._abort

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the application says. A refusal ends a handshake too, or uvicorn logs an error for each."""
        if self.transport.is_closing():
            raise ClientDisconnected  # between here and when it is told of that, uvicorn loses count
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_parser_exception(self) -> None:
        """Close a connection whose bytes are no frames."""
        if self.conn.close_sent is None:
            self.transport.abort()  # they came before the handshake was answered, so there is nobody to tell
        else:
            super().handle_parser_exception()

    def _abort(self) -> None:
        self.transport.abort()
