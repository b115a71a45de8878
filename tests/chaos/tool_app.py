"""Tools of every effect, which note each start in a file: what the workers say is held against it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from playhead import Agent, Budget, ToolContext, ToolFailed, tool
from playhead.content import Pending

from tests.chaos.app import JOURNAL

__all__ = ["tooled"]

PENDING_SECONDS = 600.0
LASTING_SECONDS_MAX = 900
TRIES = 3
LARGE_CHARS = 300_000
"""More than an event may hold, so that it goes to the archive."""


def note(what: str, ctx: ToolContext, given: dict[str, Any]) -> None:
    """Append one line, in one write, to a file opened for appending: those of other processes do not tear it apart."""
    line = {
        "what": what,
        "call": ctx.call_id,
        "key": ctx.idempotency_key,
        "try": ctx.try_number,
        "pid": os.getpid(),
        "at": time.time(),
        "monotonic": time.monotonic(),
        "given": given,
        "ticket": ctx.ticket if what == "promised" else "",
    }
    file = os.open(Path(os.environ[JOURNAL]), os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def ticket_left() -> str:
    noted = [json.loads(line) for line in Path(os.environ[JOURNAL]).read_text().splitlines()]
    (ticket,) = [one["ticket"] for one in noted if one["what"] == "promised"]
    return ticket


async def act(ctx: ToolContext, given: dict[str, Any]) -> str:
    note("begun", ctx, given)
    await asyncio.sleep(given["seconds"])
    note("done", ctx, given)
    return f"number {given['number']} is done"


@tool(effect="read")
async def reads(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Look something up."""
    return await act(ctx, {"number": number, "seconds": seconds, "text": text})


@tool(effect="write", timeout=LASTING_SECONDS_MAX)
async def writes(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Change something, in a way that may be done again."""
    return await act(ctx, {"number": number, "seconds": seconds, "text": text})


@tool(effect="read")
async def large(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Look up more than an event can hold."""
    await act(ctx, {"number": number, "seconds": seconds, "text": text})
    return str(number) * LARGE_CHARS


@tool(effect="once", concurrency=32)
async def pays(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Change something that must not be done twice."""
    return await act(ctx, {"number": number, "seconds": seconds, "text": text})


@tool(effect="write", approval=True)
async def guarded(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Do what a person must have approved."""
    return await act(ctx, {"number": number, "seconds": seconds, "text": text})


@tool(effect="write", retries=TRIES - 1)
async def fails(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Fail, however often it is tried."""
    await act(ctx, {"number": number, "seconds": seconds, "text": text})
    raise ConnectionError("nobody answers")


@tool(effect="once")
async def refuses(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Fail for good."""
    await act(ctx, {"number": number, "seconds": seconds, "text": text})
    raise ToolFailed("not for you")


@tool(effect="once")
async def promises(number: int, seconds: float, text: str, ctx: ToolContext) -> Pending:
    """Have the result brought by somebody else."""
    note("promised", ctx, {"number": number, "seconds": seconds, "text": text})
    return Pending(PENDING_SECONDS, message="it will come")


@tool(effect="write")
async def delivers(number: int, seconds: float, text: str, ctx: ToolContext) -> str:
    """Bring the result that was promised: the ticket is where whoever promised it left it."""
    note("begun", ctx, {"number": number, "seconds": seconds, "text": text})
    await ctx.deliver(ticket_left(), {"delivered": number})
    return "delivered"


tooled = Agent(
    "tooled",
    tools=[reads, large, writes, pays, guarded, fails, refuses, promises, delivers],
    budget=Budget(calls=None, steps=None),
    default=True,
)
