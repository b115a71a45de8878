"""The catalogue and the directory: what the compacted topics say, listed, newest first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
from playhead.commands import AnnounceAgent, AnnounceTool, ListSession
from playhead.events import Json
from playhead.ids import Seq, session_id

from tests.gateway.support import NOW, World, client_of, until_ready


def line(
    number: int, *, status: str = "idle", agent: str = "support", epoch: int = 1, last_seq: int = 5
) -> ListSession:
    session = session_id(number.to_bytes(16, "big"))
    return ListSession(session, agent, status, status == "running", NOW + number, NOW, Seq(last_seq), epoch)


async def listed(client: httpx2.AsyncClient, **query: str | int) -> list[str]:
    answer = await client.get("/v1/sessions", params=query)
    assert answer.status_code == 200
    return [one["id"] for one in answer.json()["sessions"]]


async def until_listed(client: httpx2.AsyncClient, count: int) -> None:
    async with asyncio.timeout(5):
        while len(await listed(client)) < count:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0)


async def announce(world: World, *lines: ListSession) -> None:
    for one in lines:
        await world.announce(world.topics.sessions.name, one.session, one)


async def test_sessions_are_listed_newest_first_in_pages_and_by_status_and_agent(world: World) -> None:
    """protocol:P50"""
    await announce(world, *[line(number, status="running" if number % 3 == 0 else "idle") for number in range(7)])
    await announce(world, line(7, agent="other"))
    names = [line(number).session for number in range(8)]
    async with client_of(world.parts()) as client:
        await until_ready(client)
        assert await listed(client) == names[::-1]
        assert await listed(client, status="running") == [names[6], names[3], names[0]]
        assert await listed(client, agent="other") == [names[7]]
        found: list[str] = []
        query: dict[str, str | int] = {"limit": 3}
        for _ in range(3):
            page = (await client.get("/v1/sessions", params=query)).json()
            found.extend(one["id"] for one in page["sessions"])
            query["cursor"] = page.get("next_cursor", "")
        assert found == names[::-1]
        assert "next_cursor" not in page  # pyright: ignore[reportPossiblyUnboundVariable]
        shown = (await client.get("/v1/sessions", params={"agent": "other"})).json()["sessions"][0]
        assert shown == {
            "id": names[7],
            "agent": "other",
            "status": "idle",
            "created_at": NOW + 7,
            "updated_at": NOW,
            "last_seq": 5,
            "metadata": {},
        }
        for query_text in ("limit=0", "status=asleep", "cursor=x", "cursor=1-ses_x"):
            assert (await client.get(f"/v1/sessions?{query_text}")).status_code == 400


async def test_a_former_owner_does_not_take_back_what_the_new_one_said(world: World) -> None:
    async with client_of(world.parts()) as client:
        await until_ready(client)
        await announce(world, line(1, status="running", epoch=2, last_seq=9))
        await until_listed(client, 1)
        await announce(world, line(1, status="idle", epoch=1, last_seq=7), line(2))
        await until_listed(client, 2)
        assert await listed(client, status="running") == [line(1).session]


async def test_a_session_that_is_taken_off_the_directory_is_gone(world: World) -> None:
    await announce(world, line(1), line(2))
    await world.queue.publish(world.topics.sessions.name, line(1).session, b"")
    async with client_of(world.parts()) as client:
        await until_ready(client)
        assert await listed(client) == [line(2).session]


async def test_the_directory_is_bounded_and_forgets_the_longest_untouched(world: World) -> None:
    """protocol:P50"""
    lines = [line(number) for number in range(5)]
    touched = [replace(one, updated_at=NOW + place) for place, one in enumerate(lines[1:])]
    await announce(world, *touched, replace(lines[0], updated_at=NOW + 10))
    async with client_of(world.parts(directory_max=3)) as client:
        await until_ready(client)
        assert await listed(client) == [lines[number].session for number in (4, 3, 0)]


async def test_tools_and_agents_are_listed_as_announced_also_later(world: World) -> None:
    """protocol:P56"""
    catalog = world.topics.catalog.name
    tool = AnnounceTool("default", "weather", "Sky.", Json('{"type":"object"}'), "abc", "read", 5000, 3, NOW)
    agent = AnnounceAgent("support", "1", "scripted:plain", "Helps.", ("weather",), default=True, at=NOW)
    await world.announce(catalog, "default/weather", tool)
    await world.queue.publish(catalog, "default/poison", b"not ours")
    async with client_of(world.parts()) as client:
        await until_ready(client)
        (shown,) = (await client.get("/v1/tools")).json()["tools"]
        assert (shown["pool"], shown["name"], shown["input_schema"]) == ("default", "weather", {"type": "object"})
        assert (await client.get("/v1/agents")).json() == {"agents": []}
        await world.announce(catalog, "agent/support", agent)
        async with asyncio.timeout(5):
            while not (agents := (await client.get("/v1/agents")).json()["agents"]):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0)
        assert agents[0]["default"] is True
        assert agents[0]["tools"] == ["weather"]


async def test_a_gateway_is_ready_once_it_has_read_the_catalogue(world: World) -> None:
    """protocol:P57"""
    async with client_of(world.parts()) as client:
        first = await client.get("/readyz")
        await until_ready(client)
        assert first.json()["checks"]["serving"] == "ok"
        assert (await client.get("/livez")).status_code == 200
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
