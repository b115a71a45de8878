"""A session over a WebSocket, both ways: its events out, with the same cursors as everywhere, and commands in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import orjson
from playhead.errors import PlayheadError
from playhead.ids import SessionId, parse_session_id
from playhead.telemetry import logger
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketState

from playhead_gateway.bodies import parsed
from playhead_gateway.entry import principal_of
from playhead_gateway.fanout import SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.problems import Problem, document_of, problem_of, problem_response
from playhead_gateway.projections.messages import Messages, message
from playhead_gateway.projections.native import EVERYTHING, Native, farewell
from playhead_gateway.sockets.commands import Commands
from playhead_gateway.speech import SessionSpeech
from playhead_gateway.stream import ABORT, retry_ms
from playhead_gateway.tail import Send, Viewer
from playhead_gateway.walk import Dropped
from playhead_gateway.watch import messages_of

__all__ = ["socket_routes"]

PATH = "/v1/sessions/{session}/ws"
SUBPROTOCOL = "playhead"

NORMAL, GOING_AWAY, POLICY, TRY_LATER = 1000, 1001, 1008, 1013
CLOSE_CODES = {"draining": GOING_AWAY, "expired": POLICY, "conflict": POLICY}
"""Why a socket is closed early, by reason; for all others, whoever comes back later will be served."""

_log = logger("playhead.gateway")


def socket_routes(gateway: Gateway) -> list[BaseRoute]:
    """Make the WebSocket route."""

    async def endpoint(socket: WebSocket) -> None:
        await Socket(gateway, socket).serve()

    return [WebSocketRoute(PATH, endpoint, name="session over a WebSocket")]


class SocketViewer(Viewer):
    """A viewer at a WebSocket: each line is a message. What it is told and what it is answered take turns."""

    def __init__(self, send: Send, patience: asyncio.Timeout) -> None:
        super().__init__(send, patience)
        self._turn = asyncio.Lock()
        self._sends = send

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send messages."""
        async with self._turn:
            await super().write(data, more=more)

    async def _put(self, data: bytes, *, more: bool) -> None:
        for line in data.split(b"\n"):
            if line:
                await self._sends({"type": "websocket.send", "text": line.decode()})


class Socket:
    """One connection."""

    def __init__(self, gateway: Gateway, socket: WebSocket) -> None:
        self._gateway = gateway
        self._socket = socket

    async def serve(self) -> None:
        """Answer the handshake, then talk until either side ends it."""
        clients = self._gateway.telemetry.stream_clients.labels(Messages.protocol)
        try:
            session = parse_session_id(str(self._socket.path_params["session"]))
            await self._gateway.entry.admit(self._socket, "sessions:read", f"WS {PATH}")
            speech = await messages_of(self._gateway, session, self._socket)
        except Problem as problem:
            await self._socket.send_denial_response(problem_response(problem))
            return
        except PlayheadError as error:
            await self._socket.send_denial_response(problem_response(problem_of(error)))
            return
        offered = cast("list[str]", self._socket.scope.get("subprotocols", []))
        await self._socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if isinstance(speech, str):
            await self._leave(session, speech)
            return
        clients.inc()
        try:
            await self._talk(session, speech)
        except (Dropped, SentAway) as dropped:
            self._gateway.telemetry.stream_dropped.labels(dropped.reason).inc()
            await self._send_away(session, dropped.reason)
        finally:
            clients.dec()

    async def _talk(self, session: SessionId, speech: SessionSpeech) -> None:
        commands = Commands(self._gateway, session, principal_of(self._socket))
        try:
            async with asyncio.timeout(None) as patience:
                viewer = SocketViewer(self._socket.send, patience)
                with self._gateway.fanout.attach(viewer, speech.tails, speech.names):
                    async with asyncio.TaskGroup() as group:
                        listening = group.create_task(self._listen(viewer, commands))
                        await speech.hold(viewer)
                        listening.cancel()
        except TimeoutError:
            raise Dropped("slow") from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        if not viewer.gone:
            await self._socket.close(NORMAL)

    async def _listen(self, viewer: Viewer, commands: Commands) -> None:
        """Take commands one after the other: who sends faster than they are carried out, is read more slowly."""
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                viewer.leave()
                return
            text = received.get("text")
            said: str | bytes = received["bytes"] if text is None else text
            await viewer.write(await self._answer(commands, said))

    async def _answer(self, commands: Commands, text: str | bytes) -> bytes:
        ref: object = None
        try:
            value = parsed(text, self._gateway.limits)
            given = cast("dict[str, object]", value) if isinstance(value, dict) else {}
            ref = given.get("ref")
            return message("ack", orjson.dumps({"ref": ref, **await commands.take(given)}))
        except Problem as problem:
            refused = problem
        except PlayheadError as error:
            refused = problem_of(error)
            if refused.status == 500:
                _log.exception("a command failed", session=self._socket.path_params["session"])
        return message("refused", orjson.dumps({"ref": ref if isinstance(ref, str) else None, **document_of(refused)}))

    async def _send_away(self, session: SessionId, reason: str) -> None:
        if reason != "slow":
            try:
                async with asyncio.timeout(self._gateway.limits.send_timeout_seconds):
                    await self._leave(session, reason)
                return
            except TimeoutError:
                pass  # it does not even take its last words
        abort = cast("Callable[[], None] | None", self._socket.scope.get("extensions", {}).get(ABORT))
        if abort is not None:
            abort()

    async def _leave(self, session: SessionId, reason: str) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        native = Native(session, farewell(session, reason, retry_ms(self._gateway.limits)), EVERYTHING, lambda: 0)
        for line in Messages(native).opening().split(b"\n"):
            if line:
                await self._socket.send_text(line.decode())
        await self._socket.close(CLOSE_CODES.get(reason, TRY_LATER))
