"""What the gateway's tests stand on: ports in memory, a log to write to, an application, and a real server."""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx2
import orjson
from fastapi import FastAPI
from playhead.accept import Head
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.codec import Codec, Context
from playhead.commands import Command, Request
from playhead.events import (
    Event,
    FinalResponse,
    Json,
    ModelCallCompleted,
    ModelCallStarted,
    OwnerChanged,
    RunCompleted,
    RunStarted,
    SessionClosed,
    SessionStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from playhead.ids import MessageId, RunId, SessionId, call_id, message_id, run_id
from playhead.log import APPEND_RECORDS_MAX, RECORD_BYTES_MAX
from playhead.queue import Topics
from playhead.telemetry import Telemetry
from playhead_gateway.app import Gateway, GatewayParts, create_app
from playhead_gateway.limits import Limits
from playhead_gateway.server import Address, serve

CODEC = Codec()
NOW = 1_700_000_000_000_000
LEASE_KEY = b"a key for tests"


@dataclass
class World:
    """One deployment in memory: any number of gateways over the same log and queue."""

    log: MemorySessionLog
    queue: MemoryQueue
    topics: Topics = field(default_factory=Topics)
    entropy: itertools.count[int] = field(default_factory=itertools.count)

    def parts(self, **limits: Any) -> GatewayParts:
        return GatewayParts(
            self.log,
            self.queue,
            self.topics,
            CODEC,
            Telemetry(),
            clock=lambda: NOW,
            entropy=lambda: next(self.entropy).to_bytes(16, "big"),
            limits=replace(Limits(), **limits),
            lease_key=LEASE_KEY,
        )

    async def write(self, session: SessionId, *events: Event, cause: str | None = None) -> Head:
        """Append events, in as few appends as the port allows."""
        head = await self.log.end(session)
        records = CODEC.seal(head, events, Context(session, 1, cause, NOW))
        while records:
            size = list(itertools.accumulate(len(record.value) for record in records))
            count = min(bisect_right(size, RECORD_BYTES_MAX), APPEND_RECORDS_MAX)
            head = await self.log.append(session, head, records[:count])
            records = records[count:]
        return head

    async def session_with(self, *events: Event) -> SessionId:
        session = await self.log.create()
        await self.write(session, *events)
        return session

    async def published(self) -> list[Request]:
        """Give every request that gateways have published: in order for one session, in any among several."""
        found: list[Request] = []
        async for batch in self.queue.replay(self.topics.requests.name):
            found.extend(cast("Request", CODEC.command(message.value)) for message in batch)
        return found

    async def announce(self, topic: str, key: str, command: Command) -> None:
        await self.queue.publish(topic, key, CODEC.encode(command))


async def a_world() -> World:
    world = World(MemorySessionLog(), MemoryQueue())
    await world.queue.prepare(*world.topics.fixed)
    return world


@asynccontextmanager
async def client_of(parts: GatewayParts) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """Talk to an application without a network. Streams are only whole answers here: use `serving` to watch one."""
    app = create_app(parts)
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


async def until_ready(client: httpx2.AsyncClient) -> None:
    """Wait until a gateway has read the catalogue and the directory."""
    async with asyncio.timeout(5):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - a client can only ask
            await asyncio.sleep(0)


def gateway_of(app: FastAPI) -> Gateway:
    gateway = app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


@asynccontextmanager
async def serving(parts: GatewayParts, *, grace_seconds: float = 1.0) -> AsyncGenerator[Served, None]:
    """Serve a gateway on a free port."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(parts, Address(port=0), stop=stop, grace_seconds=grace_seconds, on_ready=ready.set_result)
        )
        address = await ready
        timeout = httpx2.Timeout(5.0)
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=timeout) as client:
            try:
                yield Served(client, address, stop)
            finally:
                stop.set()


@dataclass
class Served:
    client: httpx2.AsyncClient
    address: Address
    stop: asyncio.Event


@dataclass(frozen=True)
class Frame:
    """One server-sent event as it came over the wire, parsed by the letter of the specification."""

    event: str
    data: Any
    id: str | None
    retry: int | None
    raw: bytes


def parse(stream: bytes) -> list[Frame]:
    """Parse whole frames; comments and an unfinished frame at the end are left out."""
    frames: list[Frame] = []
    for block in stream.split(b"\n\n")[:-1]:
        lines = [line for line in block.split(b"\n") if line and not line.startswith(b":")]
        if not lines:
            continue
        said = dict(line.split(b": ", 1) for line in lines)
        retry = said.get(b"retry")
        frames.append(
            Frame(
                said[b"event"].decode(),
                orjson.loads(said[b"data"]),
                said[b"id"].decode() if b"id" in said else None,
                None if retry is None else int(retry),
                block + b"\n\n",
            )
        )
    return frames


class Watching:
    """A stream being read frame by frame."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.raw = b""
        self._chunks = response.aiter_raw()
        self._frames: list[Frame] = []
        self._rest = b""

    async def next(self) -> Frame:
        """Wait for the next frame, at most five seconds. Raises `StopAsyncIteration` at the end."""
        while not self._frames:
            await self._read()
        return self._frames.pop(0)

    async def take(self, count: int) -> list[Frame]:
        return [await self.next() for _ in range(count)]

    async def until(self, raw: bytes) -> None:
        """Wait until some bytes have come."""
        while raw not in self.raw:
            await self._read()

    async def rest(self) -> list[Frame]:
        """Read to the stream's end."""
        try:
            while True:
                await self._read()
        except StopAsyncIteration:
            return self._frames

    async def _read(self) -> None:
        async with asyncio.timeout(5):
            chunk = await anext(self._chunks)
        self.raw += chunk
        whole, end, self._rest = (self._rest + chunk).rpartition(b"\n\n")
        self._frames.extend(parse(whole + end))


SSE = {"Accept": "text/event-stream"}


@asynccontextmanager
async def watching(
    client: httpx2.AsyncClient, session: str, *, headers: Mapping[str, str] | None = None, **query: Any
) -> AsyncGenerator[Watching, None]:
    """Watch a session's events."""
    url = f"/v1/sessions/{session}/events"
    async with client.stream("GET", url, headers={**SSE, **(headers or {})}, params=query) as response:
        assert response.status_code == 200, await response.aread()
        yield Watching(response)


def events_of(frames: Sequence[Frame]) -> list[Frame]:
    """Leave out what the gateway says itself."""
    return [frame for frame in frames if frame.id is not None]


STARTED = SessionStarted("support", "1", "scripted:plain", Json('{"team":"blue"}'))
OWNED = OwnerChanged(1, "orchestrator-1")
CLOSED = SessionClosed("requested")
RUN = RunId("run_" + "r" * 26)
MESSAGE = MessageId("msg_" + "m" * 26)


def deltas(count: int, run: RunId = RUN) -> list[Event]:
    return [TextDelta(run, 1, 1, f"word {number} ") for number in range(count)]


def a_turn(session: SessionId, key: str = "first", question: str = "hello", words: int = 3) -> list[Event]:
    """Give the events of one run: a question, a tool call, an answer."""
    message = message_id(session, key)
    run = run_id(session, message)
    call = call_id(session, run, 1, 0)
    asks = Json('{"role": "assistant",\n "content": [{"type": "tool_use", "id": "x", "name": "weather", "input": {}}]}')
    answer = "".join(f"word {number} " for number in range(words))
    says = Json(orjson.dumps({"role": "assistant", "content": [{"type": "text", "text": answer}]}).decode())
    return [
        UserMessage(run, message, Json(orjson.dumps(question).decode())),
        RunStarted(run, message),
        ModelCallStarted(run, 1, 1, "scripted:plain", "scripted"),
        ModelCallCompleted(run, 1, 1, asks, Usage(3, 5), "tool_use", 12),
        ToolCall(run, 1, 1, call, "weather", Json('{"city": "Paris"}'), "read", "default"),
        ToolResult(run, 1, 1, call, "ok", Json('{"sky": "clear"}'), 7),
        ModelCallStarted(run, 2, 1, "scripted:plain", "scripted"),
        *[TextDelta(run, 2, 1, f"word {number} ") for number in range(words)],
        ModelCallCompleted(run, 2, 1, says, Usage(4, 6), "end_turn", 34),
        FinalResponse(run, answer, MessageId("msg_" + "a" * 26)),
        RunCompleted(run, Usage(7, 11)),
    ]
