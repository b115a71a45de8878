"""Sessions over gRPC, with the stock client: the same events, cursors and refusals as over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf import descriptor_pb2
from playhead.commands import AnswerQuestion, CancelRun, CloseSession, Say, StartSession
from playhead.ids import SessionId
from playhead_gateway.app import Gateway, GatewayParts, create_app
from playhead_gateway.grpc import sessions_pb2 as pb
from playhead_gateway.grpc.server import Listening, serving_grpc

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.support import CLOSED, OWNED, SSE, STARTED, World, a_turn, deltas, parse, serving

SOON = 5.0
PROTO = Path(__file__).parents[2] / "schemas/playhead_schemas/sessions.proto"
KEY = a_key(1)
HI = {"text": "Hi"}
NO_QUESTION = {"question_id": "q", "content_json": "1"}


class Stub:
    """The client that a generator would write, by the names in the file."""

    def __init__(self, channel: Any) -> None:
        for name in ("Start", "Say", "Cancel", "Answer", "Close", "Get", "Watch"):
            multi = channel.unary_stream if name == "Watch" else channel.unary_unary
            request, reply = getattr(pb, f"{name}Request"), getattr(pb, f"{name}Reply")
            call = multi(f"/playhead.v1.Sessions/{name}", request.SerializeToString, reply.FromString)
            setattr(self, name.lower(), call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@asynccontextmanager
async def stub_of(parts: GatewayParts) -> AsyncGenerator[Stub, None]:
    gateway = Gateway(parts)
    app = create_app(gateway)
    async with gateway.running(), serving_grpc(gateway, app, Listening("127.0.0.1:0"), 1.0) as port:
        async with asyncio.timeout(SOON * 2), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Stub(channel)
        gateway.drain()


async def a_closed_session(world: World) -> SessionId:
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, question="é \u2028 😀"), CLOSED)
    return session


def problem_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    found = dict(error.trailing_metadata() or ())["playhead-problem-bin"]
    assert isinstance(found, bytes)
    return orjson.loads(found)


async def test_watching_tells_what_the_stream_tells(world: World) -> None:
    """protocol:P94"""
    session = await a_closed_session(world)
    async with serving(world.parts()) as served, stub_of(world.parts()) as stub:
        for query, asked in (
            ("", pb.WatchRequest(session=session)),
            ("?after=3", pb.WatchRequest(session=session, after="3")),
            ("?deltas=final", pb.WatchRequest(session=session, final_deltas=True)),
            ("?types=text_delta,thinking", pb.WatchRequest(session=session, types=["text_delta", "thinking"])),
            ("?until=7", pb.WatchRequest(session=session, until="7")),
        ):
            frames = parse((await served.client.get(f"/v1/sessions/{session}/events{query}", headers=SSE)).content)
            told = [reply async for reply in stub.watch(asked)]
            assert [(one.event.type, one.event.cursor, orjson.loads(one.event.json)) for one in told[1:-1]] == [
                (frame.event, frame.id, frame.data) for frame in frames[1:-1]
            ]
            ready, end = told[0].control, told[-1].control
            assert (ready.name, ready.retry_ms, orjson.loads(ready.json)) == ("ready", 2000, frames[0].data)
            assert (end.name, orjson.loads(end.json)) == ("end", frames[-1].data)


async def test_what_happens_is_told_as_it_happens_and_a_gateway_that_goes_down_says_so(world: World) -> None:
    """protocol:P94"""
    session = await world.session_with(STARTED, OWNED)
    gateway = Gateway(world.parts())
    async with (
        asyncio.timeout(SOON),
        gateway.running(),
        serving_grpc(gateway, create_app(gateway), Listening("127.0.0.1:0"), 1.0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        watching = aiter(Stub(channel).watch(pb.WatchRequest(session=session, after="2")))
        assert (await anext(watching)).control.name == "ready"
        await world.write(session, *deltas(1))
        assert (await anext(watching)).event.type == "text_delta"
        gateway.drain()
        last = (await anext(watching)).control
        assert (last.name, orjson.loads(last.json)["reason"]) == ("draining", "draining")
        assert 2000 <= last.retry_ms <= 5000
        assert [one async for one in watching] == []


async def test_sessions_are_begun_and_spoken_to(world: World) -> None:
    """protocol:P94"""
    key = (("idempotency-key", "one"),)
    async with stub_of(world.parts()) as stub:
        asked = pb.StartRequest(content=pb.Content(text="Hi"), metadata_json='{"team":"blue"}')
        begun = await stub.start(asked, metadata=key)
        assert await stub.start(asked, metadata=key) == begun
        assert begun.status == "running"
        other = await stub.start(pb.StartRequest())
        assert (other.status, other.run_id) == ("idle", "")
        await world.write(SessionId(begun.session), STARTED, OWNED)
        blocks = pb.Content(blocks_json='[{"type":"text","text":"And"}]')
        said = await stub.say(pb.SayRequest(session=begun.session, content=blocks, mode="interrupt"))
        await stub.cancel(pb.CancelRequest(session=begun.session, run_id=said.run_id))
        await stub.close(pb.CloseRequest(session=begun.session))
        shown = orjson.loads((await stub.get(pb.GetRequest(session=begun.session))).session_json)
        assert (shown["id"], shown["agent"]) == (begun.session, "support")
    requests = [one for one in await world.published() if one.session == begun.session]
    start, say, cancel, close = requests
    assert isinstance(start, StartSession)
    assert isinstance(say, Say)
    assert isinstance(cancel, CancelRun)
    assert isinstance(close, CloseSession)
    assert (say.run_id, say.mode, orjson.loads(say.content)) == (
        said.run_id,
        "interrupt",
        [{"type": "text", "text": "And"}],
    )
    assert cancel.run_id == said.run_id
    assert not any(isinstance(one, AnswerQuestion) for one in requests)


@pytest.mark.parametrize(
    ("name", "asked", "status", "code"),
    [
        ("Get", {"session": "nonsense"}, grpc.StatusCode.INVALID_ARGUMENT, "invalid-id"),
        ("Get", {"session": "ses_" + "0" * 26}, grpc.StatusCode.NOT_FOUND, "unknown-session"),
        ("Get", {"session": "../agents"}, grpc.StatusCode.INVALID_ARGUMENT, "invalid-id"),
        ("Watch", {"session": "ses_" + "0" * 26}, grpc.StatusCode.NOT_FOUND, "unknown-session"),
        ("Watch", {"session": "OPEN", "after": "99"}, grpc.StatusCode.FAILED_PRECONDITION, "cursor-conflict"),
        ("Watch", {"session": "OPEN", "after": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "invalid-cursor"),
        (
            "Say",
            {"session": "CLOSED", "content": HI},
            grpc.StatusCode.FAILED_PRECONDITION,
            "session-closed",
        ),
        ("Say", {"session": "OPEN"}, grpc.StatusCode.INVALID_ARGUMENT, "invalid-body"),
        ("Say", {"session": "OPEN", "content": {"blocks_json": "{"}}, grpc.StatusCode.INVALID_ARGUMENT, "invalid-json"),
        (
            "Answer",
            {"session": "OPEN"} | NO_QUESTION,
            grpc.StatusCode.NOT_FOUND,
            "unknown-question",
        ),
    ],
)
async def test_a_refusal_has_the_nearest_code_and_the_problem(
    world: World, *, name: str, asked: dict[str, Any], status: grpc.StatusCode, code: str
) -> None:
    """protocol:P94"""
    sessions = {"OPEN": await world.session_with(STARTED, OWNED), "CLOSED": await a_closed_session(world)}
    asked = {**asked, "session": sessions.get(asked["session"], asked["session"])}
    async with stub_of(world.parts()) as stub:
        call = getattr(stub, name.lower())(getattr(pb, f"{name}Request")(**asked))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await (anext(aiter(call)) if name == "Watch" else call)
    assert refused.value.code() is status
    assert problem_of(refused.value)["code"] == code
    assert refused.value.details() == problem_of(refused.value)["detail"]


async def test_who_asks_is_asked_here_too(world: World, tmp_path: Path) -> None:
    """protocol:P94"""
    session = await a_closed_session(world)
    path = access_file(tmp_path, key_table(KEY, scopes='["sessions:read"]'))
    async with stub_of(replace(world.parts(), authenticate=authenticator(path))) as stub:
        mine = (("authorization", f"Bearer {KEY.text}"),)
        for call, metadata, status in (
            (stub.get(pb.GetRequest(session=session)), (), grpc.StatusCode.UNAUTHENTICATED),
            (anext(aiter(stub.watch(pb.WatchRequest(session=session)))), (), grpc.StatusCode.UNAUTHENTICATED),
            (stub.close(pb.CloseRequest(session=session), metadata=mine), mine, grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert (refused.value.code(), metadata) == (status, metadata)
        assert (await stub.get(pb.GetRequest(session=session), metadata=mine)).session_json
        told = [one async for one in stub.watch(pb.WatchRequest(session=session), metadata=mine)]
        assert told[-1].control.name == "end"


def test_the_code_is_generated_from_the_file_that_users_get(tmp_path: Path) -> None:
    out = tmp_path / "sessions.bin"
    where = (f"-I{PROTO.parent}", f"--descriptor_set_out={out}", PROTO.name)
    subprocess.run((sys.executable, "-m", "grpc_tools.protoc", *where), check=True, timeout=30)
    [described] = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    generated = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(generated)
    for field in (one for message in described.message_type for one in message.field):
        field.ClearField("json_name")
    assert generated == described
