"""The reference *memory*: the model's stream appended to a list, and any number of viewers reading the list over SSE.

It writes the same frames as Playhead and loses them with the process. What it cannot do faster, no log can. The agent
loop is that of *plain* without tools.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from anthropic import AsyncAnthropic
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from bench.plain import MODELS, Ask

__all__ = ["app"]

SESSIONS_MAX = 10_000
SLICE_FRAMES_MAX = 1024
"""How many frames are joined into one write."""


class Session:
    """One list of frames, and a bell for those who wait at its end."""

    def __init__(self) -> None:
        self.id = f"ses_{secrets.token_hex(8)}"
        self.run = f"run_{secrets.token_hex(8)}"
        self.frames: list[bytes] = []
        self.over = False
        self._bell = asyncio.Event()

    def append(self, kind: str, **fields: object) -> None:
        seq = len(self.frames) + 1
        data = {"seq": seq, "type": kind, "at": time.time_ns() // 1000, "run_id": self.run, **fields}
        body = json.dumps(data, separators=(",", ":"))
        self.frames.append(f"event: {kind}\ndata: {body}\nid: {seq}-00000000\n\n".encode())
        self._ring()

    def end(self) -> None:
        self.over = True
        self._ring()

    def _ring(self) -> None:
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        ready = json.dumps({"session": self.id, "last_seq": len(self.frames)})
        yield f"event: ready\nretry: 2000\ndata: {ready}\n\n".encode()
        while True:
            bell = self._bell
            if joined := b"".join(self.frames[after : after + SLICE_FRAMES_MAX]):
                after = min(after + SLICE_FRAMES_MAX, len(self.frames))
                yield joined
            elif self.over:
                return
            else:
                await bell.wait()


sessions: dict[str, Session] = {}
client = AsyncAnthropic()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    async with asyncio.TaskGroup() as group:
        app.state.group = group
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/stream")
async def stream(ask: Ask) -> StreamingResponse:
    while len(sessions) >= SESSIONS_MAX:
        sessions.pop(next(iter(sessions)))
    session = Session()
    sessions[session.id] = session
    app.state.group.create_task(run(session, ask))
    return StreamingResponse(session.follow(0), media_type="text/event-stream")


@app.get("/v1/sessions/{session}/events")
async def events(session: str, after: int = 0) -> StreamingResponse:
    if session not in sessions:
        raise HTTPException(404)
    return StreamingResponse(sessions[session].follow(after), media_type="text/event-stream")


async def run(session: Session, ask: Ask) -> None:
    messages = [{"role": "user", "content": ask.input}]
    async with client.messages.stream(
        model=MODELS[ask.agent],
        max_tokens=1024,
        messages=messages,  # pyright: ignore[reportArgumentType] - the SDK takes plain dictionaries
    ) as answer:
        async for text in answer.text_stream:
            session.append("text_delta", step=1, attempt=1, text=text)
    session.append("run_completed")
    session.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The reference server that keeps its frames in a list.")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, access_log=False)
