"""The agents of the benchmark, as a user would write them, with the tools of *plain*: each sleeps as long as asked.

`BENCH_WIRE` says which provider's wire the model is asked on.
"""

from __future__ import annotations

import asyncio
import os
import time

from playhead import Agent, tool

from bench.scenarios import AGENTS

__all__ = ["burst", "crash", "crowd", "few", "flood", "live", "spate", "stream", "tools"]

WIRE = os.environ.get("BENCH_WIRE", "anthropic")


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
    return Agent(name, model=f"{WIRE}:{AGENTS[name]}", instructions="Be brief.", tools=[look_up, measure])


stream = agent("stream")
crowd = agent("crowd")
tools = agent("tools")
flood = agent("flood")
burst = agent("burst")
crash = agent("crash")
live = agent("live")
few = agent("few")
spate = agent("spate")
