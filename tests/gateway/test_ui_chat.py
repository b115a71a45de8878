"""The routes of the AI SDK's chat transport: what a request asks, what is refused, and streams that end early."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx2
import pytest
from playhead.commands import AnnounceAgent, CancelRun, Say, StartSession
from playhead.events import Event, Json, ModelCallStarted, RunStarted, TextDelta, UserMessage
from playhead.ids import RunId, SessionId, message_id, run_id, session_id

from tests.gateway.support import CLOSED, OWNED, STARTED, World, a_turn, serving
from tests.gateway.test_viewers import until_metric
from tests.gateway.ui_model import Client, chunks_in

HELLO = {"type": "text", "text": "hello"}


def asking(chat: str, *parts: dict[str, Any], message: str = "u1", **more: Any) -> dict[str, Any]:
    said = {"id": message, "role": "user", "parts": list(parts or (HELLO,))}
    return {"id": chat, "messages": [said], "trigger": "submit-message", **more}


def begun(session: SessionId, message: str = "u1") -> tuple[RunId, list[Event]]:
    asked = message_id(session, f"ui {message}")
    run = run_id(session, asked)
    said = UserMessage(run, asked, Json('"hello"'))
    speaking = ModelCallStarted(run, 1, 1, "scripted:plain", "scripted")
    return run, [STARTED, OWNED, said, RunStarted(run, asked), speaking]


async def a_run_that_goes(world: World) -> tuple[SessionId, RunId]:
    session = await world.log.create()
    run, events = begun(session)
    await world.write(session, *events)
    return session, run


async def test_a_chat_is_a_session_that_its_first_message_begins_and_the_same_message_asks_once(world: World) -> None:
    async with serving(world.parts()) as one, serving(world.parts()) as other:
        ids: set[str] = set()
        for served in (one, one, other):
            async with served.client.stream("POST", "/ui/chat", json=asking("my chat")) as response:
                assert response.status_code == 200
                assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
                assert response.headers["content-type"] == "text/event-stream"
                (start,) = chunks_in(await anext(response.aiter_raw()))
                ids.add(start["messageId"])
    asked = await world.published()
    (start,) = {one.session for one in asked if isinstance(one, StartSession)}
    says = {(one.session, one.run_id, one.content) for one in asked if isinstance(one, Say)}
    assert says == {(start, ids.pop(), '"hello"')}
    assert not ids


async def test_a_session_can_be_a_chat_and_a_message_to_it_is_told_from_where_the_log_is(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    await world.write(session, *a_turn(session, "before"))
    async with (
        serving(world.parts()) as served,
        served.client.stream("POST", "/ui/chat", json=asking(session)) as response,
    ):
        chunks = response.aiter_raw()
        stream = await anext(chunks)
        run, events = begun(session)
        await world.write(session, *events[2:], TextDelta(run, 1, 1, "hi"))
        async with asyncio.timeout(5):
            while b'"hi"' not in stream:
                stream += await anext(chunks)
    client = Client().apply(chunks_in(stream))
    assert (client.id, client.text) == (run, "hi")


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    (asking("chat", trigger="regenerate-message"), 422, "cannot-regenerate"),
    (asking("chat") | {"messages": [{"id": "a1", "role": "assistant", "parts": []}]}, 422, "nothing-new"),
    (asking("chat") | {"messages": ["hello"]}, 422, "nothing-new"),
    (asking("chat") | {"messages": []}, 422, "invalid-body"),
    (asking("chat") | {"messages": [{"role": "user", "parts": [HELLO]}]}, 422, "invalid-body"),
    (asking("chat", {"type": "text", "text": ""}), 422, "invalid-message"),
    (asking("chat", {"type": "reasoning", "text": "hm"}), 422, "invalid-message"),
    (asking("x" * 256), 422, "invalid-body"),
    (asking("ses_" + "0" * 26), 404, "unknown-session"),
    (asking("chat", agent="nobody"), 422, "unknown-agent"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSED)
async def test_what_cannot_be_done_is_refused_before_anything_is_begun(
    world: World, body: dict[str, Any], status: int, code: str
) -> None:
    agent = AnnounceAgent("support", "1", "scripted:plain", "", (), default=True, at=1)
    await world.announce(world.topics.catalog.name, "support", agent)
    async with serving(world.parts()) as served:
        answer = await served.client.post("/ui/chat", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await world.published() == []


async def test_a_message_that_was_said_cannot_say_something_else(client: httpx2.AsyncClient, world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    await world.write(session, *begun(session)[1][2:])
    answer = await client.post("/ui/chat", json=asking(session, {"type": "text", "text": "bye"}))
    assert (answer.status_code, answer.json()["code"]) == (422, "cannot-edit")


async def test_a_closed_session_takes_no_message_and_a_chat_keeps_its_agent(
    client: httpx2.AsyncClient, world: World
) -> None:
    session = await world.session_with(STARTED, OWNED, CLOSED)
    answer = await client.post("/ui/chat", json=asking(session))
    assert (answer.status_code, answer.json()["code"]) == (409, "session-closed")
    answer = await client.post("/ui/chat", json=asking(session, agent="other"))
    assert (answer.status_code, answer.json()["code"]) == (409, "other-agent")


async def test_there_is_nothing_to_resume_where_nothing_goes_on(client: httpx2.AsyncClient, world: World) -> None:
    over = await world.session_with(STARTED, OWNED)
    await world.write(over, *a_turn(over))
    for chat in (over, "never begun", "a%2Fb"):
        assert (await client.get(f"/ui/chat/{chat}/stream")).status_code == 204
    unknown = session_id(bytes(16))
    assert (await client.get(f"/ui/chat/{unknown}/stream")).status_code == 404
    assert (await client.get(f"/ui/chat/{'x' * 256}/stream")).status_code == 400
    assert (await client.get(f"/ui/chat/{over}/stream?messageId=u1")).status_code == 400


async def test_a_message_that_is_named_is_told_whole_even_if_its_run_is_over(
    client: httpx2.AsyncClient, world: World
) -> None:
    session = await world.session_with(STARTED, OWNED)
    await world.write(session, *a_turn(session))
    run = run_id(session, message_id(session, "first"))
    answer = await client.get(f"/ui/chat/{session}/stream", params={"messageId": run})
    assert Client().apply(chunks_in(answer.content)).finish == "stop"


async def test_a_stop_names_what_is_to_be_stopped(client: httpx2.AsyncClient, world: World) -> None:
    session, run = await a_run_that_goes(world)
    url = f"/ui/chat/{session}/stop"
    for body in ({}, {"messageId": None}):
        answer = await client.post(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "nothing-to-stop")
    assert (await client.post(url, json={"messageId": "u1"})).status_code == 422
    named: list[dict[str, Any]] = [{"messageId": run}, {"activeStreamId": run}, {"assistantMessage": {"id": run}}]
    for body in named:
        answer = await client.post(url, json=body)
        assert answer.json() == {"id": session, "run_id": run, "stopping": True}
    cancels = [one for one in await world.published() if isinstance(one, CancelRun)]
    assert {(one.session, one.run_id) for one in cancels} == {(session, run)}
    assert len({one.request_id for one in cancels}) == 1


async def test_a_gateway_that_drains_says_that_the_run_goes_on(world: World) -> None:
    session, _ = await a_run_that_goes(world)
    async with (
        serving(world.parts()) as served,
        served.client.stream("GET", f"/ui/chat/{session}/stream") as response,
    ):
        chunks = response.aiter_raw()
        stream = await anext(chunks)
        served.stop.set()
        async with asyncio.timeout(5):
            async for chunk in chunks:
                stream += chunk
    client = Client().apply(chunks_in(stream))
    assert client.errors == ["the stream was ended early (draining) and the run goes on: resume it"]
    assert client.finish is None


async def test_a_client_that_falls_behind_is_not_left_with_what_looks_whole(world: World) -> None:
    session, run = await a_run_that_goes(world)
    async with serving(world.parts(ring_bytes_max=400_000)) as served:
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            await loop.sock_connect(connection, (served.address.host, served.address.port))
            await loop.sock_sendall(connection, f"GET /ui/chat/{session}/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await until_metric(served.client, "playhead_stream_clients", 1)
            for _ in range(20):
                await world.write(session, *[TextDelta(run, 1, 1, "x" * 40_000)] * 10)
                await asyncio.sleep(0.01)
            seen = b""
            async with asyncio.timeout(5):
                while not seen.endswith(b"\r\n0\r\n\r\n"):
                    seen += await loop.sock_recv(connection, 1_000_000)
    assert b"ended early (behind)" in seen
    assert b"[DONE]" not in seen
