"""The reference *plain*: the agent loop that every tutorial shows, and nothing else.

FastAPI's `StreamingResponse` around the SDK's streaming helper, tools in the process, run together with `gather`.
Nothing is stored: a lost connection or process loses the run. Served as a tutorial serves it, with uvicorn's defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator

import uvicorn
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam, ToolUseBlock
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from bench.scenarios import AGENTS, SAMPLES, TOOL_NAMES

__all__ = ["app"]

MODELS = AGENTS | SAMPLES

TOOLS: list[ToolParam] = [
    {
        "name": name,
        "description": "Wait, as a call to another service would.",
        "input_schema": {
            "type": "object",
            "properties": {"milliseconds": {"type": "integer"}},
            "required": ["milliseconds"],
        },
    }
    for name in TOOL_NAMES
]

app = FastAPI()
client = AsyncAnthropic()


class Ask(BaseModel):
    """The body of a request."""

    agent: str
    input: str


@app.post("/v1/stream")
async def stream(ask: Ask) -> StreamingResponse:
    return StreamingResponse(run(ask), media_type="text/event-stream")


async def run(ask: Ask) -> AsyncGenerator[str, None]:
    messages: list[MessageParam] = [{"role": "user", "content": ask.input}]
    while True:
        async with client.messages.stream(
            model=MODELS[ask.agent], max_tokens=1024, messages=messages, tools=TOOLS
        ) as answer:
            async for text in answer.text_stream:
                yield frame(type="text_delta", text=text)
            message = await answer.get_final_message()
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            break
        messages.append({"role": "assistant", "content": message.content})
        messages.append({"role": "user", "content": await asyncio.gather(*map(call, calls))})
    yield frame(type="run_completed")


async def call(block: ToolUseBlock) -> ToolResultBlockParam:
    began = time.monotonic_ns()
    await asyncio.sleep(int(str(block.input["milliseconds"])) / 1000)
    output = f"waited {began:019d} {time.monotonic_ns():019d}"
    return {"type": "tool_result", "tool_use_id": block.id, "content": output}


def frame(**event: str) -> str:
    return f"data: {json.dumps(event)}\n\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The reference agent that stores nothing.")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, access_log=False)
