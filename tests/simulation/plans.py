"""What users ask for, what models answer and what tools do in a simulated deployment, all by chance.

A user's message carries the plan of its run: how many steps, what each says, which tools it uses. So whatever process
calls the model, in whatever attempt, the calls are the same, and only how they are said and what goes wrong differs.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from playhead import Agent, Budget, ToolContext, ToolFailed, tool
from playhead.events import Usage
from playhead.tools import Tool
from playhead_orchestrator.model import (
    Finished,
    ModelFailed,
    ModelRequest,
    Said,
    TextSaid,
    ThinkingSaid,
    ToolInputSaid,
)

from tests.history.lines import History
from tests.simulation.loop import process_of

__all__ = ["BUDGET", "HANDS", "Hands", "Moods", "SimModel", "agent", "plan_of", "tools"]

TOOLS = ("look", "put", "pay", "guarded", "missing")
BUDGET = Budget(steps=3, calls=8, wall_seconds=None)
TIMEOUT_SECONDS = 4.0
TRIES = 2
LENGTHS_SECONDS = (0.05, 0.5, 3.0)
WORDS = ("the", "log", "is", "“the”", "truth", "é", "\n", "\u2028", "and", "nothing", "else")


@dataclass(slots=True)
class Moods:
    """How likely it is that models and tools misbehave. All zero once the faults have stopped."""

    broken: float = 0.0
    stalled: float = 0.0
    refused: float = 0.0
    hung: float = 0.0
    failed: float = 0.0

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.broken = self.stalled = self.refused = self.hung = self.failed = 0.0


def plan_of(chance: random.Random) -> str:
    """Plan a run: a message for the user to say."""
    steps: list[list[dict[str, Any]]] = []
    for step in range(chance.choice((0, 1, 1, 2, 3))):
        uses = [
            {
                "tool": chance.choice(TOOLS),
                "n": 100 * step + place,
                "seconds": round(chance.random() * chance.choice(LENGTHS_SECONDS), 3),
            }
            for place in range(chance.choice((1, 1, 2, 3)))
        ]
        steps.append(uses)
    return orjson.dumps({"steps": steps, "pieces": chance.randrange(1, 9)}).decode()


class SimModel:
    """A model that says what the plan has it say, in pieces of its own choosing, if it says it at all."""

    provider = "sim"

    def __init__(self, chance: random.Random, moods: Moods, counts: Counter[str]) -> None:
        self._chance = chance
        self._moods = moods
        self._counts = counts

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Answer, or fail."""
        chance, moods = self._chance, self._moods
        plan, step = _place(request.messages)
        await asyncio.sleep(chance.random() * 0.05)
        if chance.random() < moods.refused:
            self._counts["model_429"] += 1
            raise ModelFailed("rate_limited", "too much", retryable=True, retry_after_seconds=chance.random() * 2)
        uses: list[dict[str, Any]] = plan["steps"][step] if step < len(plan["steps"]) else []
        said = "".join(f"{chance.choice(WORDS)} " for _ in range(plan["pieces"]))
        breaks_at = chance.randrange(plan["pieces"]) if chance.random() < moods.broken else -1
        stalls_at = chance.randrange(plan["pieces"]) if chance.random() < moods.stalled else -1
        pieces = _cut(said, plan["pieces"], chance)
        content: list[dict[str, Any]] = []
        if chance.random() < 0.3:
            yield (ThinkingSaid("hm"),)
            content.append({"type": "thinking", "text": "hm"})
        for place, piece in enumerate(pieces):
            if place == breaks_at:
                self._counts["model_broken"] += 1
                raise ModelFailed("stream_broken", "the connection was reset", retryable=True)
            if place == stalls_at:
                self._counts["model_stalled"] += 1
                await asyncio.sleep(2 + chance.random() * 10)
            yield (TextSaid(piece),)
            if chance.random() < 0.7:
                await asyncio.sleep(chance.random() * 0.02)
        content.append({"type": "text", "text": "".join(pieces)})
        for place, use in enumerate(uses):
            given = {"n": use["n"], "seconds": use["seconds"]}
            text = orjson.dumps(given).decode()
            yield (ToolInputSaid(place, text[:5]), ToolInputSaid(place, text[5:]))
            content.append({"type": "tool_use", "name": use["tool"], "input": given})
        yield (Finished(tuple(content), Usage(10, 5), "tool_use" if uses else "end_turn"),)

    async def close(self) -> None:
        """Nothing is held."""


def _place(messages: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Find the plan that is being carried out, and the step of it."""
    step = 0
    for message in reversed(messages):
        if message["role"] == "assistant":
            step += 1
            continue
        for block in reversed(message["content"]):
            if block["type"] == "text":
                return orjson.loads(block["text"]), step
    raise AssertionError("nobody has said anything")


def _cut(text: str, count: int, chance: random.Random) -> list[str]:
    places = sorted(chance.randrange(1, max(2, len(text))) for _ in range(count - 1))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True) if a < b]


@dataclass(slots=True)
class Hands:
    """What all tools do: note that they began, take their time, perhaps fail, note that they are done."""

    chance: random.Random
    moods: Moods
    counts: Counter[str]
    history: History

    async def act(self, ctx: ToolContext, given: dict[str, Any]) -> str:
        """Do what a tool does."""
        process = process_of().name
        fields = {"call": ctx.call_id, "key": ctx.idempotency_key, "given": given, "process": process}
        self.history.note(process, "tool", what="begun", **fields, **{"try": ctx.try_number})
        drawn = self.chance.random()
        if drawn < self.moods.hung:
            self.counts["tool_hung"] += 1
            await asyncio.sleep(1_000)
        if drawn < self.moods.hung + self.moods.failed:
            self.counts["tool_failed"] += 1
            if self.chance.random() < 0.5:
                raise ConnectionError("nobody answers")
            raise ToolFailed("not today")
        await asyncio.sleep(given["seconds"])
        if self.chance.random() < 0.2:
            await ctx.progress(1, 2)
            await ctx.emit({"part": given["n"]})
        self.history.note(process, "tool", what="done", **fields, **{"try": ctx.try_number})
        return f"number {given['n']} is done"


HANDS: ContextVar[Hands] = ContextVar("hands")
"""Whose tools they are: making tools takes longer than simulating them."""


@cache
def tools() -> tuple[Tool[..., object], ...]:
    """Make the tools, one of each effect and more, in two pools."""

    @tool(effect="read", pool="alpha", timeout=TIMEOUT_SECONDS, retries=TRIES - 1)
    async def look(n: int, seconds: float, ctx: ToolContext) -> str:
        """Look something up."""
        return await HANDS.get().act(ctx, {"n": n, "seconds": seconds})

    @tool(effect="write", pool="alpha", timeout=TIMEOUT_SECONDS, retries=TRIES - 1)
    async def put(n: int, seconds: float, ctx: ToolContext) -> str:
        """Change something, in a way that may be done again."""
        return await HANDS.get().act(ctx, {"n": n, "seconds": seconds})

    @tool(effect="once", pool="beta", timeout=TIMEOUT_SECONDS)
    async def pay(n: int, seconds: float, ctx: ToolContext) -> str:
        """Change something that must not be done twice."""
        return await HANDS.get().act(ctx, {"n": n, "seconds": seconds})

    @tool(effect="write", pool="beta", approval=True)
    async def guarded(n: int, seconds: float, ctx: ToolContext) -> str:
        """Do what a person must have approved. Nobody has: it never runs."""
        HANDS.get().counts["unapproved"] += 1
        return await HANDS.get().act(ctx, {"n": n, "seconds": seconds})

    return (look, put, pay, guarded)


@cache
def agent() -> Agent:
    """Make the agent."""
    return Agent("sim", model="sim:sim", instructions="", tools=list(tools()), budget=BUDGET, default=True)
