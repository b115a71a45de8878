"""*plain* on OpenAI's wire: the tutorial's `StreamingResponse` around the SDK's stream of chunks. It has no tools.

For the latency of deltas alone (`--wire openai`); the rest is as in `plain.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

from bench.plain import MODELS, Ask, frame

__all__ = ["app"]

app = FastAPI()
client = AsyncOpenAI()


@app.post("/v1/stream")
async def stream(ask: Ask) -> StreamingResponse:
    return StreamingResponse(run(ask), media_type="text/event-stream")


async def run(ask: Ask) -> AsyncGenerator[str, None]:
    answer = await client.chat.completions.create(
        model=MODELS[ask.agent], messages=[{"role": "user", "content": ask.input}], stream=True
    )
    async for chunk in answer:
        if chunk.choices and chunk.choices[0].delta.content:
            yield frame(type="text_delta", text=chunk.choices[0].delta.content)
    yield frame(type="run_completed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The reference agent that stores nothing, on OpenAI's wire.")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, access_log=False)
