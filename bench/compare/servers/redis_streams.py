"""Redis Streams as the memory of a run: the loop adds each token with XADD, each viewer reads the stream with XREAD.

Redis's own tutorial has this shape, with a WebSocket where this has SSE:
https://redis.io/tutorials/howtos/solutions/streams/streaming-llm-output. The commands are those of redis-py's asyncio
client: https://redis.readthedocs.io/en/stable/examples/asyncio_examples.html. Redis runs with its defaults.

The loop, the tools and the frames are those of *plain*. A viewer that comes back sends `Last-Event-ID`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from redis.asyncio import Redis

from bench.plain import Ask, run

BLOCK_MS = 5000
CONNECTIONS_MAX = 1000
"""A blocked XREAD holds its connection: one for each viewer, where redis-py's default is 100."""

app = FastAPI()
redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, max_connections=CONNECTIONS_MAX)
running: set[asyncio.Task[None]] = set()


@app.post("/v1/stream")
async def stream(ask: Ask) -> StreamingResponse:
    key = f"run:{uuid.uuid4()}"
    task = asyncio.create_task(produce(key, ask))
    running.add(task)
    task.add_done_callback(running.discard)
    return follow(key, "0")


@app.get("/v1/runs/{key}/events")
async def events(key: str, last_event_id: Annotated[str, Header()] = "0") -> StreamingResponse:
    return follow(key, last_event_id)


def follow(key: str, last: str) -> StreamingResponse:
    headers = {"Content-Location": f"/v1/runs/{key}/events"}
    return StreamingResponse(read(key, last), media_type="text/event-stream", headers=headers)


async def produce(key: str, ask: Ask) -> None:
    async for frame in run(ask):
        await redis.xadd(key, {"data": frame.removeprefix("data: ").rstrip()})


async def read(key: str, after: str) -> AsyncGenerator[str, None]:
    while True:
        for _, entries in await redis.xread({key: after}, block=BLOCK_MS) or []:
            for ident, fields in entries:
                after = ident
                yield f"id: {ident}\ndata: {fields['data']}\n\n"
                if json.loads(fields["data"])["type"] == "run_completed":
                    return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The agent whose memory is a Redis stream.")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, access_log=False)
