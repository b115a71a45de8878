"""What tools are given and what they give: a model's arguments, and outputs of any kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import mcp.types as mcp_types
from playhead.adapters.archive import MemoryArchive
from playhead.arguments import Arguments
from playhead.codec import Codec
from playhead.commands import Command, ReportQuestion, ReportResult
from playhead.content import Question
from playhead.errors import Invalid
from playhead.ids import CallId
from playhead.tools import tool
from playhead_tool_workers.ends import Asks, Deferred, deferral
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.offering import offered
from playhead_tool_workers.outcome import Failed, failed
from playhead_tool_workers.output import Output
from pydantic import BaseModel

from tests.fuzz.target import Run, Target
from tests.tool_workers.foreign import ALL
from tests.tool_workers.workshop import SESSION

__all__ = ["REMOTE", "TARGETS", "told", "told_of", "told_result"]

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


TARGETS = (
    Target("tool-outputs", outputs, json_seeds, 1200),
    Target("tool-arguments", arguments, argument_seeds, 1500),
)
