"""A TCP proxy that cuts each connection after a random number of bytes of the answer. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["Cutter", "cutting"]

READ_BYTES = 65_536


@dataclass
class Cutter:
    """`ports` are served in turn, one connection each. A connection lives for 1 to `bytes_max` bytes."""

    ports: list[int]
    chance: random.Random
    bytes_max: int
    port: int = 0
    connections: int = 0
    cuts: int = 0
    _talks: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until one side ends it or its bytes are used up."""
        port = self.ports[self.connections % len(self.ports)]
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                asking = both.create_task(_carry(reader, server_writer, None))
                left = self.chance.randint(1, self.bytes_max)
                self.cuts += await _carry(server_reader, writer, left)
                asking.cancel()
        finally:
            # at once, as a lost network does it: what is still in a buffer is lost as well
            server_writer.transport.abort()
            writer.transport.abort()

    def serve(self, tasks: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = tasks.create_task(self.talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    def close(self) -> None:
        for task in list(self._talks):
            task.cancel()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> bool:
    """Copy until the end, or for so many bytes. Says whether these were used up."""
    with suppress(ConnectionError):
        while data := await reader.read(READ_BYTES if left is None else min(left, READ_BYTES)):
            writer.write(data)
            await writer.drain()
            if left is not None:
                left -= len(data)
                if left == 0:
                    return True
    return False


@asynccontextmanager
async def cutting(*ports: int, seed: int, bytes_max: int) -> AsyncGenerator[Cutter, None]:
    """Serve a proxy for these ports on a free port of loopback."""
    cutter = Cutter(list(ports), random.Random(seed), bytes_max)
    async with asyncio.TaskGroup() as tasks:
        server = await asyncio.start_server(lambda reader, writer: cutter.serve(tasks, reader, writer), "127.0.0.1", 0)
        try:
            cutter.port = int(server.sockets[0].getsockname()[1])
            yield cutter
        finally:
            server.close()
            cutter.close()
