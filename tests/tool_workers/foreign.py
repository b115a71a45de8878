"""MCP servers in this process, written with the SDK, and a context to call their tools with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, cast

import anyio
import structlog
from mcp.client._memory import InMemoryTransport
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage
from mcp.types import METHOD_NOT_FOUND, ErrorData, JSONRPCError, JSONRPCRequest
from playhead.content import Answer, Completed
from playhead.ids import CallId, digest
from playhead.tools import Tool, ToolContext
from playhead_tool_workers.mcp.host import McpHost
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.servers import Offer, Server
from playhead_tool_workers.mcp.transports import Reach, Streams, Words
from playhead_tool_workers.retry import Backoff

from tests.tool_workers.workshop import SESSION, within

BRISK = McpLimits(
    start_seconds=20.0, patience_seconds=10.0, close_seconds=4.0, reconnect=Backoff(0.01, 0.05), relist_seconds=0.01
)
ALL = Offer(pool="default", timeout_seconds=5.0)


@dataclass
class Heard:
    """What a tool said while it ran."""

    said: asyncio.Queue[tuple[float, float | None, str | None]] = field(
        default_factory=asyncio.Queue[tuple[float, float | None, str | None]]
    )
    cancelled: bool = False

    def remaining(self) -> float:
        return 5.0

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.said.put_nowait((done, total, message))

    async def emit(self, output: object) -> None:
        raise AssertionError("no MCP tool emits")

    async def run(self, argv: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Completed:
        raise AssertionError("no MCP tool runs commands")

    async def deliver(self, ticket: str, output: object, error: str | None) -> None:
        raise AssertionError("no MCP tool delivers for others")


def context(heard: Heard | None = None, answer: Answer | None = None) -> ToolContext:
    """Make what a worker gives to a call."""
    return ToolContext(
        session_id=SESSION,
        call_id=CallId(f"call_{digest('call')}"),
        idempotency_key="key-1",
        try_number=1,
        deadline=datetime.now(UTC),
        log=structlog.stdlib.get_logger(),
        running=heard or Heard(),
        answer=answer,
    )


def in_process(servers: Mapping[str, MCPServer | LowLevelServer[Any]], *, old: bool) -> Reach:
    """Give the way to servers by their name."""

    def reach(server: Server, words: Words, ended: Callable[[], None]) -> Streams:
        transport = InMemoryTransport(servers[server.name or server.command[0]])
        return of_old(transport) if old else transport

    return reach


@asynccontextmanager
async def hosting(
    *servers: MCPServer | LowLevelServer[Any], offer: Offer = ALL, old: bool = False, named: bool = True
) -> AsyncGenerator[McpHost]:
    """Host servers in this process, by the names that they have, given by the operator or (not `named`) by them."""
    host = McpHost(
        [Server(server.name if named else None, (server.name,)) for server in servers],
        offer,
        limits=BRISK,
        reach_by=in_process({server.name: server for server in servers}, old=old),
        chance=lambda: 0.5,
    )
    async with host:
        yield host


def tool_of(host: McpHost, name: str) -> Tool[..., object]:
    """Find a tool by the name that agents know it by."""
    return next(tool for tool in host.tools if tool.name == name)


async def use(
    host: McpHost, name: str, *, heard: Heard | None = None, answer: Answer | None = None, **given: object
) -> object:
    """Call a tool as a worker does, in this task."""
    tool = tool_of(host, name)
    arguments = tool.arguments.parse(json.dumps(given))
    assert tool.arguments.context is not None
    arguments[tool.arguments.context] = context(heard, answer)
    return await within(cast("Awaitable[object]", tool.function(**arguments)))


@asynccontextmanager
async def of_old(streams: Streams) -> AsyncGenerator[Any]:
    """Make a server one of 2025: what it does not know is to be discovered."""
    answers, reading_on = anyio.create_memory_object_stream[SessionMessage | Exception](10)

    async def read_on(reading: Any) -> None:
        async with answers:
            async for message in reading:
                await answers.send(message)

    async with streams as (reading, writing), reading_on, anyio.create_task_group() as group:
        group.start_soon(read_on, reading)
        yield reading_on, _Ignorant(writing, answers)
        group.cancel_scope.cancel()


class _Ignorant:
    def __init__(self, stream: Any, answers: Any) -> None:
        self._stream, self._answers = stream, answers

    async def send(self, item: SessionMessage) -> None:
        if isinstance(item.message, JSONRPCRequest) and item.message.method == "server/discover":
            error = ErrorData(code=METHOD_NOT_FOUND, message="Method not found")
            await self._answers.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=item.message.id, error=error)))
        else:
            await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
