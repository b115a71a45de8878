"""Serving gRPC beside HTTP, in the same process and for the same gateway, on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from playhead.errors import Misconfigured
from starlette.types import ASGIApp

from playhead_gateway.gateway import Gateway
from playhead_gateway.grpc.inside import Inside
from playhead_gateway.grpc.service import Sessions, handler_of

__all__ = ["Listening", "serving_grpc"]

PING_MS, PONG_MS = 10_000, 20_000


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, `host:port`; with a certificate and its key, both in PEM, for TLS alone."""

    where: str
    certificate: Path | None = None
    key: Path | None = None


@asynccontextmanager
async def serving_grpc(
    gateway: Gateway, app: ASGIApp, listening: Listening, grace_seconds: float
) -> AsyncGenerator[int, None]:
    """Serve while this is open; give the port that is bound. Raises `Misconfigured`."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", gateway.limits.body_bytes_max),
            ("grpc.keepalive_time_ms", PING_MS),
            ("grpc.keepalive_timeout_ms", PONG_MS),
            ("grpc.so_reuseport", 0),  # two gateways on one port are a mistake
        ),
        maximum_concurrent_rpcs=gateway.limits.viewers_max,
    )
    server.add_generic_rpc_handlers((handler_of(Sessions(gateway, Inside(app))),))
    try:
        if listening.certificate is None or listening.key is None:
            port = server.add_insecure_port(listening.where)
        else:
            pair = (listening.key.read_bytes(), listening.certificate.read_bytes())
            port = server.add_secure_port(listening.where, grpc.ssl_server_credentials([pair]))
    except (OSError, RuntimeError) as error:
        raise Misconfigured(f"cannot listen for gRPC on {listening.where}: {error}; choose another port") from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace_seconds)
