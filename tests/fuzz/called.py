"""What strangers call over gRPC: the bytes of each request, and what stands in them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, NoReturn, cast

import grpc
import orjson
from google.protobuf.message import DecodeError
from playhead_gateway.grpc import sessions_pb2 as pb
from playhead_gateway.grpc.inside import Inside
from playhead_gateway.grpc.service import Sessions

from tests.fuzz.target import Run, Target
from tests.fuzz.wire import CLOSED_SESSION, LIMITS, OPEN_SESSION, Site, a_site, serving
from tests.gateway.support import RUN

__all__ = ["METHODS", "TARGETS"]

METHODS = ("Start", "Say", "Cancel", "Answer", "Close", "Get", "Watch")

TRAILERS_BYTES_MAX = 8 * 1024
"""What gRPC's clients take of a refusal: beyond that they are told of nothing but its size."""

WATCH_SECONDS = 0.02
OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}


class Refused(Exception):
    """How `abort` ends a call."""


class Call:
    """A call as the server's side has it."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.code: Any = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("idempotency-key", "k1"), ("traceparent", "00-x"))

    async def write(self, reply: Any) -> None:
        self.replies.append(reply.SerializeToString())

    async def abort(self, code: Any, detail: str, trailers: tuple[tuple[str, bytes], ...] = ()) -> NoReturn:
        self.code = code
        size = len(detail.encode()) + sum(len(value) for _, value in trailers)
        assert size <= TRAILERS_BYTES_MAX, f"a refusal of {size} bytes"
        for _, document in trailers:
            orjson.loads(document)
        raise Refused


@contextmanager
def calls() -> Generator[Run, None, None]:
    """Answer or refuse as the caller's fault: the first byte chooses what is called, the rest is the request."""
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()

        async def opened() -> tuple[Site, Sessions]:
            site = await a_site()
            gateway = await stack.enter_async_context(serving(site.world.parts(**LIMITS)))
            return site, Sessions(gateway.app.state.gateway, Inside(gateway.app))

        site, sessions = loop.run(opened())

        async def one(name: str, request: Any) -> None:
            before, call = site.published, Call()
            try:
                async with asyncio.timeout(WATCH_SECONDS if name == "Watch" else None):
                    reply = await getattr(sessions, name.lower())(request, call)
                assert reply is None or reply.SerializeToString() is not None
            except Refused:
                assert call.code not in OURS, call.code
                assert site.published == before, "refused, and done all the same"
            except TimeoutError:
                assert name == "Watch"

        def run(data: bytes) -> None:
            name = METHODS[data[0] % len(METHODS)] if data else "Get"
            try:
                request = getattr(pb, f"{name}Request").FromString(data[1:])
            except DecodeError:
                return  # gRPC's own refusal
            loop.run(one(name, request))

        yield run
        loop.run(stack.aclose())


def seeds() -> list[bytes]:
    blocks = '[{"type":"text","text":"hi"},{"type":"x","y":[1,{"z":null}]}]'
    requests = [
        pb.StartRequest(agent="support", content={"text": "hi"}, metadata_json='{"tenant":"acme"}'),
        pb.StartRequest(content={"blocks_json": blocks}),
        pb.SayRequest(session=OPEN_SESSION, content={"blocks_json": blocks}, mode="interrupt"),
        pb.SayRequest(session=CLOSED_SESSION, content={"text": "hi"}),
        pb.CancelRequest(session=OPEN_SESSION, run_id=RUN),
        pb.AnswerRequest(session=OPEN_SESSION, question_id="q_1", content_json='{"a":[1.5,null]}'),
        pb.CloseRequest(session=CLOSED_SESSION),
        pb.GetRequest(session=OPEN_SESSION),
        pb.WatchRequest(session=CLOSED_SESSION, after="3", types=["text_delta"], until=RUN, final_deltas=True),
        pb.WatchRequest(session=OPEN_SESSION),
    ]
    named = [(type(one).__name__.removesuffix("Request"), cast("Any", one)) for one in requests]
    return [bytes([METHODS.index(name)]) + one.SerializeToString() for name, one in named]


def json_seeds() -> list[bytes]:
    """Give what a request holds as JSON text."""
    return [b'[{"type":"text","text":"hi"},{"type":"x","y":[1,{"z":null}]}]', b'{"tenant":"acme"}', b'"hi"']


@contextmanager
def documents() -> Generator[Run, None, None]:
    """The same for what stands in a request as JSON: any bytes that are text."""
    with calls() as inner:

        def run(data: bytes) -> None:
            text = data.decode("utf-8", "replace")
            for request in (
                pb.StartRequest(metadata_json=text),
                pb.SayRequest(session=OPEN_SESSION, content={"blocks_json": text}),
                pb.AnswerRequest(session=OPEN_SESSION, question_id="q_1", content_json=text),
            ):
                name = type(request).__name__.removesuffix("Request")
                inner(bytes([METHODS.index(name)]) + request.SerializeToString())

        yield run


TARGETS = (
    Target("grpc-requests", calls, seeds, 300),
    Target("grpc-documents", documents, json_seeds, 120),
)
