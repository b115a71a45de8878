"""How much a key and a tenant may take: rates that are said before they are used up, and counts of what is open."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.commands import ListSession
from playhead.ids import Seq, SessionId
from playhead.options import RateLimit
from playhead_gateway.app import Gateway
from playhead_gateway.principal import LOCAL
from playhead_gateway.quotas import Buckets
from websockets.asyncio.client import connect

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.access.test_door import bearer, door
from tests.gateway.support import NOW, OWNED, SSE, STARTED, World, a_world, serving, until_ready, watching

ONE, OTHER = a_key(1), a_key(2)
SHOWN = re.compile(r'"([a-z-]+)";r=(\d+);t=(\d+)')


def acme(limits: str, key_limits: str = "") -> tuple[str, ...]:
    more = 'tenant = "acme"\n' + (f"limits = {{ {key_limits} }}" if key_limits else "")
    return (
        key_table(ONE, more=more),
        key_table(OTHER, name="other", more='tenant = "acme"'),
        f"[tenants.acme]\nlimits = {{ {limits} }}",
    )


@pytest.fixture
async def world() -> World:
    return await a_world()


def left(answer: httpx2.Response) -> dict[str, int]:
    return {name: int(rest) for name, rest, _ in SHOWN.findall(answer.headers.get("ratelimit", ""))}


async def test_each_answer_says_how_much_more_may_be_asked_and_past_that_when(world: World, tmp_path: Path) -> None:
    """protocol:P92"""
    path = access_file(tmp_path, *acme('requests = "5/h"', 'requests = "3/h"'))
    async with door(world, authenticator(path)) as client:
        for rest in (2, 1, 0):
            answer = await client.get("/v1/agents", headers=bearer(ONE.text))
            assert (answer.status_code, left(answer)) == (200, {"key-requests": rest, "tenant-requests": rest + 2})
            assert answer.headers["ratelimit-policy"] == '"key-requests";q=3;w=3600, "tenant-requests";q=5;w=3600'
            assert "retry-after" not in answer.headers
        refused = await client.get("/v1/agents", headers=bearer(ONE.text))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        assert refused.json()["policy"] == "key-requests"
        assert 1100 <= int(refused.headers["retry-after"]) <= 1200
        # What was refused for one's own rate was not taken from the tenant's.
        assert left(await client.get("/v1/agents", headers=bearer(OTHER.text))) == {"tenant-requests": 1}
        await client.get("/v1/agents", headers=bearer(OTHER.text))
        shared = await client.get("/v1/agents", headers=bearer(OTHER.text))
        assert (shared.status_code, shared.json()["policy"]) == (429, "tenant-requests")


async def test_messages_have_a_rate_of_their_own_whatever_the_route(world: World, tmp_path: Path) -> None:
    """protocol:P92"""
    path = access_file(tmp_path, *acme('messages = "2/h"'))
    async with door(world, authenticator(path)) as client:
        for url in ("/v1/tasks", "/v1/sessions"):
            assert (await client.post(url, json={"input": "Hi"}, headers=bearer(ONE.text))).status_code < 300
        refused = await client.post("/v1/stream", json={"input": "Hi"}, headers=bearer(OTHER.text))
        assert (refused.status_code, refused.json()["policy"]) == (429, "tenant-messages")
        assert (await client.get("/v1/agents", headers=bearer(OTHER.text))).status_code == 200


async def test_so_many_sessions_may_be_open_at_once_wherever_they_were_begun(world: World, tmp_path: Path) -> None:
    """protocol:P93"""
    path = access_file(tmp_path, *acme("sessions = 2"))
    listed = ListSession(SessionId("ses_" + "a" * 26), "support", "idle", False, NOW, NOW, Seq(2), 1, tenant="acme")
    await world.announce(world.topics.sessions.name, listed.session, listed)
    async with door(world, authenticator(path)) as client:
        await until_ready(client)
        headers = bearer(ONE.text) | {"Idempotency-Key": "one"}
        begun = await client.post("/v1/sessions", json={}, headers=headers)
        assert begun.status_code == 201
        assert (await client.post("/v1/sessions", json={}, headers=headers)).json()["id"] == begun.json()["id"]
        refused = await client.post("/v1/sessions", json={}, headers=bearer(OTHER.text))
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-sessions")
        assert refused.headers["retry-after"] == "1"
        assert len(await world.published()) == 1


async def test_so_many_runs_may_be_going_at_once(world: World, tmp_path: Path) -> None:
    """protocol:P93"""
    path = access_file(tmp_path, *acme("runs = 1"))
    async with door(world, authenticator(path)) as client:
        await until_ready(client)
        first = await client.post("/v1/sessions", json={"input": "Hi"}, headers=bearer(ONE.text))
        assert first.status_code == 201
        for url in ("/v1/sessions", "/v1/tasks", "/v1/stream"):
            refused = await client.post(url, json={"input": "Hi"}, headers=bearer(OTHER.text))
            assert (refused.status_code, refused.json()["code"]) == (429, "too-many-runs")
        # A session without a run is none, and a message to one that has a run waits for that.
        assert (await client.post("/v1/sessions", json={}, headers=bearer(ONE.text))).status_code == 201
        more = f"/v1/sessions/{first.json()['id']}/messages"
        assert (await client.post(more, json={"content": "And"}, headers=bearer(ONE.text))).status_code == 202


async def test_so_many_streams_may_be_open_at_once_over_whatever_they_come(world: World, tmp_path: Path) -> None:
    """protocol:P93"""
    path = access_file(tmp_path, *acme("streams = 2", "streams = 1"))
    session = await world.session_with(replace(STARTED, tenant="acme"), OWNED)
    async with serving(replace(world.parts(), authenticate=authenticator(path, check_seconds=9))) as served:
        mine, other = bearer(ONE.text), bearer(OTHER.text)
        socket = f"ws://{served.address}/v1/sessions/{session}/ws"
        async with AsyncExitStack() as open_streams:
            first = await open_streams.enter_async_context(watching(served.client, session, headers=mine))
            assert (await first.next()).event == "ready"
            async with watching(served.client, session, headers=mine) as second:
                told = await second.next()
                assert (told.event, told.data["reason"], told.retry is not None) == ("draining", "overloaded", True)
            talk = await open_streams.enter_async_context(connect(socket, proxy=None, additional_headers=other))
            assert orjson.loads(await talk.recv())["event"] == "ready"
            async with (
                asyncio.timeout(5),
                served.client.stream(
                    "GET", "/v1/events", params={"sessions": session}, headers=other | SSE
                ) as response,
            ):
                assert b'"overloaded"' in await response.aread()
            refused = await open_streams.enter_async_context(connect(socket, proxy=None, additional_headers=other))
            assert orjson.loads(await refused.recv())["data"]["reason"] == "overloaded"
        async with asyncio.timeout(5):  # that a client has left is noticed a moment later
            told = "draining"
            while told == "draining":
                async with watching(served.client, session, headers=mine) as again:
                    told = (await again.next()).event
        assert told == "ready"


async def test_what_is_said_over_a_socket_is_counted_as_what_is_posted(world: World, tmp_path: Path) -> None:
    """protocol:P92"""
    path = access_file(tmp_path, *acme('messages = "2/h"'))
    session = await world.session_with(replace(STARTED, tenant="acme"), OWNED)
    async with serving(replace(world.parts(), authenticate=authenticator(path))) as served, asyncio.timeout(5):
        url, answers = f"ws://{served.address}/v1/sessions/{session}/ws", list[str]()
        async with connect(url, proxy=None, additional_headers=bearer(ONE.text)) as talk:
            for number in range(3):
                await talk.send(orjson.dumps({"type": "cancel", "ref": str(number)}).decode())
                while (heard := orjson.loads(await talk.recv()))["event"] not in ("ack", "refused"):
                    pass
                answers.append(heard["data"].get("code", heard["event"]))
        assert answers == ["ack", "ack", "rate-limited"]


async def test_the_directory_is_counted_as_it_changes(world: World) -> None:
    gateway = Gateway(world.parts())
    catalog = gateway.catalog

    async def say(number: int, status: str, last_seq: int, tenant: str | None = "acme") -> None:
        session = SessionId(f"ses_{number:026d}")
        line = ListSession(session, "support", status, False, NOW, NOW, Seq(last_seq), 1, tenant=tenant)
        await world.announce(world.topics.sessions.name, session, line)

    for number, status in enumerate(("idle", "running", "waiting", "closed")):
        await say(number, status, 1)
    await say(9, "running", 1, None)
    await say(1, "idle", 2)
    await say(2, "running", 2)
    await say(0, "closed", 2)
    async with gateway.running():
        await catalog.caught_up.wait()
        counted = catalog.count("acme")
        assert (counted.open, counted.running) == (2, 1)
        assert catalog.count("others").open == 0


@given(
    st.lists(st.tuples(st.floats(0, 50), st.sampled_from("ab")), max_size=60),
    st.integers(1, 5),
    st.floats(0.5, 20),
)
def test_no_window_has_more_than_the_rate_and_what_it_began_with(
    asks: list[tuple[float, str]], count: int, seconds: float
) -> None:
    buckets, limit, now = Buckets(10), RateLimit(count, seconds), 0.0
    taken: dict[str, list[float]] = {"a": [], "b": []}
    for step, whose in asks:
        now += step / 10
        levels, empty = buckets.take([("key", whose, limit)], now)
        if empty is None:
            taken[whose].append(now)
            assert levels[0].remaining <= count - 1
        else:
            # Who waits as long as is said is served then.
            assert buckets.take([("key", whose, limit)], now + empty.next_in + 1e-6)[1] is None
            taken[whose].append(now + empty.next_in + 1e-6)
            now += empty.next_in + 1e-6
    for times in taken.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                allowed = count + (times[last] - start) * count / seconds
                assert last - first + 1 <= allowed + 1 + 1e-6


def test_more_names_than_there_is_room_for_forget_the_longest_unused() -> None:
    buckets, limit = Buckets(2), RateLimit(1, 1000.0)
    for whose in ("a", "b", "c"):
        assert buckets.take([("key", whose, limit)], 0.0)[1] is None
    assert buckets.take([("key", "c", limit)], 0.0)[1] is not None
    assert buckets.take([("key", "a", limit)], 0.0)[1] is None


async def test_without_authentication_nothing_is_counted(world: World) -> None:
    gateway = Gateway(world.parts())
    assert gateway.allowances.request(LOCAL, writes=True) == {}
    for number in range(100):
        gateway.allowances.begin(SessionId(f"ses_{number:026d}"), None, is_new=True, runs=True)
