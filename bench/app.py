"""The agents of the benchmark, as a user would write them, with the tools of *plain*: each sleeps as long as asked."""

from __future__ import annotations

import asyncio
import time

from playhead import Agent, tool

from bench.scenarios import AGENTS

__all__ = ["crowd", "stream", "tools"]


async def wait(milliseconds: int) -> str:
    began = time.monotonic_ns()
    await asyncio.sleep(milliseconds / 1000)
    return f"waited {began:019d} {time.monotonic_ns():019d}"


@tool(effect="read")
async def look_up(milliseconds: int) -> str:
    """Wait, as a call to another service would."""
    return await wait(milliseconds)


@tool(effect="read")
async def measure(milliseconds: int) -> str:
    """Wait, as a call to another service would."""
    return await wait(milliseconds)


def agent(name: str) -> Agent:
    return Agent(name, model=f"anthropic:{AGENTS[name]}", instructions="Be brief.", tools=[look_up, measure])


stream = agent("stream")
crowd = agent("crowd")
tools = agent("tools")
