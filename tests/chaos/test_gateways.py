"""Gateways are all alike: whichever is asked, the answer is the same, and what one accepted the others know at once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.chaos.client import ask, began, check, get, viewing
from tests.chaos.processes import Stage

ROUNDS = 25


async def body(url: str, path: str, accept: str) -> bytes:
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        response = await client.get(path, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response.content


@pytest.mark.kafka
async def test_two_gateways_give_the_same_bytes_for_the_same_session_and_seq(cluster: Stage) -> None:
    (_, _, one), other = await asyncio.gather(cluster.roles(), cluster.gateway())
    session = await began(one.url, "Work, please.")
    async with viewing(one.url, session) as near, viewing(other.url, session) as far:
        await near.until_end()
        await check(one.url, session, near, far)
        await ask(other.url, f"/v1/sessions/{session}/close", {})
        await near.until_type("session_closed")
        await far.until_type("session_closed")
        assert near.ids == far.ids
        assert near.events == far.events
    for after in (0, 1, 7, len(near.ids) - 1, near.ids[3]):
        path = f"/v1/sessions/{session}/events?after={after}"
        streams = [await body(gateway.url, path, "text/event-stream") for gateway in (one, other)]
        # Only the first frame, which is said by the gateway and no event, may differ: it says when to come again.
        frames = [stream.split(b"\n\n")[1:] for stream in streams]
        assert frames[0] == frames[1]
        assert frames[0]
        pages = [await body(gateway.url, path, "application/json") for gateway in (one, other)]
        assert pages[0] == pages[1]


async def create_here_and_read_there(here: str, there: str) -> str:
    """Create a session through one gateway, and read it through another in every way at once."""
    session = str((await ask(here, "/v1/sessions", {"input": "Brief, please."}))["id"])
    async with httpx2.AsyncClient(base_url=there, trust_env=False) as client:
        path = f"/v1/sessions/{session}"
        shown, page = await client.get(path), await client.get(f"{path}/events")
        async with client.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
            codes: list[Any] = [shown.status_code, page.status_code, stream.status_code]
    assert codes == [200, 200, 200]
    return session


@pytest.mark.kafka
async def test_a_session_is_readable_through_every_gateway_from_the_moment_that_one_created_it(cluster: Stage) -> None:
    one, other = await asyncio.gather(cluster.gateway(), cluster.gateway())
    # First with no orchestrator at all, then with one.
    sessions = [await create_here_and_read_there(one.url, other.url) for _ in range(ROUNDS)]
    await cluster.orchestrator()
    sessions += [await create_here_and_read_there(other.url, one.url) for _ in range(ROUNDS)]
    for session in sessions:
        async with viewing(other.url, session) as viewer:
            await viewer.until_end()
            assert (await check(one.url, session, viewer)).finals == ["Yes."]
    assert (await get(one.url, f"/v1/sessions/{sessions[0]}"))["status"] == "idle"
