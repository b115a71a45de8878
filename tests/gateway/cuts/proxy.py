"""A proxy that cuts an answer after exactly so many bytes, as the URL says, and lets what follows through whole.

`/torn/120.40/v1/…` breaks the connection after 120 bytes of the first answer, status line and all, and after 40 of the
second; the third comes whole. `/ended/…` counts bytes of the body, and ends it there as if it were whole, as a balancer
may do whose server is gone: what a client has of a frame then looks no worse than what it should keep. The bytes before
a cut all arrive: whoever resets a connection makes it a cut somewhat earlier.

The first answer is a recording, if there is one of that path, so that all clients are cut at the same bytes; who comes
back is answered by a gateway. Each answer is read to its end before it is passed on: this is for closed sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["ExactCuts", "body_of", "exact_cuts"]

REQUEST_SECONDS_MAX = 20.0


@dataclass
class ExactCuts:
    """`ports` serve those who come back, in turn."""

    ports: Sequence[int]
    recordings: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    port: int = 0
    connections: Counter[bytes] = field(default_factory=Counter[bytes])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(request))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that has seen enough
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        method, target, rest = request.split(b" ", 2)
        _, how, cuts, path = target.split(b"/", 3)
        turn = self.connections[target]
        self.connections[target] += 1
        answer = self.recordings.get(path) if turn == 0 else None
        if answer is None:
            answer = await _ask(self.ports[turn % len(self.ports)], b"%b /%b %b" % (method, path, rest))
        if turn >= cuts.count(b".") + 1 or cuts == b"-":
            return answer
        cut = int(cuts.split(b".")[turn])
        if how == b"torn":
            return answer[:cut]
        head, _, _ = answer.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding:")]
        return b"\r\n".join([*lines, b"", b""]) + body_of(answer)[:cut]


def body_of(answer: bytes) -> bytes:
    """Give the body of an HTTP answer, whole, whether it is chunked or not."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        line, _, rest = request.partition(b"\r\n")
        kept = [one for one in rest.split(b"\r\n") if not one.lower().startswith(b"connection:")]
        writer.write(b"\r\n".join([line, b"Connection: close", *kept]))
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def exact_cuts(*ports: int) -> AsyncGenerator[ExactCuts, None]:
    """Serve the proxy on a free port of loopback."""
    proxy = ExactCuts(ports)
    server = await asyncio.start_server(proxy.talk, "127.0.0.1", 0, backlog=1024)
    async with server:
        proxy.port = int(server.sockets[0].getsockname()[1])
        yield proxy
