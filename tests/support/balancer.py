"""A plain TCP balancer: round robin over the servers that accept. It knows nothing of HTTP, health or sessions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["Balancer", "balancing"]

READ_BYTES = 65_536
BACKLOG = 1_024


@dataclass
class Balancer:
    """`ports` may be changed while it runs; connections that are open stay where they are."""

    ports: list[int]
    port: int = 0
    carried: Counter[int] = field(default_factory=Counter[int])
    """How many connections went to each port."""
    refused: int = 0
    """How many found nobody."""
    _turn: int = 0
    _talks: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until one side ends it."""
        try:
            server = await self._connected()
            if server is None:
                self.refused += 1
                return
            server_reader, server_writer = server
            try:
                async with asyncio.TaskGroup() as both:
                    asking = both.create_task(_carry(reader, server_writer))
                    answering = both.create_task(_carry(server_reader, writer))
                    await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
                    asking.cancel()
                    answering.cancel()
            finally:
                server_writer.close()
        finally:
            writer.close()  # what was carried is still written

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in range(len(self.ports)):
            port = self.ports[self._turn % len(self.ports)]
            self._turn += 1
            with suppress(ConnectionError):
                server = await asyncio.open_connection("127.0.0.1", port)
                self.carried[port] += 1
                return server
        return None

    def serve(self, tasks: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = tasks.create_task(self.talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    def close(self) -> None:
        for task in list(self._talks):
            task.cancel()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def balancing(*ports: int) -> AsyncGenerator[Balancer, None]:
    """Serve a balancer for these ports on a free port of loopback."""
    balancer = Balancer(list(ports))
    async with asyncio.TaskGroup() as tasks:
        server = await asyncio.start_server(
            lambda reader, writer: balancer.serve(tasks, reader, writer), "127.0.0.1", 0, backlog=BACKLOG
        )
        try:
            balancer.port = int(server.sockets[0].getsockname()[1])
            yield balancer
        finally:
            server.close()
            balancer.close()
