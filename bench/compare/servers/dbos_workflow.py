"""DBOS: the loop is a workflow, each model call and each tool call a step, and a model call streams from its step.

After https://docs.dbos.dev/ai/streaming (steps that write to a stream, readers that follow it),
https://docs.dbos.dev/python/tutorials/workflow-tutorial (coroutine workflows, steps in parallel with `gather`) and
https://docs.dbos.dev/python/integrating-dbos (the set-up, SQLite by default, Postgres where `DBOS_SYSTEM_DATABASE_URL`
says so). All other settings are the defaults.

The messages, tools and frames are those of *plain*. A viewer that comes back sends `Last-Event-ID`: the next offset.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import uvicorn
from anthropic.types import ToolUseBlock
from dbos import DBOS
from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse

from bench import plain
from bench.plain import MODELS, TOOLS, Ask, client

STREAM = "events"

app = FastAPI()


@DBOS.step()
async def call_model(agent: str, messages: list[Any]) -> list[Any]:
    async with client.messages.stream(model=MODELS[agent], max_tokens=1024, messages=messages, tools=TOOLS) as answer:
        async for text in answer.text_stream:
            await DBOS.write_stream_async(STREAM, {"type": "text_delta", "text": text})
        return [block.model_dump() for block in (await answer.get_final_message()).content]


@DBOS.step()
async def call_tool(block: dict[str, Any]) -> Any:
    return await plain.call(ToolUseBlock.model_validate(block))


@DBOS.workflow()
async def run(agent: str, asked: str) -> None:
    messages: list[Any] = [{"role": "user", "content": asked}]
    while True:
        content = await call_model(agent, messages)
        calls = [block for block in content if block["type"] == "tool_use"]
        if not calls:
            break
        results = await asyncio.gather(*map(call_tool, calls), return_exceptions=True)
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    await DBOS.write_stream_async(STREAM, {"type": "run_completed"})
    await DBOS.close_stream_async(STREAM)


@app.post("/v1/stream")
async def stream(ask: Ask) -> StreamingResponse:
    handle = await DBOS.start_workflow_async(run, ask.agent, ask.input)
    return follow(handle.workflow_id, 0)


@app.get("/v1/runs/{workflow}/events")
async def events(workflow: str, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
    return follow(workflow, last_event_id)


def follow(workflow: str, offset: int) -> StreamingResponse:
    headers = {"Content-Location": f"/v1/runs/{workflow}/events"}
    return StreamingResponse(read(workflow, offset), media_type="text/event-stream", headers=headers)


async def read(workflow: str, offset: int) -> AsyncGenerator[str, None]:
    async for event in DBOS.read_stream_async(workflow, STREAM, offset=offset):
        offset += 1
        yield f"id: {offset}\ndata: {json.dumps(event)}\n\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The agent that is a DBOS workflow.")
    parser.add_argument("--port", type=int, required=True)
    DBOS(
        config={
            "name": "bench",
            "application_version": "0.1.0",
            "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),
        }
    )
    DBOS.launch()
    uvicorn.run(app, port=parser.parse_args().port, access_log=False)
