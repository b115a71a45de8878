"""Many viewers: one read of the log, a slow one bounded, nobody slowed by another, and how all are sent away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from playhead.accept import Head
from playhead.adapters.memory import MemorySessionLog
from playhead.codec import Codec, Context
from playhead.errors import Misconfigured, Unavailable
from playhead.events import TextDelta
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import Page
from playhead_gateway.app import create_app
from playhead_gateway.server import Address, serve

from tests.gateway.support import (
    CLOSED,
    CODEC,
    NOW,
    OWNED,
    RUN,
    SSE,
    STARTED,
    Served,
    World,
    deltas,
    events_of,
    gateway_of,
    parse,
    serving,
    watching,
)

BIG = [TextDelta(RUN, 1, 1, "x" * 50_000)] * 10


class CountingLog(MemorySessionLog):
    """A log that counts how often it is followed, and fails readers on request."""

    def __init__(self) -> None:
        super().__init__()
        self.follows = 0
        self.reads = 0
        self.failing = asyncio.Event()

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        self.follows += follow
        self.reads += not follow
        async for page in super().read(session, after, follow=follow):
            if self.failing.is_set():
                raise Unavailable("the store is gone")
            yield page

    async def end(self, session: SessionId) -> Head:
        if self.failing.is_set():
            raise Unavailable("the store is gone")
        return await super().end(session)


class CountingCodec(Codec):
    """A codec that counts what is decoded for showing."""

    shown = 0

    def fields(self, value: bytes) -> tuple[type[object], dict[str, object]]:
        self.shown += 1
        return super().fields(value)


@asynccontextmanager
async def stalled(served: Served, session: str) -> AsyncGenerator[socket.socket, None]:
    """Ask for a session's stream and never read it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, (served.address.host, served.address.port))
        request = f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        yield connection


async def metric(client: httpx2.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def until_metric(client: httpx2.AsyncClient, name: str, value: float) -> None:
    async with asyncio.timeout(5):
        while await metric(client, name) != value:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)


async def test_all_viewers_of_a_session_share_one_read_and_one_encoding(world: World) -> None:
    codec = CountingCodec()
    log = world.log = CountingLog()
    session = await world.session_with(STARTED, OWNED)
    async with serving(replace(world.parts(), codec=codec)) as served:

        async def watch() -> list[int]:
            async with watching(served.client, session) as stream:
                return [frame.data["seq"] for frame in events_of(await stream.rest())]

        async with asyncio.TaskGroup() as group:
            viewers = [group.create_task(watch()) for _ in range(20)]
            await until_metric(served.client, "playhead_stream_clients", 20)
            for event in deltas(50):
                await world.write(session, event)
            await world.write(session, CLOSED)
        assert all(viewer.result() == list(range(1, 54)) for viewer in viewers)
        again = await served.client.get(f"/v1/sessions/{session}/events", headers=SSE)
        assert len(parse(again.content)) == 55
    assert (log.follows, log.reads) == (1, 0)
    assert codec.shown == 53


async def test_a_viewer_that_does_not_read_is_dropped_and_slows_nobody(world: World) -> None:
    """protocol:P40"""
    session = await world.session_with(STARTED, OWNED)
    async with (
        serving(world.parts(send_timeout_seconds=0.3, heartbeat_seconds=0.5)) as served,
        stalled(served, session) as connection,
        watching(served.client, session) as stream,
    ):
        await stream.take(3)
        for _ in range(10):
            await world.write(session, *BIG)
            assert len(await stream.take(10)) == 10
        await until_metric(served.client, 'playhead_stream_dropped_total{reason="slow"}', 1)
        await until_metric(served.client, "playhead_stream_clients", 1)
        # What was still to be written to it is not kept until it reads on: it ends within a frame.
        seen, loop = b"", asyncio.get_running_loop()
        while data := await loop.sock_recv(connection, 1_000_000):
            seen += data
        assert len(seen) > 1000
        assert not seen.endswith(b"\n\n\r\n")
        await world.write(session, CLOSED)
        assert [frame.event for frame in await stream.rest()] == ["session_closed", "end"]


async def test_a_viewer_that_leaves_with_another_request_behind_its_stream_is_noticed(world: World) -> None:
    """With a request behind the stream nothing is read any more, so it is noticed by what is written."""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(heartbeat_seconds=0.2)) as served:
        async with stalled(served, session) as connection:
            await until_metric(served.client, "playhead_stream_clients", 1)
            loop = asyncio.get_running_loop()
            for _ in range(3):
                await loop.sock_sendall(connection, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await metric(served.client, "playhead_stream_clients") == 1
        await until_metric(served.client, "playhead_stream_clients", 0)


async def test_a_viewer_that_falls_off_the_ring_is_sent_away_with_its_cursor(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(ring_bytes_max=400_000)) as served:
        async with stalled(served, session) as connection:
            await until_metric(served.client, "playhead_stream_clients", 1)
            for _ in range(20):
                await world.write(session, *BIG)
                await asyncio.sleep(0.01)
            loop, seen = asyncio.get_running_loop(), b""
            async with asyncio.timeout(5):
                while not seen.endswith(b"\r\n0\r\n\r\n"):
                    seen += await loop.sock_recv(connection, 1_000_000)
            await until_metric(served.client, 'playhead_stream_dropped_total{reason="behind"}', 1)
            last = max(int(line[4:].partition(b"-")[0]) for line in seen.split(b"\n") if line.startswith(b"id: "))
            assert 2 < last < 202
            assert b"draining" not in seen
        async with watching(served.client, session, after=last) as stream:
            assert [frame.data["seq"] for frame in (await stream.take(6))[1:]] == list(range(last + 1, last + 6))


async def test_a_client_that_leaves_is_forgotten_at_once(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        async with watching(served.client, session) as stream:
            await stream.take(3)
            assert await metric(served.client, "playhead_stream_clients") == 1
        await until_metric(served.client, "playhead_stream_clients", 0)


async def test_a_session_without_viewers_is_closed_after_a_while(world: World) -> None:
    log = world.log = CountingLog()
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(linger_seconds=0.05)) as served:
        for opened in (1, 2):
            async with watching(served.client, session) as stream:
                await stream.take(3)
                assert log.follows == opened
            await until_metric(served.client, "playhead_stream_clients", 0)
            await asyncio.sleep(0.2)  # what is tested is that time passes


async def test_when_the_log_fails_viewers_are_told_to_come_back_and_then_can(world: World) -> None:
    log = world.log = CountingLog()
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        async with watching(served.client, session) as stream:
            await stream.take(3)
            head = await log.end(session)
            log.failing.set()
            await log.append(session, head, CODEC.seal(head, deltas(1), Context(session, 1, None, NOW)))
            last = (await stream.rest())[-1]
            assert (last.event, last.id, last.data["reason"]) == ("draining", None, "unavailable")
            assert last.retry is not None
            assert last.retry >= 2000
        log.failing.clear()
        async with watching(served.client, session, after=2) as stream:
            assert [frame.data.get("seq") for frame in await stream.take(2)] == [None, 3]


async def test_viewers_and_open_sessions_are_bounded_and_the_rest_is_told_to_come_back(world: World) -> None:
    """protocol:P39"""
    one, two = await world.session_with(STARTED), await world.session_with(STARTED)
    async with serving(world.parts(sessions_open_max=1)) as served, watching(served.client, one) as stream:
        await stream.take(2)
        answer = await served.client.get(f"/v1/sessions/{two}/events", headers=SSE)
        assert answer.status_code == 200
        (frame,) = parse(answer.content)
        assert (frame.event, frame.data["reason"]) == ("draining", "overloaded")
    async with serving(world.parts(viewers_max=1)) as served, watching(served.client, one) as stream:
        await stream.take(2)
        answer = await served.client.get(f"/v1/sessions/{one}/events", headers=SSE)
        assert parse(answer.content)[0].data["reason"] == "overloaded"


async def test_a_gateway_that_drains_is_not_ready_and_sends_its_viewers_away(world: World) -> None:
    """protocol:P37 protocol:P39 protocol:P57"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, watching(served.client, session) as stream:
        await stream.take(3)
        assert (await served.client.get("/readyz")).status_code == 200
        served.stop.set()
        (last,) = await stream.rest()
        assert (last.event, last.id, last.data) == ("draining", None, {"session": session, "reason": "draining"})
        assert last.retry is not None
        assert 2000 <= last.retry <= 5000


async def test_a_draining_gateway_answers_event_streams_with_when_to_come_back(world: World) -> None:
    """protocol:P39"""
    session = await world.session_with(STARTED, OWNED)
    app = create_app(world.parts())
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        gateway_of(app).drain()
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["serving"]) == (503, "draining")
        assert (await client.get("/livez")).status_code == 200
        answer = await client.get(f"/v1/sessions/{session}/events", headers=SSE)
        assert (answer.status_code, parse(answer.content)[0].event) == (200, "draining")
        assert (await client.post("/v1/stream", json={"input": "hi"})).status_code == 503
        assert await world.published() == []


async def test_a_gateway_stops_within_its_grace_even_with_a_viewer_that_does_not_read(world: World) -> None:
    session = await world.session_with(STARTED, *BIG * 10)
    async with asyncio.timeout(5):
        async with serving(world.parts(), grace_seconds=0.5) as served, stalled(served, session):
            await until_metric(served.client, "playhead_stream_clients", 1)


async def test_a_port_in_use_is_a_misconfiguration_that_says_what_to_do(world: World) -> None:
    async with serving(world.parts()) as served:
        with pytest.raises(Misconfigured, match="choose another with --port"):
            await serve(world.parts(), served.address, stop=asyncio.Event(), grace_seconds=1)


def test_a_gateway_binds_loopback_unless_told_otherwise() -> None:
    assert Address().host == "127.0.0.1"
    assert str(Address("::1", 80)) == "[::1]:80"


async def test_metrics_count_streams_and_how_they_were_resumed(world: World) -> None:
    session = await world.session_with(STARTED, OWNED, CLOSED)
    async with serving(world.parts()) as served:
        for after in ("1", "3", "9", "1-00000000"):
            await served.client.get(f"/v1/sessions/{session}/events?after={after}", headers=SSE)
        for outcome, count in (("resumed", 1), ("done", 1), ("conflict", 2)):
            assert await metric(served.client, f'playhead_stream_resumes_total{{outcome="{outcome}"}}') == count
