"""What tools are given and what they give: a model's arguments, outputs of any kind, and all that an MCP server says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, cast

import anyio
import mcp.types as mcp_types
from mcp.client.stdio import _parse_line as parse_line  # pyright: ignore[reportPrivateUsage] - what a command's lines go through
from mcp.shared.message import SessionMessage
from playhead.adapters.archive import MemoryArchive
from playhead.arguments import Arguments
from playhead.codec import Codec
from playhead.commands import Command, ReportQuestion, ReportResult
from playhead.content import Answer, Question
from playhead.errors import Invalid, Misconfigured, Unavailable
from playhead.ids import CallId
from playhead.tools import ToolFailed, tool
from playhead_tool_workers.announcing import announcement
from playhead_tool_workers.ends import Asks, Deferred, deferral
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.mcp.calling import RemoteTool
from playhead_tool_workers.mcp.host import McpHost
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.offering import offered
from playhead_tool_workers.mcp.questions import resumption_of
from playhead_tool_workers.mcp.servers import Server
from playhead_tool_workers.mcp.transports import Streams, Words
from playhead_tool_workers.outcome import Failed, failed
from playhead_tool_workers.output import Output
from playhead_tool_workers.retry import Backoff
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.fuzz.target import Run, Target
from tests.gateway.support import NOW
from tests.tool_workers.foreign import ALL, context
from tests.tool_workers.workshop import SESSION

__all__ = ["TARGETS"]

CODEC = Codec()
CALL = CallId("call_" + "c" * 26)
LIMITS = WorkerLimits(result_bytes_max=20_000, block_bytes_max=200, archived_bytes_max=200_000)


def told(command: Command) -> None:
    """Have the orchestrator read what a worker says: what it refuses, nobody would ever hear of."""
    assert CODEC.command(CODEC.encode(command)) == command


def told_result(output: str, status: str = "ok") -> None:
    told(ReportResult("r", SESSION, CALL, "lease", status, output, 1))  # pyright: ignore[reportArgumentType] - to be seen


async def told_of(value: object, archive: MemoryArchive | None) -> None:
    """Report what a tool returned, as a worker does."""
    if isinstance(value, Question):
        came = deferral(value, str)
        match came:
            case Asks(content, schema, state):
                told(ReportQuestion("r", SESSION, CALL, "lease", "q_1", content, schema, state))
            case Deferred():
                raise AssertionError("a question is no promise")
            case Failed():
                told_result(came.output, came.status)
        return
    came = await Output(SESSION, archive, str, LIMITS).keep(value)
    told_result(came.output, came.status)


@contextmanager
def outputs() -> Generator[Run, None, None]:
    """Report any value that a tool may return, so that the session's owner can read it."""
    with asyncio.Runner() as loop:

        def run(data: bytes) -> None:
            try:
                value: object = json.loads(data.decode("utf-8", "surrogatepass"))
            except (ValueError, RecursionError):
                value = data.decode("utf-8", "surrogateescape")
            for archive in (None, MemoryArchive()):
                loop.run(told_of(value, archive))
            loop.run(told_of(Question(str(value)[:500], schema={"a": value}, state=value), None))
            refused = failed(ValueError(str(value)[:5000]), retryable=False)
            told_result(refused.output, "error")

        yield run


def json_seeds() -> list[bytes]:
    return [
        b'{"sky":"clear","deg":[1.5,-3,1e300],"none":null,"deep":[[[[{"a":true}]]]]}',
        '["a", 1, "\u00e9\u2028", {"type": "text", "text": "x"}]'.encode(),
        b'"text"',
        b"[NaN, Infinity, -0.0, 12345678901234567890123]",
    ]


class Place(BaseModel):
    """Somewhere."""

    city: str
    near: list[str] = []


@tool
def weather(place: Place, days: int = 1, unit: Literal["C", "F"] = "C", tags: dict[str, float] | None = None) -> str:
    """Tell the weather."""
    return "fine"


REMOTE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "pattern": "^(a+)+$"},
        "days": {"type": "integer", "multipleOf": 2, "maximum": 9},
        "part": {"type": "number", "multipleOf": 0.01},
        "list": {"type": "array", "items": {"$ref": "#/$defs/one"}, "uniqueItems": True},
    },
    "required": ["city"],
    "$defs": {"one": {"anyOf": [{"type": "null"}, {"$ref": "#"}, {"enum": [1, "a"]}]}},
}


def tool_of(description: Mapping[str, Any]) -> Arguments:
    async def call(given: Mapping[str, Any], context: Any) -> object:
        raise AssertionError((given, context))

    return offered("s", mcp_types.Tool.model_validate(description), ALL, McpLimits(), call).arguments


@contextmanager
def arguments() -> Generator[Run, None, None]:
    """Take a model's arguments, or say in a few words what is wrong with them."""
    takers = (weather.arguments, tool_of({"name": "t", "inputSchema": REMOTE}))

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for taker in takers:
            try:
                given = taker.parse(text)
            except Invalid as error:
                assert len(error.advice) < 4_000
                told_result(failed(error, retryable=False).output, "error")
            else:
                assert isinstance(given, dict)

    yield run


def argument_seeds() -> list[bytes]:
    return [
        b'{"place": {"city": "Oslo", "near": ["a"]}, "days": 3, "unit": "F", "tags": {"a": 1.5}}',
        b'{"city": "aa", "days": 4, "part": 0.25, "list": [null, 1, {"city": "bb"}]}',
    ]


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
    other = {"name": "b" * 80, "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "properties": {}}}
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "type": "object"}
    again = {"name": "c", "inputSchema": old, "execution": {"taskSupport": "optional"}}
    lists = [{"tools": [one, other, again], "nextCursor": "x"}, {"tools": [one]}]
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
            from mcp import MCPError  # noqa: PLC0415 - with the rest of what only this needs

            raise (
                MCPError.from_error(self.result)
                if hasattr(MCPError, "from_error")
                else MCPError(self.result.code, self.result.message, self.result.data)
            )
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

    way: Streams | Any = reach
    return way


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
    Target("tool-outputs", outputs, json_seeds, 1200),
    Target("tool-arguments", arguments, argument_seeds, 1500),
    Target("mcp-offers", offers, offer_seeds, 150),
    Target("mcp-results", results, result_seeds, 700),
    Target("mcp-servers", servers, server_seeds, 40, 16 * 1024),
)
