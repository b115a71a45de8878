"""All that an MCP server says: what it offers, what its calls bring, and any lines of it in any order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import anyio
import mcp.types as mcp_types
from mcp import MCPError
from mcp.client.stdio import _parse_line as parse_line  # pyright: ignore[reportPrivateUsage] - what a command's lines go through
from mcp.shared.message import SessionMessage
from playhead.adapters.archive import MemoryArchive
from playhead.content import Answer, Question
from playhead.errors import Invalid, Misconfigured, Unavailable
from playhead.tools import ToolFailed
from playhead_tool_workers.announcing import announcement
from playhead_tool_workers.mcp.calling import RemoteTool
from playhead_tool_workers.mcp.host import McpHost
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.offering import offered
from playhead_tool_workers.mcp.questions import resumption_of
from playhead_tool_workers.mcp.servers import Server
from playhead_tool_workers.mcp.transports import Words
from playhead_tool_workers.outcome import failed
from playhead_tool_workers.retry import Backoff
from pydantic import TypeAdapter, ValidationError

from tests.fuzz.target import Run, Target
from tests.fuzz.tooled import REMOTE, told, told_of, told_result
from tests.gateway.support import NOW
from tests.tool_workers.foreign import ALL, context

__all__ = ["TARGETS"]


@contextmanager
def offers() -> Generator[Run, None, None]:
    """Offer each tool that a server lists, in words that others can read, or say why not."""

    async def call(given: Mapping[str, Any], context: Any) -> object:
        raise AssertionError((given, context))

    def run(data: bytes) -> None:
        listed, _, given = data.partition(b"\n")
        try:
            tools = mcp_types.ListToolsResult.model_validate_json(listed).tools
        except ValidationError:
            return  # the SDK's own refusal
        for remote in tools:
            remote.model_dump_json()
            try:
                made = offered("server", remote, ALL, McpLimits(), call)
            except Misconfigured:
                continue
            told(announcement(made, NOW))
            with suppress(Invalid):
                made.arguments.parse(given.decode("utf-8", "replace"))

    yield run


def offer_seeds() -> list[bytes]:
    hints = {"readOnlyHint": True, "idempotentHint": False}
    one = {"name": "look up", "title": "Look", "description": "Looks.", "inputSchema": REMOTE, "annotations": hints}
    other: dict[str, object] = {
        "name": "b" * 80,
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object", "properties": {}},
    }
    old: dict[str, object] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"a": {}},
        "type": "object",
    }
    again: dict[str, object] = {"name": "c", "inputSchema": old, "execution": {"taskSupport": "optional"}}
    lists: list[dict[str, object]] = [{"tools": [one, other, again], "nextCursor": "x"}, {"tools": [one]}]
    return [json.dumps(listed).encode() + b'\n{"city": "aa", "part": 1}' for listed in lists]


class OnTheTable:
    """The connection to a server, as far as a call needs it: its one answer is known."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.server = Server("server", ("it",))

    async def session(self) -> OnTheTable:
        return self

    async def call_tool(self, name: str, given: object, **more: object) -> object:
        if isinstance(self.result, mcp_types.ErrorData):
            raise MCPError(self.result.code, self.result.message, self.result.data)
        return self.result

    def redact(self, text: str) -> str:
        return text.replace("secret", "***")

    def relist(self) -> None:
        pass

    def shown(self, error: BaseException) -> str:
        return self.redact(f"{type(error).__name__}: {error}")


ANSWERS: TypeAdapter[Any] = TypeAdapter(mcp_types.CallToolResult | mcp_types.InputRequiredResult | mcp_types.ErrorData)
CONTENT: tuple[object, ...] = (True, None, "yes", "3", {"a": 1}, {"one": {"a": "x"}, "two": True}, [1])


@contextmanager
def results() -> Generator[Run, None, None]:
    """Make of any answer of a server a result or a question that can be told, or one of the two failures."""
    with asyncio.Runner() as loop:

        async def one(answered: object) -> None:
            remote = RemoteTool(cast("Any", OnTheTable(answered)), "look")
            try:
                async with asyncio.timeout(0.02):  # a server that asks for nothing is asked again
                    came = await remote.call({}, context())
            except (ToolFailed, Unavailable) as error:
                told_result(failed(error, retryable=False).output, "error")
                return
            except TimeoutError:
                return
            await told_of(came, MemoryArchive())
            if isinstance(came, Question):
                for content in CONTENT:
                    state = json.loads(json.dumps(came.state))
                    with suppress(ToolFailed):
                        resumption_of(Answer(content, state))

        def run(data: bytes) -> None:
            try:
                answered = ANSWERS.validate_json(data)
            except ValidationError:
                return  # the SDK's own refusal
            loop.run(one(answered))

        yield run


def result_seeds() -> list[bytes]:
    blob = {"uri": "file:///a/b.pdf", "mimeType": "application/pdf", "blob": "cGRm"}
    content: list[object] = [
        {"type": "text", "text": "a secret"},
        {"type": "image", "data": "iVBORw0=", "mimeType": "image/png"},
        {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
        {"type": "resource", "resource": blob},
        {"type": "resource", "resource": {"uri": "x:y", "text": "t"}},
        {"type": "resource_link", "uri": "https://e.example/", "name": "n", "size": 3},
    ]
    form = {
        "mode": "form",
        "message": "Who?",
        "requestedSchema": {"type": "object", "properties": {"a": {"type": "string"}}},
    }
    url = {"mode": "url", "message": "Go", "url": "https://e.example", "elicitationId": "1"}
    ask = {"one": {"method": "elicitation/create", "params": form}}
    both = {**ask, "two": {"method": "elicitation/create", "params": url}}
    found: list[dict[str, object]] = [
        {"content": content, "isError": False},
        {"content": content[:1], "isError": True},
        {"content": [], "structuredContent": {"a": [1, {"b": None}]}},
        {"resultType": "input_required", "inputRequests": ask, "requestState": "s"},
        {"resultType": "input_required", "inputRequests": both},
        {"code": -32602, "message": "no"},
        {"code": -32042, "message": "visit", "data": {"elicitations": [url]}},
    ]
    return [json.dumps(one).encode() for one in found]


@contextmanager
def servers() -> Generator[Run, None, None]:
    """Stand any lines of a server: it is hosted or refused, its tools are called or fail, and all of it ends."""
    limits = McpLimits(start_seconds=0.05, patience_seconds=0.02, close_seconds=0.05, reconnect=Backoff(0.01, 0.01))

    async def one(lines: Sequence[bytes]) -> None:
        host = McpHost([Server("s", ("it",))], ALL, limits=limits, reach_by=lines_of(lines), chance=lambda: 0.0)
        try:
            async with host:
                for offer in host.tools[:2]:
                    with suppress(ToolFailed, Unavailable, TimeoutError):
                        async with asyncio.timeout(0.05):
                            await told_of(await offer.function(given={}, context=context()), None)  # pyright: ignore
        except Misconfigured:
            pass

    with asyncio.Runner() as loop:
        yield lambda data: loop.run(one(data.split(b"\n")))


def lines_of(lines: Sequence[bytes]) -> Any:
    """Give the way to a server that says one line for each request that it hears; `"@"` stands for the request's id."""

    @asynccontextmanager
    async def reach(_: Server, __: Words, ___: Any) -> AsyncGenerator[Any, None]:
        says, reading = anyio.create_memory_object_stream[SessionMessage | Exception](100)
        writing, hears = anyio.create_memory_object_stream[SessionMessage](100)
        left = iter(lines)

        async def talk() -> None:
            async with says, hears:
                async for heard in hears:
                    identity = getattr(heard.message, "id", None)
                    if identity is None:
                        continue
                    for line in left:
                        text = line.decode("utf-8", "replace").replace('"@"', json.dumps(identity))
                        await says.send(parse_line(text))
                        if '"@"' in line.decode("utf-8", "replace"):
                            break
                    else:
                        return

        async with anyio.create_task_group() as group, reading, writing:
            group.start_soon(talk)
            yield reading, writing
            group.cancel_scope.cancel()

    return reach


def server_seeds() -> list[bytes]:
    def says(result: object) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": "@", "result": result}).encode()

    unknown = json.dumps({"jsonrpc": "2.0", "id": "@", "error": {"code": -32601, "message": "no"}}).encode()
    about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
    begin = says({**about, "serverInfo": {"name": "s", "version": "1"}})
    listed = says({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]})
    called = says({"content": [{"type": "text", "text": "x"}]})
    changed = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    asked = b'{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"m","requestedSchema":{}}}'
    return [
        b"\n".join([unknown, begin, listed, called]),
        b"\n".join([unknown, begin, listed, changed, listed, asked, called]),
        b"\n".join([unknown, begin, says({"tools": [], "nextCursor": "a"}), listed]),
    ]


TARGETS = (
    Target("mcp-offers", offers, offer_seeds, 150),
    Target("mcp-results", results, result_seeds, 700),
    Target("mcp-servers", servers, server_seeds, 40, 16 * 1024),
)
