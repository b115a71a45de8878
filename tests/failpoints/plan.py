"""What the sessions of a trial do: a model that follows a plan, and tools of every effect that note what they did."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from playhead import Agent, Budget, ToolContext, tool
from playhead.content import Pending
from playhead.lifespan import Lifespan
from playhead_orchestrator.model import Finished, ModelRequest, Said, TextSaid, Usage

__all__ = ["AGENTS", "BUDGET", "LARGE", "TOOLS", "TRIES", "Execution", "Journal", "Planned"]

LARGE = 400
"""How many characters an output has that goes to the archive."""
TRIES = 3
BUDGET = Budget(steps=6, calls=12)


@dataclass(frozen=True, slots=True)
class Execution:
    """A tool began: for which call, with which key, which try of which life of a worker, and what it was given."""

    call: str
    key: str
    try_number: int
    life: int
    given: Mapping[str, Any]


@dataclass
class Journal:
    """What tools did, and the tickets that they were given."""

    executions: list[Execution] = field(default_factory=list[Execution])
    tickets: dict[str, str] = field(default_factory=dict[str, str])

    def lifespan(self, life: int) -> Lifespan:
        """Give the tools of one life of a worker this journal."""

        def note(ctx: ToolContext, number: int) -> None:
            self.note(ctx, life, {"number": number})

        @asynccontextmanager
        async def open_() -> AsyncGenerator[Callable[[ToolContext, int], None], None]:
            yield note

        return Lifespan("default", open_)

    def note(self, ctx: ToolContext, life: int, given: Mapping[str, Any]) -> None:
        """Note that a tool begins."""
        self.tickets[ctx.call_id] = ctx.ticket
        self.executions.append(Execution(ctx.call_id, ctx.idempotency_key, ctx.try_number, life, given))

    def of(self, call: str) -> list[Execution]:
        """Give what was done for a call, in order."""
        return [one for one in self.executions if one.call == call]


@tool(effect="read")
async def reads(number: int, ctx: ToolContext) -> str:
    """Look something up."""
    ctx.resources(ctx, number)
    return f"read {number}"


@tool(effect="write")
async def writes(number: int, ctx: ToolContext) -> str:
    """Change something that may be changed again."""
    ctx.resources(ctx, number)
    return f"wrote {number}"


@tool(effect="once")
async def pays(number: int, ctx: ToolContext) -> str:
    """Do what must not be done twice."""
    ctx.resources(ctx, number)
    return f"paid {number}"


@tool(effect="read", retries=TRIES - 1)
async def large(number: int, ctx: ToolContext) -> str:
    """Look up more than an event can hold."""
    ctx.resources(ctx, number)
    return str(number) * LARGE


@tool(effect="write", approval=True)
async def guarded(number: int, ctx: ToolContext) -> str:
    """Do what nobody approves."""
    ctx.resources(ctx, number)
    return "done without asking"


@tool(effect="write")
async def promises(number: int, ctx: ToolContext) -> Pending:
    """Have somebody else bring the result."""
    ctx.resources(ctx, number)
    return Pending(600.0)


@tool(effect="write")
async def fails(number: int, ctx: ToolContext) -> str:
    """Fail, however often it is run."""
    ctx.resources(ctx, number)
    raise ConnectionError("nobody answers")


TOOLS = (reads, writes, pays, large, guarded, promises, fails)
AGENTS = tuple(
    Agent(name, model="plan:any", tools=list(TOOLS), budget=BUDGET, default=name == "first")
    for name in ("first", "second", "third")
)

PLANS: Mapping[str, Sequence[Sequence[str]]] = {
    "work": (("reads", "writes", "pays"), ("large", "pays", "writes", "guarded")),
    "more": (("large", "pays", "large"),),
    "promise": (("promises",),),
    "fail": (("fails",),),
}
"""By the word of a message: which tools the model uses in each of its steps, before it has said all."""


class Planned:
    """A model that does what the last message names."""

    provider = "plan"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        plan, done = _plan(request.messages)
        for piece in ("One ", "moment."):
            yield (TextSaid(piece),)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": "One moment."}]
        uses = plan[done] if done < len(plan) else ()
        for place, name in enumerate(uses):
            blocks.append({"type": "tool_use", "name": name, "input": {"number": 10 * done + place}})
        yield (Finished(tuple(blocks), Usage(3, 4), "tool_use" if uses else "end_turn"),)

    async def close(self) -> None:
        """Nothing is held."""


def _plan(messages: Sequence[dict[str, Any]]) -> tuple[Sequence[Sequence[str]], int]:
    """Find the last message of the user, and how often it has been answered."""
    done = 0
    for message in reversed(messages):
        texts = [block["text"] for block in message["content"] if block["type"] == "text"]
        if message["role"] == "assistant":
            done += 1
        elif texts:
            return PLANS[texts[-1]], done
    raise AssertionError(f"nobody has said anything: {orjson.dumps(list(messages)).decode()[:500]}")
