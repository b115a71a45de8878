"""Ways to a server: a command's standard streams, or a URL. What a command says on stderr is logged, and its last
words are kept for when it does not start.

A command inherits no environment but what finds programs and a home (`PATH`, `HOME`, `USER`, `SHELL`, `TERM`, …).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

import anyio
import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from playhead.telemetry import logger

from playhead_tool_workers.mcp.hiding import Redact
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.servers import Server

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

__all__ = ["Reach", "Words", "reach", "watched"]

HTTP_SECONDS = 30.0
"""To connect, and to send."""
SILENCE_SECONDS = 300.0
"""Of a URL, while it works on a request and has not said how far it is, if calls may not take longer."""
STDERR_SECONDS = 0.5
"""How long to read on what an ended command wrote."""
CHUNK_BYTES = 8_192
NOT_FOUND = 404

log = logger(__name__)

Streams = AbstractAsyncContextManager["TransportStreams"]
Reach = Callable[[Server, "Words", Callable[[], None]], Streams]
"""How to reach a server, and to say that it has ended where its stream does not; tests have other ways."""


class Words:
    """The last lines that a server wrote on stderr, without its secrets."""

    def __init__(self, server: Server, limits: McpLimits, redact: Redact) -> None:
        self._server, self._redact = server, redact
        self._chars_max = limits.word_chars_max
        self._lines: deque[str] = deque(maxlen=limits.words_kept)

    def add(self, line: str) -> None:
        """Take note of a line."""
        line = self._redact(line.rstrip())[: self._chars_max]
        if line:
            self._lines.append(line)
            log.debug("an MCP server says", server=self._server.label, line=line)

    def __str__(self) -> str:
        return "".join(f"\n  | {line}" for line in self._lines)


def reach(server: Server, words: Words, ended: Callable[[], None], *, seconds: float = 0.0) -> Streams:
    """Reach a server by its command or URL; `seconds` is how long its calls may take."""
    return _command(server, words) if server.url is None else _url(server, ended, seconds)


@asynccontextmanager
async def watched(streams: Streams, ended: Callable[[], None]) -> AsyncGenerator[TransportStreams, None]:
    """Say when the server's side ends: the SDK only fails what is asked of it then."""
    async with streams as (reading, writing):
        yield _Watched(reading, ended), writing


@asynccontextmanager
async def _command(server: Server, words: Words) -> AsyncGenerator[TransportStreams, None]:
    program, *arguments = server.command
    parameters = StdioServerParameters(command=program, args=arguments, env=dict(server.environment))
    async with _stderr(words) as errors, stdio_client(parameters, errlog=errors) as streams:
        yield streams


@asynccontextmanager
async def _url(server: Server, ended: Callable[[], None], seconds: float) -> AsyncGenerator[TransportStreams, None]:
    assert server.url is not None
    headers = {} if server.authorization is None else {"Authorization": server.authorization}

    async def look(response: httpx2.Response) -> None:
        # An older server that has restarted does not know our session: the specification has us begin a new one.
        if response.status_code == NOT_FOUND and MCP_SESSION_ID in response.request.headers:
            ended()

    patience = httpx2.Timeout(HTTP_SECONDS, read=max(SILENCE_SECONDS, seconds))
    async with (
        httpx2.AsyncClient(headers=headers, timeout=patience, event_hooks={"response": [look]}) as client,
        streamable_http_client(server.url, http_client=client) as streams,
    ):
        yield streams


@asynccontextmanager
async def _stderr(words: Words) -> AsyncGenerator[TextIO, None]:
    """Give what a command may write to, and read it."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(theirs, "w") as writing:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb"))
        listening = loop.create_task(_note(reader, words))
        try:
            yield writing
        finally:
            writing.close()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({listening}, timeout=STDERR_SECONDS)
                listening.cancel()
                await asyncio.wait({listening})
            transport.close()


async def _note(reader: asyncio.StreamReader, words: Words) -> None:
    rest = ""
    while chunk := await reader.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
        for line in lines:
            words.add(line)
        if len(rest) > CHUNK_BYTES:
            words.add(rest)
            rest = ""
    words.add(rest)


class _Watched:
    """A stream of messages that says when it has ended."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    @property
    def last_context(self) -> Any:  # Any: only some of the SDK's streams have it
        """The context of the last message's sender."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Wait for a message."""
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._ended()
            raise

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    def __aiter__(self) -> ReadStream[SessionMessage | Exception]:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)
