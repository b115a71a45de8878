"""Connections that break: a stock client that goes on from its last id ends with exactly the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
import pytest
from httpx2 import EventSource, ServerSentEvent
from playhead.ids import SessionId

from tests.gateway.cutting import cutting
from tests.gateway.support import CLOSED, OWNED, SSE, STARTED, World, a_turn, deltas, parse, serving

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


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_that_is_cut_off_at_random_bytes_ends_with_exactly_the_log(world: World, seed: int) -> None:
    """protocol:P40"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, question="\u2028 é \r\n", words=40), CLOSED)
    # A ring of a few events: most reconnects are served from the log, the others from memory.
    async with serving(world.parts()) as one, serving(world.parts(ring_bytes_max=4_000)) as other:
        whole = (await one.client.get(f"/v1/sessions/{session}/events", headers=SSE)).content
        expected = [(frame.event, frame.id, frame.data["seq"]) for frame in parse(whole)[1:-1]]
        async with cutting([one.address.port, other.address.port], seed, 2_500) as cutter:
            seen = await until_the_end(f"http://127.0.0.1:{cutter.port}/v1/sessions/{session}/events")
        assert cutter.rounds > 3
    assert [(event.event, event.id, event.json()["seq"]) for event in seen] == expected  # pyright: ignore[reportIndexIssue, reportUnknownMemberType] - json() is object


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
        cutting([one.address.port, other.address.port], 7, 20_000) as cutter,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(go_on(session))
        seen = await until_the_end(f"http://127.0.0.1:{cutter.port}/v1/sessions/{session}/events")
    assert [int(event.id.partition("-")[0]) for event in seen] == list(range(1, 604))
