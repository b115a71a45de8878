"""A TCP proxy that spoils the network between its clients and one server: late, slow, in pieces, silent, or reset.

Each direction has a `Way` of its own, and a change of it holds for what is under way too. Silence is what a lost
network is: nothing that is sent arrives, nobody is told, and what was held arrives if the network comes back in time,
as TCP would send it again. It knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["DELAY_SECONDS_MAX", "TcpProxy", "Way", "proxying"]

READ_BYTES = 65_536
HELD_CHUNKS_MAX = 256
"""How much of one connection and direction is held back; then the sender is not read from any more."""

DELAY_SECONDS_MAX = 5.0
"""The longest that one chunk can be delayed, jitter included."""

BYTES_PER_SECOND_MIN = 1_024
CONNECT_SECONDS = 3.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, 0 s."""


@dataclass
class Way:
    """How bytes travel in one direction. `slice_bytes` 0 and `bytes_per_second` 0 are no limit."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    slice_bytes: int = 0
    bytes_per_second: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        assert self.delay_seconds + self.jitter_seconds <= DELAY_SECONDS_MAX
        assert self.bytes_per_second == 0 or self.bytes_per_second >= BYTES_PER_SECOND_MIN
        self._open.set()

    @property
    def is_silent(self) -> bool:
        return not self._open.is_set()

    def silence(self) -> None:
        """Let nothing through until it is over."""
        self._open.clear()

    def speak(self) -> None:
        """Let through what was held, and what follows."""
        self._open.set()

    async def until_open(self) -> None:
        await self._open.wait()

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut a chunk as this direction cuts."""
        size = self.slice_bytes or len(data)
        return [data[start : start + size] for start in range(0, len(data), size)]


@dataclass(eq=False)
class Talk:
    """One connection: the client's side and, once there is one, the server's."""

    writers: list[asyncio.StreamWriter]

    def reset(self) -> None:
        """End it as a host does that knows nothing of it, without a word about what is under way."""
        for writer in self.writers:
            peer: socket.socket | None = writer.transport.get_extra_info("socket")
            if peer is not None:
                with suppress(OSError):
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


@dataclass
class TcpProxy:
    """Carries connections to `target`. `there` is the way to the server, `back` the way of its answers."""

    target: int
    chance: random.Random
    port: int = 0
    there: Way = field(default_factory=Way)
    back: Way = field(default_factory=Way)
    connections: int = 0
    resets: int = 0
    _talks: dict[asyncio.Task[None], Talk] = field(default_factory=dict["asyncio.Task[None]", Talk])

    @property
    def open_connections(self) -> int:
        return len(self._talks)

    def reset(self) -> int:
        """Reset every connection that is open now, and say how many there were."""
        talks = list(self._talks.values())
        for talk in talks:
            talk.reset()
        self.resets += len(talks)
        return len(talks)

    def spoil(self, there: Way | None = None, back: Way | None = None) -> None:
        """Travel like this from now on."""
        self.heal()
        self.there, self.back = there or Way(), back or Way()

    def heal(self) -> None:
        """Be a plain wire again; what was held goes on."""
        for way in (self.there, self.back):
            way.speak()
        self.there, self.back = Way(), Way()

    def serve(self, tasks: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk([writer])
        task = tasks.create_task(self._talk(talk, reader, writer))
        self._talks[task] = talk
        task.add_done_callback(lambda done: self._talks.pop(done, None))

    def close(self) -> None:
        for task in list(self._talks):
            task.cancel()

    async def _talk(self, talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except (OSError, TimeoutError):
            talk.reset()
            return
        talk.writers.append(server_writer)
        try:
            async with asyncio.TaskGroup() as both:
                ways = (
                    both.create_task(self._carry(reader, server_writer, "there")),
                    both.create_task(self._carry(server_reader, writer, "back")),
                )
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        finally:
            for end in talk.writers:
                end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        """Take what comes at once and give it on when it is due: a delay costs time, not throughput."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS_MAX)
        async with asyncio.TaskGroup() as tasks:
            giving = tasks.create_task(self._give(held, writer, name))
            with suppress(OSError):
                while data := await reader.read(READ_BYTES):
                    way = self._way(name)
                    late = way.delay_seconds + self.chance.random() * way.jitter_seconds
                    await held.put((asyncio.get_running_loop().time() + late, data))
            await held.put((0.0, b""))
            await giving

    async def _give(self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, name: str) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                due, data = await held.get()
                if (early := due - loop.time()) > 0:
                    await asyncio.sleep(early)
                if not data:
                    await self._way(name).until_open()
                    return
                for piece in self._way(name).pieces(data):
                    await self._way(name).until_open()
                    writer.write(piece)
                    await writer.drain()
                    # asked for anew each time, because it may change while a large chunk is under way
                    if rate := self._way(name).bytes_per_second:
                        await asyncio.sleep(len(piece) / rate)
                    elif self._way(name).slice_bytes:
                        await asyncio.sleep(0)

    def _way(self, name: str) -> Way:
        return self.there if name == "there" else self.back


@asynccontextmanager
async def proxying(target: int, *, port: int = 0, seed: int = 0) -> AsyncGenerator[TcpProxy, None]:
    """Serve a proxy to a port of loopback, on a free port or on this one."""
    proxy = TcpProxy(target, random.Random(seed))
    async with asyncio.TaskGroup() as tasks:
        server = await asyncio.start_server(
            lambda reader, writer: proxy.serve(tasks, reader, writer), "127.0.0.1", port
        )
        try:
            proxy.port = int(server.sockets[0].getsockname()[1])
            yield proxy
        finally:
            server.close()
            proxy.heal()
            proxy.close()
