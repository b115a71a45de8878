"""Connections that break while a session goes on: a client that resumes from its last id misses nothing.

Every cut of a session that has ended is in `cuts`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
from httpx2 import EventSource, ServerSentEvent
from playhead.ids import SessionId

from tests.gateway.support import CLOSED, OWNED, SSE, STARTED, World, deltas, serving
from tests.support.cutting import cutting

ROUNDS_MAX = 2000


async def until_the_end(url: str) -> list[ServerSentEvent]:
    """Do what every client does: remember the last id, connect again, stop at `end` or 204."""
    seen: list[ServerSentEvent] = []
    last = ""
    for _ in range(ROUNDS_MAX):
        headers = SSE | ({"Last-Event-ID": last} if last else {})
        with suppress(httpx2.TransportError):
            async with (
                httpx2.AsyncClient(timeout=5) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code == 204:
                    return seen
                async for event in EventSource(response):
                    if event.event == "end":
                        return seen
                    if event.event != "ready":
                        seen.append(event)
                        last = event.id
    raise AssertionError(f"no end after {ROUNDS_MAX} connections")


async def test_a_client_that_is_cut_off_while_the_session_goes_on_misses_nothing(world: World) -> None:
    """protocol:P33 protocol:P40"""
    session = await world.session_with(STARTED, OWNED)

    async def go_on(session: SessionId) -> None:
        for _ in range(60):
            await world.write(session, *deltas(10))
            await asyncio.sleep(0.002)
        await world.write(session, CLOSED)

    async with (
        serving(world.parts(ring_bytes_max=8_000)) as one,
        serving(world.parts()) as other,
        cutting(one.address.port, other.address.port, seed=7, bytes_max=20_000) as cutter,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(go_on(session))
        seen = await until_the_end(f"{cutter.url}/v1/sessions/{session}/events")
        assert cutter.cuts > 3
    assert [int(event.id.partition("-")[0]) for event in seen] == list(range(1, 604))
