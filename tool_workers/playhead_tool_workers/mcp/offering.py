"""A server's description of a tool, as a declaration of ours: its name, its effect, its limits. Pure.

The server's annotations are hints: the specification says not to trust them from servers that are not trusted. They
choose the effect that is the default; the operator's word wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable

import mcp.types as mcp_types
from playhead.canonical import check_json
from playhead.errors import Invalid, Misconfigured, Unavailable, Undecodable
from playhead.ids import digest
from playhead.tools import Effect, Tool

from playhead_tool_workers.mcp.arguments import arguments_of
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.servers import Offer

__all__ = ["name_of", "offered"]

NAME_CHARS_MAX = 64
DIGEST_CHARS = 8
FOREIGN = re.compile(r"[^A-Za-z0-9_-]")

RETRIES = {"read": 2, "write": 2, "once": 0}
"""Of what the transport lost. What a server answers, an error too, is never asked for again."""
CONCURRENCY = 16
"""How many calls of a tool one worker runs at a time."""


def name_of(server: str, tool: str) -> str:
    """Give the name that agents know a tool by: `server__tool`, in the characters that models take.

    One that is too long ends in a digest of the whole, so that it stays the same and differs from its neighbours.
    """
    whole = f"{server}__{tool}"
    name = FOREIGN.sub("_", whole)
    if len(name) <= NAME_CHARS_MAX:
        return name
    return f"{name[: NAME_CHARS_MAX - DIGEST_CHARS - 1]}_{digest('MCP tool', whole)[:DIGEST_CHARS]}"


def offered(
    server: str, tool: mcp_types.Tool, offer: Offer, limits: McpLimits, call: Callable[..., Awaitable[object]]
) -> Tool[..., object]:
    """Declare a server's tool; `call` takes the arguments as `given`, and the `context`.

    Raises `Misconfigured`, which says why it cannot be offered.
    """
    name = name_of(server, tool.name)
    if tool.execution is not None and tool.execution.task_support == "required":
        raise Misconfigured(f"{name} can only be called as a task, which Playhead does not do")
    for schema in (tool.input_schema, tool.output_schema):
        _check_schema(name, schema, limits)
    description = _description(tool, limits.description_chars_max)
    try:
        arguments = arguments_of(tool.input_schema, description)
    except Invalid as error:
        raise Misconfigured(f"{name} has a schema that cannot be used: {error.advice}") from error
    effect = offer.effect_of(name) or _hinted(tool.annotations)
    return Tool(
        function=call,
        name=name,
        description=description,
        arguments=arguments,
        effect=effect,
        pool=offer.pool,
        timeout_seconds=offer.timeout_seconds,
        retries=RETRIES[effect],
        retry_on=(Unavailable,),
        concurrency=CONCURRENCY,
        output_schema=tool.output_schema,
    )


def _check_schema(name: str, schema: object, limits: McpLimits) -> None:
    """Make sure that a schema can be announced. Raises `Misconfigured`."""
    text = json.dumps(schema, ensure_ascii=False)
    size = len(text.encode())
    if size > limits.schema_bytes_max:
        raise Misconfigured(f"{name} has a schema of {size} bytes, and {limits.schema_bytes_max} is the most")
    try:
        check_json(text)
    except Undecodable as error:
        raise Misconfigured(f"{name} has a schema that is not JSON: {error}") from error


def _hinted(hints: mcp_types.ToolAnnotations | None) -> Effect:
    """Read the hints; what is not hinted at is taken for the worst."""
    if hints is not None and hints.read_only_hint:
        return "read"
    if hints is not None and hints.idempotent_hint:
        return "write"
    return "once"


def _description(tool: mcp_types.Tool, chars_max: int) -> str:
    text = (tool.description or tool.title or tool.name).strip() or tool.name
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"
