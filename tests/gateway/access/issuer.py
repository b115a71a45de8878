"""An issuer's key server: real HTTP on a free port, with what it was asked for written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from tests.gateway.access.support import Signer


@dataclass
class KeyServer:
    """Serves the public keys of `signers`, or `body` where that is set; counts what it was asked for."""

    signers: list[Signer]
    body: bytes | None = None
    status: str = "200 OK"
    headers: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list[str])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b" ")[1].decode())
        body = self.body
        if body is None:
            body = orjson.dumps({"keys": [signer.public for signer in self.signers]})
        told = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self.headers}\r\n"
        writer.write(told.encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def key_server(*signers: Signer) -> AsyncGenerator[KeyServer, None]:
    keys = KeyServer(list(signers))
    server = await asyncio.start_server(keys.answer, "127.0.0.1", 0)
    keys.port = server.sockets[0].getsockname()[1]
    async with server:
        yield keys
