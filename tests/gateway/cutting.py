"""A proxy that breaks connections, as networks do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Cutter:
    """A proxy that drops each connection after some bytes of the answer, to any of its servers in turn."""

    ports: list[int]
    cuts: random.Random
    most: int
    port: int = 0
    rounds: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.rounds += 1
        port = self.ports[self.rounds % len(self.ports)]
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        up_writer.write(await reader.readuntil(b"\r\n\r\n"))
        left = self.cuts.randrange(1, self.most)
        with suppress(ConnectionError):
            while left > 0 and (data := await up_reader.read(left)):
                writer.write(data)
                await writer.drain()
                left -= len(data)
        up_writer.transport.abort()
        writer.close()


@asynccontextmanager
async def cutting(ports: list[int], seed: int, most: int) -> AsyncGenerator[Cutter, None]:
    cutter = Cutter(ports, random.Random(seed), most)
    server = await asyncio.start_server(cutter.connected, "127.0.0.1", 0)
    cutter.port = server.sockets[0].getsockname()[1]
    async with server:
        yield cutter
