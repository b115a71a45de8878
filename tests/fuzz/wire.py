"""A gateway as its connections have it, without a network: bytes in, bytes out, and the end of a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.events import Json, QuestionAsked
from playhead.ids import SessionId
from playhead_gateway.app import GatewayParts, create_app
from playhead_gateway.connection import Connection
from playhead_gateway.sockets.connection import SocketConnection
from uvicorn.server import ServerState

from tests.gateway.support import CLOSED, OWNED, RUN, STARTED, World, a_turn

__all__ = ["CLOSED_SESSION", "LIMITS", "OPEN_SESSION", "Serving", "Site", "a_site", "serving"]

OPEN_SESSION = SessionId("ses_" + "o" * 26)
CLOSED_SESSION = SessionId("ses_" + "c" * 26)
QUESTION = QuestionAsked(RUN, 1, 1, "q_1", Json('"Sure?"'))

LIMITS: dict[str, Any] = {
    "wait_seconds_max": 0.01,
    "response_seconds_max": 0.01,
    "settle_seconds": 0.001,
    "linger_seconds": 0.0,
}
"""Nothing happens here that could be waited for."""

STREAM_SECONDS = 0.02
"""How long an answer that does not end is listened to."""

LEAVE_SECONDS_MAX = 3.0
"""How long what served a connection may go on after its end."""


class Counting(MemoryQueue):
    """A queue that counts what is put into it."""

    published = 0

    async def publish(self, topic: str, key: str, value: bytes, headers: Any = None) -> None:
        await super().publish(topic, key, value)
        self.published += 1


@dataclass
class Site:
    """What a gateway stands on: an open session with a question in it, and a closed one."""

    world: World
    queue: Counting

    @property
    def published(self) -> int:
        return self.queue.published


async def a_site() -> Site:
    queue = Counting()
    world = World(MemorySessionLog(), queue)
    await queue.prepare(*world.topics.fixed)
    for session, last in ((OPEN_SESSION, QUESTION), (CLOSED_SESSION, CLOSED)):
        await world.log.create(session)
        await world.write(session, STARTED, OWNED, *a_turn(session), last)
    return Site(world, queue)


@dataclass
class Wire(asyncio.Transport):
    """A connection: what was written, and whether it is closed."""

    protocol: asyncio.BaseProtocol | None = None
    written: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 4141)}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        assert self.protocol is not None
        self.protocol.connection_lost(None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Errors(logging.Handler):
    """What the server logs as an error: nothing that a stranger sends should be one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


@dataclass
class Serving:
    """A gateway to talk to."""

    app: FastAPI
    config: uvicorn.Config
    state: ServerState
    errors: Errors

    async def talk(self, pieces: Sequence[bytes], *, listens: bool = True) -> bytes:
        """Open a connection, send, listen until all is answered or a while (or not at all), hang up; give what came."""
        wire = Wire()
        wire.protocol = Connection(self.config, self.state, {})
        wire.protocol.connection_made(wire)
        for piece in pieces:
            if not wire.closed and piece:
                cast("asyncio.Protocol", wire.protocol).data_received(piece)
                await asyncio.sleep(0)
        patience = asyncio.get_running_loop().time() + STREAM_SECONDS
        while listens and self.state.tasks and asyncio.get_running_loop().time() < patience:
            await asyncio.wait(list(self.state.tasks), timeout=STREAM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        wire.close()
        await asyncio.sleep(0)
        if self.state.tasks:
            _, left = await asyncio.wait(list(self.state.tasks), timeout=LEAVE_SECONDS_MAX)
            assert not left, f"what served a connection that is gone goes on: {left}"
        assert not self.errors.told, self.errors.told
        return bytes(wire.written)


@asynccontextmanager
async def serving(parts: GatewayParts) -> AsyncGenerator[Serving, None]:
    app = create_app(parts)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws=SocketConnection,
        ws_max_size=parts.limits.body_bytes_max,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    config.load()
    errors, server = Errors(), logging.getLogger("uvicorn.error")
    server.addHandler(errors)
    server.propagate = False
    try:
        async with app.router.lifespan_context(app):
            yield Serving(app, config, ServerState(), errors)
    finally:
        server.propagate = True
        server.removeHandler(errors)
