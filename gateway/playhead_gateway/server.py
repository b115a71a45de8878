"""Serving an application over HTTP until told to stop: bind, say where, drain, close within the grace."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from playhead.errors import Misconfigured
from starlette.applications import Starlette
from starlette.types import ASGIApp

from playhead_gateway.connection import Connection

if TYPE_CHECKING:
    from playhead_gateway.gateway import Gateway, GatewayParts

__all__ = ["Address", "Tls", "serve", "serve_app"]

BACKLOG = 2048

UNSENT_BYTES_MAX = 128 * 1024
"""What the kernel takes of a connection before it can send it. A viewer that does not read on would else have some
megabytes there, as much as it has of this process."""

PING_SECONDS, PONG_SECONDS = 10.0, 20.0
"""How often a WebSocket is asked for a sign of life, and how long that may take."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a certificate, with all that leads to it, and of its private key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Read both. Raises `Misconfigured`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # an SSLError is one
            reason = error.strerror or str(error)
            raise Misconfigured(
                f"cannot use the certificate {self.certificate} with the key {self.key}: {reason}; both are PEM files"
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Loopback unless somebody says otherwise; port 0 is any free one; with `tls`, for that alone.

    On `grpc_port`, if there is one, a gateway serves gRPC as well.
    """

    host: str = "127.0.0.1"
    port: int = 4141
    tls: Tls | None = None
    grpc_port: int | None = None

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"{'http' if self.tls is None else 'https'}://{self}"

    def at(self, port: int) -> str:
        """Name a port of the same host."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    def __str__(self) -> str:
        return self.at(self.port)


@dataclass(frozen=True, slots=True)
class Served:
    """An application that can be drained, and what runs around it, which may have a port of its own."""

    app: ASGIApp
    running: Callable[[], AbstractAsyncContextManager[int | None]]
    drain: Callable[[], None]
    sockets: type[asyncio.Protocol] | None = None
    message_bytes_max: int = 0


async def serve(
    parts: GatewayParts,
    where: Address,
    *,
    stop: asyncio.Event,
    grace_seconds: float,
    on_ready: Callable[[Address], None] = lambda _: None,
) -> None:
    """Serve a gateway until `stop` is set; then send viewers away and close, within the grace.

    `on_ready` is told the address that is bound, once connections are accepted. Raises `Misconfigured`.
    """
    # Imported here, so that a role which serves its probes alone does not load FastAPI.
    from playhead_gateway.app import create_app  # noqa: PLC0415
    from playhead_gateway.gateway import Gateway  # noqa: PLC0415
    from playhead_gateway.sockets.connection import SocketConnection  # noqa: PLC0415

    gateway = Gateway(parts)
    app, bytes_max = create_app(gateway), parts.limits.body_bytes_max

    @asynccontextmanager
    async def running() -> AsyncGenerator[int | None, None]:
        async with gateway.running(), _grpc(gateway, app, where, grace_seconds) as port:
            yield port

    served = Served(app, running, gateway.drain, SocketConnection, bytes_max)
    await _serve(served, where, stop, grace_seconds, on_ready)


async def serve_app(
    app: Starlette,
    where: Address,
    *,
    stop: asyncio.Event,
    grace_seconds: float = 1.0,
    on_ready: Callable[[Address], None] = lambda _: None,
) -> None:
    """Serve another application in the same way, such as the probes of a role. Raises `Misconfigured`."""

    @asynccontextmanager
    async def running() -> AsyncGenerator[None, None]:
        async with app.router.lifespan_context(app):
            yield None

    await _serve(Served(app, running, lambda: None), where, stop, grace_seconds, on_ready)


async def _serve(
    served: Served,
    where: Address,
    stop: asyncio.Event,
    grace_seconds: float,
    on_ready: Callable[[Address], None],
) -> None:
    context = None if where.tls is None else where.tls.context()
    listening = await _bind(where)
    bound = replace(where, port=listening.getsockname()[1])
    config = uvicorn.Config(
        served.app,
        http=Connection,
        ws=served.sockets or "none",
        ws_max_size=served.message_bytes_max,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,  # it costs more than it saves on small messages
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, ceil(grace_seconds)),
        ssl_context_factory=None if context is None else partial(_ready_made, context),
    )
    async with served.running() as grpc_port, asyncio.TaskGroup() as group:
        server = Server(config, lambda: on_ready(replace(bound, grpc_port=grpc_port)))
        group.create_task(server.serve(sockets=[listening]), name=f"http on {bound}")
        await stop.wait()
        served.drain()
        server.should_exit = True


@asynccontextmanager
async def _grpc(
    gateway: Gateway, app: ASGIApp, where: Address, grace_seconds: float
) -> AsyncGenerator[int | None, None]:
    if where.grpc_port is None:
        yield None
        return
    try:
        from playhead_gateway.grpc.server import Listening, serving_grpc  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Misconfigured(f"gRPC is not installed ({error}): `pip install 'playhead[grpc]'`") from error
    listening = Listening(where.at(where.grpc_port))
    if where.tls is not None:
        listening = replace(listening, certificate=where.tls.certificate, key=where.tls.key)
    async with serving_grpc(gateway, app, listening, grace_seconds) as port:
        yield port


def _ready_made(context: ssl.SSLContext, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Give uvicorn the context that was read before anything was bound."""
    return context


class Server(uvicorn.Server):
    """Uvicorn that leaves signals to whom they belong, and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        self._on_ready()


async def _bind(where: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        advice = "choose another with --port, or stop what listens there"
        raise Misconfigured(f"cannot listen on {where}: {error.strerror or error}; {advice}") from error
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)  # connections inherit it
    return listening
