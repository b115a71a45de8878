"""`tools ls`, `tools show`, `tools call` and `answer`: what tool teams and users do by hand. Pure HTTP clients.

Each is a coroutine that returns the exit code; what goes wrong is raised, and `main` says it in one line.
"""

from __future__ import annotations

import json
import uuid
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import quote

from playhead.client import Event

from playhead_cli.asking import client_of
from playhead_cli.render import WORKED, Object, clean
from playhead_cli.talk import RUN_ENDS, Follow
from playhead_cli.terminal import Terminal

__all__ = ["answer", "call_tool", "list_tools", "object_of", "show_members", "show_tool", "value_of"]


def value_of(text: str) -> Any:  # it is JSON
    """Read JSON; what is none is the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def object_of(text: str) -> dict[str, Any] | None:
    """Read a JSON object, if it is one."""
    value = value_of(text)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


async def answer(url: str, terminal: Terminal, session: str, question: str, content: Any) -> int:
    """Answer a question that a call asked."""
    async with client_of(url) as client:
        path = f"/v1/sessions/{session}/answers/{quote(question, safe='')}"
        await client.post(path, {"content": content}, key=uuid.uuid4().hex)
    terminal.note(f"answered {question}; see what comes of it with: playhead tail {session}")
    return 0


async def list_tools(url: str, terminal: Terminal, *, as_json: bool) -> int:
    """List the tools that workers announced."""
    async with client_of(url) as client:
        page = await client.get("/v1/tools")
    if as_json:
        terminal.line(json.dumps(page, ensure_ascii=False))
        return 0
    tools: list[Object] = page.get("tools", [])
    if not tools:
        terminal.note("no worker has announced a tool: start one with `playhead dev` or `playhead worker`")
        return 0
    names, pools = (max(len(str(tool[of])) for tool in tools) for of in ("name", "pool"))
    for tool in tools:
        first, *_ = [*str(tool["description"]).splitlines(), ""]
        terminal.line(
            clean(
                f"{tool['name']:<{names}}  {tool['pool']:<{pools}}  {tool['effect']:<5}  {_breaker(tool):<9}  {first}"
            ).rstrip()
        )
    return 0


async def show_tool(url: str, terminal: Terminal, name: str, *, as_json: bool) -> int:
    """Show all that was announced of a tool."""
    async with client_of(url) as client:
        tool = await client.get(f"/v1/tools/{quote(name, safe='')}")
    if as_json:
        terminal.line(json.dumps(tool, ensure_ascii=False))
        return 0
    show_members(terminal, tool)
    return 0


def show_members(terminal: Terminal, shown: Object) -> None:
    """Show an object, a line a member."""
    for member, value in shown.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        terminal.line(clean(f"{member:<16} {text}"))


async def call_tool(url: str, follow: Follow, name: str, given: dict[str, Any], *, out: Terminal) -> int:
    """Call a tool by hand: `follow` shows what happens, `out` is given the result. Returns 1 if it did not work."""
    async with client_of(url) as client:
        called = await client.post(f"/v1/tools/{quote(name, safe='')}/calls", {"input": given}, key=uuid.uuid4().hex)
        follow.session = str(called["id"])
        result: Object | None = None
        async with aclosing(follow.events(client)) as stream:
            async for seen in stream:
                if isinstance(seen, Event) and seen.type == "tool_result":
                    result = seen.data
                if isinstance(seen, Event) and seen.type in RUN_ENDS:
                    break
        follow.end()
    if result is None:
        return 1
    _show_result(out, follow, result)
    return 0 if result["status"] in WORKED else 1


def _show_result(out: Terminal, follow: Follow, result: Object) -> None:
    output = result["output"]
    if follow.as_json:
        told = {name: result[name] for name in ("call_id", "status", "output", "elapsed_ms", "cached")}
        out.line(json.dumps({"session": follow.session, **told}, ensure_ascii=False))
    elif isinstance(output, str):
        out.line(clean(output))
    else:
        out.line(clean(json.dumps(output, ensure_ascii=False, indent=2)))


def _breaker(tool: Object) -> str:
    breaker = tool.get("breaker")
    return "-" if breaker is None else str(breaker["state"])
