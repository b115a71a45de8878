"""A session over a WebSocket, with the stock client of PyPI: the same events and cursors, and commands with answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from playhead.commands import AnswerQuestion, CancelRun, Say
from playhead.events import Json, QuestionAsked, RunStarted, ToolCall, UserMessage
from playhead.ids import SessionId, call_id
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.support import (
    CLOSED,
    MESSAGE,
    OWNED,
    RUN,
    SSE,
    STARTED,
    Served,
    World,
    a_turn,
    deltas,
    parse,
    serving,
)

SOON = 5.0


@asynccontextmanager
async def talking(
    served: Served, session: str, query: str = "", **options: Any
) -> AsyncGenerator[ClientConnection, None]:
    url = f"ws://{served.address}/v1/sessions/{session}/ws{query}"
    async with asyncio.timeout(SOON * 2), connect(url, proxy=None, **options) as socket:
        yield socket


async def heard(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(SOON):
        return orjson.loads(await socket.recv())


async def everything(socket: ClientConnection) -> list[dict[str, Any]]:
    async with asyncio.timeout(SOON):
        return [orjson.loads(text) async for text in socket]


async def a_closed_session(world: World) -> SessionId:
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, question="é \u2028 😀"), CLOSED)
    return session


async def test_the_messages_are_the_frames_of_the_stream(world: World) -> None:
    """protocol:P90"""
    session = await a_closed_session(world)
    async with serving(world.parts()) as served:
        for query in ("", "?after=3", "?deltas=final", "?types=text_delta", "?until=7"):
            stream = await served.client.get(f"/v1/sessions/{session}/events{query}", headers=SSE)
            async with talking(served, session, query) as socket:
                told = await everything(socket)
            assert socket.close_code == 1000
            assert [(one["event"], one.get("id"), one.get("retry"), one["data"]) for one in told] == [
                (frame.event, frame.id, frame.retry, frame.data) for frame in parse(stream.content)
            ]


async def test_every_place_that_a_client_was_at_is_one_to_go_on_from(world: World) -> None:
    """protocol:P90"""
    session = await a_closed_session(world)
    async with serving(world.parts(ring_bytes_max=2_000)) as one, serving(world.parts()) as other:
        async with talking(one, session) as socket:
            whole = await everything(socket)
        ids = [told["id"] for told in whole if "id" in told]
        for place, cursor in enumerate(ids):
            async with talking((one, other)[place % 2], session, f"?after={cursor}") as socket:
                assert [told["id"] for told in await everything(socket) if "id" in told] == ids[place + 1 :]


async def test_a_message_is_acknowledged_and_sent_again_it_is_the_same(world: World) -> None:
    """protocol:P91"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        said = orjson.dumps({"type": "message", "ref": "one", "content": "Hi"}).decode()
        async with talking(served, session, "?after=2") as socket:
            assert (await heard(socket))["event"] == "ready"
            await socket.send(said)
            first = await heard(socket)
            assert (first["event"], first["data"]["ref"]) == ("ack", "one")
        async with talking(served, session, "?after=2") as socket:
            await heard(socket)
            await socket.send(said.encode())  # a binary message is as good
            again = await heard(socket)
            assert again["data"] == first["data"] | {"replayed": True}
            await world.write(session, *deltas(1))
            assert (await heard(socket))["event"] == "text_delta"
    [request] = await world.published()
    assert isinstance(request, Say)
    assert (request.run_id, request.content, request.mode) == (first["data"]["run_id"], '"Hi"', "queue")
    by_http = {"Idempotency-Key": "one"}
    async with serving(world.parts()) as served:
        answer = await served.client.post(f"/v1/sessions/{session}/messages", json={"content": "Hi"}, headers=by_http)
    assert answer.json()["run_id"] == first["data"]["run_id"]


async def test_runs_are_cancelled_and_interrupted_and_questions_answered(world: World) -> None:
    """protocol:P91"""
    session = await world.log.create()
    call = call_id(session, RUN, 1, 0)
    await world.write(session, STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"Hi"')), RunStarted(RUN, MESSAGE))
    await world.write(
        session,
        ToolCall(RUN, 1, 1, call, "book", Json("{}"), "write", "default"),
        QuestionAsked(RUN, 1, 1, "q_1", Json('"Sure?"'), call_id=call),
    )
    async with serving(world.parts()) as served, talking(served, session, "?after=6") as socket:
        assert (await heard(socket))["event"] == "ready"
        for command in (
            {"type": "answer", "ref": "a", "question_id": "q_1", "content": {"yes": True}},
            {"type": "interrupt", "ref": "b", "content": "Stop that"},
            {"type": "cancel", "ref": "c", "run_id": RUN},
            {"type": "cancel", "ref": "d"},
        ):
            await socket.send(orjson.dumps(command).decode())
            answer = await heard(socket)
            assert (answer["event"], answer["data"]["ref"]) == ("ack", command["ref"])
    answered, interrupting, cancelling, stopping = await world.published()
    assert isinstance(answered, AnswerQuestion)
    assert (answered.question_id, answered.content) == ("q_1", '{"yes":true}')
    assert isinstance(interrupting, Say)
    assert interrupting.mode == "interrupt"
    assert isinstance(cancelling, CancelRun)
    assert isinstance(stopping, CancelRun)
    assert (cancelling.run_id, stopping.run_id) == (RUN, None)


@pytest.mark.parametrize(
    ("said", "code", "ref"),
    [
        ("{", "invalid-json", None),
        ("[]", "invalid-body", None),
        ('{"type":"dance","ref":"x"}', "invalid-body", "x"),
        ('{"type":"message","ref":"x"}', "invalid-body", "x"),
        ('{"type":"message","content":"Hi"}', "invalid-body", None),
        ('{"type":"message","ref":7,"content":"Hi"}', "invalid-body", None),
        ('{"type":"message","ref":"x","content":"Hi","colour":"red"}', "invalid-body", "x"),
        ('{"type":"answer","ref":"x","question_id":"q","content":1}', "unknown-question", "x"),
        ("[" * 100 + "]" * 100, "too-deep", None),
    ],
)
async def test_what_cannot_be_done_is_refused_and_the_talk_goes_on(
    world: World, *, said: str, code: str, ref: str | None
) -> None:
    """protocol:P91"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, talking(served, session, "?after=2") as socket:
        await heard(socket)
        await socket.send(said)
        refused = await heard(socket)
        assert (refused["event"], refused["data"]["code"], refused["data"]["ref"]) == ("refused", code, ref)
        await world.write(session, OWNED)
        assert (await heard(socket))["event"] == "owner_changed"


@pytest.mark.parametrize(
    ("session", "query", "status", "code"),
    [
        ("ses_" + "0" * 26, "", 404, "unknown-session"),
        ("nonsense", "", 400, "invalid-id"),
        (None, "?after=x", 400, "invalid-cursor"),
        (None, "?after=99", 409, "cursor-conflict"),
        (None, "?deltas=x", 400, "invalid-query"),
    ],
)
async def test_a_handshake_that_makes_no_sense_is_answered_with_a_problem(
    world: World, *, session: str | None, query: str, status: int, code: str
) -> None:
    """protocol:P90"""
    named = session or await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        with pytest.raises(InvalidStatus) as refused:
            async with talking(served, named, query):
                pass
    assert refused.value.response.status_code == status
    assert orjson.loads(refused.value.response.body)["code"] == code


async def test_a_page_of_a_stranger_gets_no_socket(world: World) -> None:
    """protocol:P90"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(allowed_hosts=("127.0.0.1",))) as served:
        with pytest.raises(InvalidStatus) as refused:
            async with talking(served, session, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with talking(served, session, origin=f"http://{served.address}") as socket:
            assert (await heard(socket))["event"] == "ready"


async def test_a_message_that_is_too_large_ends_the_talk(world: World) -> None:
    """protocol:P91"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(body_bytes_max=1_000)) as served, talking(served, session) as socket:
        await heard(socket)
        await socket.send("x" * 2_000)
        with pytest.raises(ConnectionClosed):
            while True:
                await heard(socket)
    assert socket.close_code == 1009


async def test_a_gateway_that_goes_down_says_so_and_another_goes_on(world: World) -> None:
    """protocol:P90"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, talking(served, session) as socket:
        assert [(await heard(socket))["event"] for _ in range(3)] == ["ready", "session_started", "owner_changed"]
        served.stop.set()
        last = await heard(socket)
        assert (last["event"], last["data"]["reason"]) == ("draining", "draining")
        assert 2000 <= last["retry"] <= 5000
        with pytest.raises(ConnectionClosed):
            await heard(socket)
    assert socket.close_code == 1001


async def test_a_socket_that_is_never_read_is_dropped_and_slows_nobody(world: World) -> None:
    """protocol:P90"""
    session = await world.session_with(STARTED, OWNED)
    parts = world.parts(send_timeout_seconds=0.3, heartbeat_seconds=0.5)
    async with serving(parts) as served:
        reader, writer = await asyncio.open_connection(served.address.host, served.address.port)
        writer.write(
            b"GET /v1/sessions/%b/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % session.encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        big = [UserMessage(RUN, MESSAGE, Json(orjson.dumps("x" * 500_000).decode())) for _ in range(40)]
        await world.write(session, *big)
        async with asyncio.timeout(SOON):
            while 'stream_dropped_total{reason="slow"} 1.0' not in (await served.client.get("/metrics")).text:  # noqa: ASYNC110 - a client can only ask
                await asyncio.sleep(0.05)
        writer.close()
