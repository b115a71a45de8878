"""LangGraph: an agent for each workload, served by `langgraph dev` (the server of `langgraph-cli[inmem]`).

After https://docs.langchain.com/oss/python/langchain/agents (`create_agent`, tools that run side by side) and
https://docs.langchain.com/langsmith/local-server (`langgraph.json`, `langgraph dev`). Checkpoints are the server's own.
The client asks as in https://docs.langchain.com/langsmith/streaming: a run on a thread, `messages-tuple` for tokens,
`stream_resumable` so that a viewer may come back with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import time

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic

from bench.scenarios import AGENTS


async def wait(milliseconds: int) -> str:
    began = time.monotonic_ns()
    await asyncio.sleep(milliseconds / 1000)
    return f"waited {began:019d} {time.monotonic_ns():019d}"


async def look_up(milliseconds: int) -> str:
    """Wait, as a call to another service would."""
    return await wait(milliseconds)


async def measure(milliseconds: int) -> str:
    """Wait, as a call to another service would."""
    return await wait(milliseconds)


def agent(name: str):
    return create_agent(ChatAnthropic(model=AGENTS[name], max_tokens=1024), tools=[look_up, measure])


stream = agent("stream")
tools = agent("tools")
crowd = agent("crowd")
burst = agent("burst")
crash = agent("crash")
