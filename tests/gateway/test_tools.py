"""Tools: shown as announced, with their breakers, and called by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
import orjson
import pytest
from playhead.commands import AnnounceBreaker, AnnounceTool, CallTool
from playhead.events import Json, RunStarted, SessionStarted, UserMessage

from tests.gateway.support import NOW, OWNED, World, client_of, until_ready

PLAIN = AnnounceTool("default", "weather", "Sky.", Json('{"type":"object"}'), "abc", "read", 5000, 3, NOW)
FULL = replace(
    PLAIN,
    name="pay",
    effect="once",
    output_schema=Json('{"type":"number"}'),
    soft_timeout_ms=4000,
    concurrency=2,
    after=("weather",),
    exclusive=True,
    key="account",
    reconciles=True,
    approval="depends",
    rate_limit="10 in 1 s",
    cache_seconds=1.5,
    fallback=True,
    breaker=True,
)
KEY = {"Idempotency-Key": "first"}


async def announce(world: World, *tools: AnnounceTool) -> None:
    for tool in tools:
        await world.announce(world.topics.catalog.name, f"{tool.pool}/{tool.name}", tool)


async def broke(world: World, state: str, until: int = 0) -> None:
    said = AnnounceBreaker("default", "pay", "worker-1", state, until, NOW)
    await world.announce(world.topics.catalog.name, "breaker/default/pay", said)


async def test_a_tool_is_shown_with_all_that_was_announced_of_it(world: World) -> None:
    """protocol:P56 protocol:P74"""
    await announce(world, PLAIN, FULL)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        pay, weather = (await client.get("/v1/tools")).json()["tools"]
        assert (await client.get("/v1/tools/pay")).json() == pay
    assert pay == {
        "pool": "default",
        "name": "pay",
        "description": "Sky.",
        "input_schema": {"type": "object"},
        "schema_hash": "abc",
        "effect": "once",
        "timeout_ms": 5000,
        "retries": 3,
        "at": NOW,
        "output_schema": {"type": "number"},
        "soft_timeout_ms": 4000,
        "concurrency": 2,
        "after": ["weather"],
        "exclusive": True,
        "key": "account",
        "reconciles": True,
        "approval": "depends",
        "rate_limit": "10 in 1 s",
        "cache_seconds": 1.5,
        "fallback": True,
        "breaker": {"state": "closed"},
    }
    assert pay.keys() - weather.keys() == {
        "output_schema",
        "soft_timeout_ms",
        "concurrency",
        "key",
        "rate_limit",
        "cache_seconds",
        "breaker",
    }


@pytest.mark.parametrize(
    ("state", "until", "shown"),
    [
        ("open", NOW + 1, {"state": "open", "until": NOW + 1, "worker": "worker-1"}),
        ("open", NOW, {"state": "half_open", "worker": "worker-1"}),
        ("half_open", NOW + 1, {"state": "half_open", "worker": "worker-1"}),
        ("closed", NOW + 1, {"state": "closed", "worker": "worker-1"}),
    ],
)
async def test_a_breaker_is_open_until_its_time_and_then_half_open(
    world: World, state: str, until: int, shown: dict[str, object]
) -> None:
    """protocol:P74"""
    await announce(world, PLAIN, FULL)
    await broke(world, "closed")
    await broke(world, state, until)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        assert (await client.get("/v1/tools/pay")).json()["breaker"] == shown
        assert "breaker" not in (await client.get("/v1/tools/weather")).json()


async def test_a_tool_that_is_withdrawn_is_gone(world: World) -> None:
    """protocol:P74"""
    await announce(world, PLAIN, FULL)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        await announce(world, replace(FULL, withdrawn=True))
        async with asyncio.timeout(5):
            while (await client.get("/v1/tools/pay")).status_code != 404:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0)
        assert [tool["name"] for tool in (await client.get("/v1/tools")).json()["tools"]] == ["weather"]


async def test_of_several_tools_of_one_name_that_of_the_first_pool_is_shown(world: World) -> None:
    """protocol:P74"""
    await announce(world, PLAIN, replace(PLAIN, pool="a"))
    async with client_of(world.parts()) as client:
        await until_ready(client)
        assert (await client.get("/v1/tools/weather")).json()["pool"] == "a"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/calls")])
async def test_a_tool_that_nobody_has_is_not_found(world: World, method: str, path: str) -> None:
    """protocol:P28"""
    await announce(world, PLAIN)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        refused = await client.request(method, f"/v1/tools/wether{path}")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-tool")
    assert refused.json()["tools"] == ["weather"]
    assert await world.published() == []


async def call(client: httpx2.AsyncClient, given: object, **headers: str) -> httpx2.Response:
    await until_ready(client)
    return await client.post(
        "/v1/tools/weather/calls", json={"input": given, "metadata": {"tenant": "t"}}, headers=headers
    )


async def test_a_call_by_hand_begins_a_session_of_its_own(world: World) -> None:
    """protocol:P75"""
    await announce(world, PLAIN)
    async with client_of(world.parts()) as client:
        called = await call(client, {"city": "Oslo"})
        assert (called.status_code, called.json().keys()) == (202, {"id", "run_id"})
        assert called.headers["location"] == f"/v1/sessions/{called.json()['id']}"
        (request,) = await world.published()
        assert isinstance(request, CallTool)
        assert (request.session, request.run_id) == (called.json()["id"], called.json()["run_id"])
        assert (request.name, request.input, request.metadata) == ("weather", '{"city":"Oslo"}', '{"tenant":"t"}')
        for wrong in ([1], "Oslo", None):
            assert (await call(client, wrong)).json()["code"] == "invalid-body"
        assert (await call(client, {"city": "x" * 800_000})).json()["code"] == "too-large"
    assert len(await world.published()) == 1


async def test_a_call_with_the_same_key_is_the_same_call_before_and_after_it_is_in_the_log(world: World) -> None:
    """protocol:P45 protocol:P46"""
    await announce(world, PLAIN)
    async with client_of(world.parts()) as client:
        first, again = [await call(client, {"city": "Oslo"}, **KEY) for _ in range(2)]
        other = await call(client, {"city": "Rome"}, **KEY)
    (request,) = await world.published()
    assert isinstance(request, CallTool)
    said = orjson.dumps({"call": "weather", "input": {"city": "Oslo"}}).decode()
    content = Json(orjson.dumps([{"type": "text", "text": said}]).decode())
    await world.write(
        request.session,
        SessionStarted("", "", "", request.metadata),
        OWNED,
        UserMessage(request.run_id, request.message_id, content),
        RunStarted(request.run_id, request.message_id),
    )
    async with client_of(world.parts()) as client:
        later, other_later = [await call(client, {"city": city}, **KEY) for city in ("Oslo", "Rome")]
    assert [one.status_code for one in (first, again, other, later, other_later)] == [202, 202, 422, 202, 422]
    assert first.json() == again.json() == later.json()
    assert [one.headers.get("idempotency-replayed") for one in (first, again, later)] == [None, "true", "true"]
    assert len(await world.published()) == 1
