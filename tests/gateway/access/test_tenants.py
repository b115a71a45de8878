"""What belongs to a tenant is seen by nobody else, by whatever route; and each access leaves its record."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from playhead.commands import Access, AnnounceAgent, AnnounceTool, ListSession, StartSession
from playhead.errors import Unavailable
from playhead.events import Json, RunStarted, UserMessage
from playhead.ids import Seq, SessionId
from playhead_gateway.app import create_app

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.access.test_door import bearer, door
from tests.gateway.support import CODEC, MESSAGE, NOW, OWNED, RUN, SSE, STARTED, World, a_turn, a_world, until_ready

ACME, BETA, NONE, OPS = a_key(1), a_key(2), a_key(3), a_key(4)
ALL = '["sessions:read", "sessions:write", "approve", "audit"]'
CANARY = "canary-of-acme"
PARTS = {"{call_id}": "call_" + "a" * 26, "{question_id}": "q", "{name}": "0" * 64, "{tool}": "default-tool"}


@pytest.fixture
async def world() -> World:
    return await a_world()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return access_file(
        tmp_path,
        key_table(ACME, name="ann", scopes=ALL, more='tenant = "acme"'),
        key_table(BETA, name="bob", scopes=ALL, more='tenant = "beta"'),
        key_table(NONE, name="nil", scopes=ALL),
        key_table(OPS, name="ops", scopes='["sessions:read", "admin"]'),
        '[tenants.acme]\nagents = ["support"]\npools = ["default"]',
    )


@pytest.fixture
async def client(world: World, path: Path) -> AsyncGenerator[httpx2.AsyncClient, None]:
    for name in ("support", "sales"):
        agent = AnnounceAgent(name, "1", "scripted:plain", name, (), default=name == "support", at=1)
        await world.announce(world.topics.catalog.name, f"agent/{name}", agent)
    for pool in ("default", "bank"):
        tool = AnnounceTool(pool, f"{pool}-tool", "", Json('{"type":"object"}'), "abc", "read", 5000, 3, 1)
        await world.announce(world.topics.catalog.name, f"{pool}/{pool}-tool", tool)
    async with door(world, authenticator(path)) as client:
        await until_ready(client)
        yield client


async def acmes_session(world: World) -> SessionId:
    session = await world.log.create()
    said = UserMessage(RUN, MESSAGE, Json(orjson.dumps(CANARY).decode()))
    metadata = Json(orjson.dumps({"note": CANARY}).decode())
    started = replace(STARTED, tenant="acme", metadata=metadata)
    await world.write(session, started, OWNED, said, RunStarted(RUN, MESSAGE), *a_turn(session, question=CANARY))
    listed = ListSession(session, "support", "running", True, NOW, NOW, Seq(9), 1, metadata, "acme")
    await world.announce(world.topics.sessions.name, session, listed)
    return session


async def records(world: World) -> list[Access]:
    found: list[Access] = []
    async for batch in world.queue.replay(world.topics.audit.name):
        said = [CODEC.command(message.value) for message in batch]
        found.extend(one for one in said if isinstance(one, Access))
    return found


async def test_nobody_else_finds_a_word_of_a_session_by_any_route_there_is(
    world: World, client: httpx2.AsyncClient, path: Path
) -> None:
    """protocol:P86"""
    session = await acmes_session(world)
    document = create_app(replace(world.parts(), authenticate=authenticator(path))).openapi()
    known = await client.get(f"/v1/sessions/{session}", headers=bearer(ACME.text))
    assert CANARY in known.text
    tried = 0
    nobody = "ses_" + "0" * 26
    for route, described in document["paths"].items():
        url = route
        for part, value in PARTS.items():
            url = url.replace(part, value)
        names_session = "{session}" in route or route == "/v1/events"
        if route == "/v1/stream" or ("{" in route and not names_session):
            continue
        for method, key, accept in itertools.product(described, (BETA, NONE), ({}, SSE)):
            asked = [
                await client.request(
                    method,
                    url.replace("{session}", named),
                    headers=bearer(key.text) | accept,
                    params={"sessions": named} if route == "/v1/events" else {},
                    json={} if method == "post" else None,
                )
                for named in (session, nobody)
            ]
            assert CANARY not in asked[0].text, (method, url)
            if names_session:
                assert [one.status_code for one in asked] == [404, 404], (method, url)
                assert asked[0].text.replace(session, "") == asked[1].text.replace(nobody, "")
                tried += 1
    assert tried > 20


async def test_the_directory_shows_each_tenant_its_own_and_operators_all(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P86"""
    session = await acmes_session(world)
    listed: dict[str, Any] = {}
    for key in (ACME, BETA, NONE, OPS):
        answer = await client.get("/v1/sessions", headers=bearer(key.text))
        listed[key.id] = [one["id"] for one in answer.json()["sessions"]]
    assert listed == {ACME.id: [session], BETA.id: [], NONE.id: [], OPS.id: [session]}


async def test_what_a_client_begins_is_its_tenants_whatever_it_says(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P86"""
    body = {"input": "Hi", "metadata": {"tenant": "beta"}}
    key = {"Idempotency-Key": "the same for both"}
    begun = await client.post("/v1/sessions", json=body, headers=bearer(ACME.text) | key)
    other = await client.post("/v1/sessions", json=body, headers=bearer(BETA.text) | key)
    assert begun.status_code == other.status_code == 201
    assert begun.json()["id"] != other.json()["id"]
    one, two = await world.published()
    assert isinstance(one, StartSession)
    assert isinstance(two, StartSession)
    assert {one.tenant, two.tenant} == {"acme", "beta"}
    url = f"/v1/sessions/{begun.json()['id']}"
    assert (await client.get(url, headers=bearer(ACME.text))).status_code == 200
    assert (await client.get(url, headers=bearer(BETA.text))).status_code == 404


async def test_agents_and_tools_that_are_not_for_a_tenant_are_not_there(client: httpx2.AsyncClient) -> None:
    """protocol:P86"""
    mine, theirs = bearer(ACME.text), bearer(BETA.text)

    async def names(url: str, member: str, headers: dict[str, str]) -> list[str]:
        return [one["name"] for one in (await client.get(url, headers=headers)).json()[member]]

    assert await names("/v1/agents", "agents", mine) == ["support"]
    assert await names("/v1/agents", "agents", theirs) == ["sales", "support"]
    assert await names("/v1/tools", "tools", mine) == ["default-tool"]
    assert (await client.get("/v1/tools/bank-tool", headers=mine)).status_code == 404
    assert (await client.post("/v1/tools/bank-tool/calls", json={}, headers=mine)).status_code == 404
    refused = await client.post("/v1/tasks", json={"agent": "sales", "input": "Hi"}, headers=mine)
    assert (refused.status_code, refused.json()["agents"]) == (422, ["support"])


async def test_each_access_allowed_or_refused_is_recorded_before_it_is_answered(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P86"""
    session = await acmes_session(world)
    url = f"/v1/sessions/{session}"
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    await client.get(url, headers=bearer(ACME.text) | trace)
    await client.get(f"{url}/events", headers=bearer(BETA.text))
    await client.post(f"{url}/close", headers=bearer(OPS.text))
    await client.get("/v1/events", params={"sessions": session}, headers=bearer(NONE.text))
    found = await records(world)
    told = [(one.principal, one.tenant, one.action, one.session, one.allowed, one.reason) for one in found]
    assert told == [
        ("ann", "acme", "GET /v1/sessions/{session}", session, True, None),
        ("bob", "beta", "GET /v1/sessions/{session}/events", session, False, "of another tenant"),
        ("ops", None, "POST /v1/sessions/{session}/close", session, False, "without the scope sessions:write"),
        ("nil", None, "GET /v1/events", session, False, "of another tenant"),
    ]
    assert (found[0].at, found[0].trace) == (NOW, trace["traceparent"])


async def test_what_cannot_be_recorded_is_not_done(world: World, path: Path) -> None:
    """protocol:P86"""
    session = await acmes_session(world)

    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.queue, name)

        async def publish(self, topic: str, key: str, value: bytes) -> None:
            if topic == world.topics.audit.name:
                raise Unavailable("told to fail")
            await world.queue.publish(topic, key, value)

    parts = replace(world.parts(), authenticate=authenticator(path), queue=Deaf())
    app = create_app(parts)
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        for url in (f"/v1/sessions/{session}", f"/v1/sessions/{session}/events"):
            answer = await client.get(url, headers=bearer(ACME.text))
            assert answer.status_code == 503
            assert CANARY not in answer.text
