"""`playhead.client`, against gateways, also through connections that break."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from playhead.client import Client, Dropped, Ended, Event, NoAnswer, Opened, Patience, Refused, Session
from playhead.errors import InvalidId, PlayheadError, Unavailable
from playhead.events import Event as Logged
from playhead.events import Failure, FinalResponse, RunCancelled, RunCompleted, RunFailed, RunStarted, Usage
from playhead.ids import MessageId, RunId, SessionId

from tests.cli.fake_gateway import SESSION, answer, end, event, fake_gateway, ready, stream
from tests.clients.support import Shown, a_session, shown
from tests.gateway.support import OWNED, STARTED, World, a_world, serving
from tests.support.cutting import cutting

EndOf = Callable[[RunId], Logged]

QUICK = Patience(first_seconds=0.01, most_seconds=0.05)
MADE = answer({"id": SESSION, "run_id": "run_1"}, "201 Created")


@pytest.fixture
async def world() -> World:
    return await a_world()


@asynccontextmanager
async def client_of(url: str) -> AsyncGenerator[Client, None]:
    async with asyncio.timeout(20), Client(url, patience=QUICK) as client:
        yield client


def pairs(events: list[Event]) -> list[Shown]:
    return [(one.cursor, dict(one.data)) for one in events]


# --- streams


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_cut_off_again_and_again_it_ends_with_exactly_the_log(world: World, seed: int) -> None:
    """protocol:P40"""
    session = await a_session(world)
    async with (
        serving(world.parts(retry_ms=20)) as one,
        serving(world.parts(retry_ms=20, ring_bytes_max=4_000)) as other,
        cutting(one.address.port, other.address.port, seed=seed, bytes_max=3_000) as cutter,
        client_of(cutter.url) as client,
    ):
        seen = [one async for one in client.session(session).watch()]
    events = [one for one in seen if isinstance(one, Event)]
    assert pairs(events) == await shown(world, session)
    assert all((one.seq, one.type) == (one.data["seq"], one.data["type"]) for one in events)
    assert all(json.loads(one.raw) == one.data for one in events)
    assert isinstance(seen[-1], Ended)
    assert sum(isinstance(one, Dropped) for one in seen) > 3


async def test_of_some_types_it_gets_those_and_messages_without_deltas(world: World) -> None:
    """protocol:P41"""
    session = await a_session(world)
    log, wanted = await shown(world, session), ("text_delta", "run_completed")
    async with (
        serving(world.parts(retry_ms=20)) as served,
        cutting(served.address.port, seed=7, bytes_max=3_000) as cutter,
        client_of(cutter.url) as client,
    ):
        watched = client.session(session)
        some = [one async for one in watched.events(types=wanted)]
        final = [one async for one in watched.events(log[9][0], deltas="final")]
    assert pairs(some) == [one for one in log if one[1]["type"] in wanted]
    assert pairs(final) == [one for one in log[10:] if one[1]["type"] != "text_delta"]


async def test_who_leaves_a_stream_may_come_back_to_it(world: World) -> None:
    session = await a_session(world, closed=False)
    async with serving(world.parts()) as served, client_of(f"http://{served.address}") as client:
        watched = client.session(session)
        async with aclosing(watched.events()) as events:
            first = [await anext(events) for _ in range(5)]
        async with aclosing(watched.events(first[-1].cursor)) as events:
            assert (await anext(events)).seq == 6


async def test_a_stream_that_is_open_tells_of_its_session(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with (
        serving(world.parts()) as served,
        client_of(f"http://{served.address}") as client,
        aclosing(client.session(session).watch("2")) as watching,
    ):
        assert await anext(watching) == Opened("idle", 2)


# --- runs


async def run_in(world: World, session: Session, *ends: Logged) -> None:
    """Be the owner that runs the message of a session."""
    assert session.run_id is not None
    head = await world.log.end(SessionId(session.id))
    begins = [] if head.seq else [STARTED, OWNED]
    await world.write(SessionId(session.id), *begins, RunStarted(RunId(session.run_id), MessageId("msg_1")), *ends)


async def test_a_session_is_begun_talked_to_and_closed(world: World) -> None:
    async with serving(world.parts()) as served, client_of(f"http://{served.address}") as client:
        session = await client.start(input="hi", metadata={"team": "blue"}, key="mine")
        again = await client.start(input="hi", metadata={"team": "blue"}, key="mine")
        assert (again.id, again.run_id) == (session.id, session.run_id)
        first = session.run_id
        second = await session.say("more", mode="queue")
        assert session.run_id == second != first
        await session.cancel(second)
        with pytest.raises(Refused, match="question") as refused:
            await session.answer("q_1", True)
        assert (refused.value.status, refused.value.code) == (404, "unknown-question")
        await session.close()
        state = await session.state()
    assert (state["id"], state["last_seq"]) == (session.id, 0)
    published = {type(one).__name__ for one in await world.published()}
    assert published == {"StartSession", "Say", "CancelRun", "CloseSession"}


async def test_a_result_is_waited_for_and_is_that_of_its_run(world: World) -> None:
    async with serving(world.parts()) as served, client_of(f"http://{served.address}") as client:
        session = await client.start(input="hi")
        first = session.run_id or ""
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(session.result())
            final = FinalResponse(RunId(first), "one", MessageId("msg_2"))
            await run_in(world, session, final, RunCompleted(RunId(first), Usage()))
        assert waiting.result() == "one"
        second = RunId(await session.say("more"))
        await run_in(world, session, FinalResponse(second, "two", MessageId("msg_3")), RunCompleted(second, Usage()))
        assert [await session.result(), await session.result(first)] == ["two", "one"]


def refused(run: RunId) -> Logged:
    return RunFailed(run, Failure("refused", "no"))


def stopped(run: RunId) -> Logged:
    return RunCancelled(run, "asked")


@pytest.mark.parametrize(("end_of", "said"), [(refused, "failed: refused: no"), (stopped, r"was cancelled \(asked\)")])
async def test_a_run_without_an_answer_has_no_result(world: World, end_of: EndOf, said: str) -> None:
    async with serving(world.parts()) as served, client_of(f"http://{served.address}") as client:
        session = await client.start(input="hi")
        await run_in(world, session, end_of(RunId(session.run_id or "")))
        with pytest.raises(NoAnswer, match=said) as missing:
            await session.result()
    assert missing.value.event.run_id == session.run_id


async def test_what_cannot_have_a_result_is_said_at_once(world: World) -> None:
    session = await a_session(world)
    async with serving(world.parts()) as served, client_of(f"http://{served.address}") as client:
        with pytest.raises(PlayheadError, match="no run was begun here"):
            await client.session(session).result()
        with pytest.raises(PlayheadError, match="there was no run_x in it"):
            await client.session(session).result("run_x")


# --- keys and tokens


async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key() -> None:
    busy = answer({}, "503 Service Unavailable")
    async with fake_gateway(b"", busy, MADE, MADE) as fake, client_of(fake.url) as client:
        assert (await client.start("a", "hi")).id == SESSION
        await client.start("a", "hi")
    keys = [headers["idempotency-key"] for _, headers, _ in fake.asked]
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


async def test_a_gateway_that_is_not_there_is_not_waited_for() -> None:
    async with fake_gateway() as fake:
        url = fake.url
    async with client_of(url) as client:
        with pytest.raises(Unavailable, match="nothing answers at"):
            await client.start("a", "hi")


async def test_a_token_is_asked_for_before_each_connection_and_again_where_it_is_refused() -> None:
    given: list[str] = []

    async def token() -> str:
        given.append(f"token {len(given) + 1}")
        return given[-1]

    one, two = (event(seq, "text_delta", text="a") for seq in (1, 2))
    refused = answer({"title": "Expired"}, "401 Unauthorized")
    answers = (refused, stream(ready(), one), stream(ready(), two, end()), refused, MADE)
    async with asyncio.timeout(5), fake_gateway(*answers) as fake, Client(fake.url, token, patience=QUICK) as client:
        assert [one.seq async for one in client.session(SESSION).events()] == [1, 2]
        await client.start("a", "hi")
    assert [headers["authorization"] for _, headers, _ in fake.asked] == [f"Bearer {one}" for one in given]
    keys = {headers["idempotency-key"] for _, headers, _ in fake.asked[3:]}
    assert (len(given), len(keys)) == (5, 1)


async def test_a_token_that_stays_refused_is_an_error() -> None:
    refused = answer({"title": "Unauthorized", "code": "unauthorized"}, "401 Unauthorized")
    async with asyncio.timeout(5), fake_gateway(refused) as fake, Client(fake.url, "fixed") as client:
        with pytest.raises(Refused, match="Unauthorized") as error:
            await anext(client.session(SESSION).events())
    assert (error.value.status, error.value.code) == (401, "unauthorized")
    assert fake.asked[0][1]["authorization"] == "Bearer fixed"


# --- what it is


def test_what_is_no_address_or_id_is_refused_at_once() -> None:
    with pytest.raises(PlayheadError, match="not the address of a gateway"):
        Client("127.0.0.1:4141")
    with pytest.raises(InvalidId):
        Client("http://127.0.0.1:4141").session("../etc")


def test_importing_it_loads_no_server_and_no_log() -> None:
    code = "import sys, playhead.client; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    loaded = set(done.stdout.split())
    assert "httpx2" in loaded
    assert not loaded & {"aiokafka", "anthropic", "fastapi", "fastavro", "sqlite3", "starlette", "uvicorn"}
