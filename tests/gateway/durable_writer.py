"""The writing half of the Durable Streams protocol, for tests alone: its suite must have something to read.

A stream of the suite is a session. What is appended becomes events of its log, written as an owner would, and every
read goes on to a real gateway. Its answers come back with their status and headers as they are, and in the bodies what
the suite had appended instead of the events that carry it: the elements of JSON arrays, or bytes one after the other.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

import httpx2
import orjson
from playhead.events import Event, Json, SessionClosed, UserMessage
from playhead.ids import SessionId, session_id
from playhead.log import RECORD_BYTES_MAX
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.gateway.support import MESSAGE, RUN, World

__all__ = ["Writer"]

HOP_BY_HOP = frozenset({"connection", "content-length", "date", "transfer-encoding"})
LINE_ENDS = re.compile(r"\r\n|\r|\n")
JSON = "application/json"


@dataclass
class Stream:
    """A stream that the suite has made."""

    session: SessionId
    content_type: str
    closed: bool = False

    @property
    def is_json(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() == JSON

    def messages(self, body: bytes) -> list[Json]:
        """Give what a body says as the contents of events. Raises what is wrong with it."""
        if not self.is_json:
            return [Json(orjson.dumps(base64.b64encode(body).decode()).decode())] if body else []
        value: object = orjson.loads(body) if body else []
        messages = cast("list[object]", value) if isinstance(value, list) else [value]
        return [Json(orjson.dumps(one).decode()) for one in messages]

    def said(self, events: Sequence[dict[str, Any]]) -> bytes | None:
        """Give what the suite had appended, of some events; None if nothing was."""
        contents = [event["content"] for event in events if event["type"] == "user_message"]
        if self.is_json:
            return orjson.dumps(contents)
        return b"".join(base64.b64decode(content) for content in contents)


class Writer:
    """Takes the suite's requests: writes for the log, reads for the gateway."""

    def __init__(self, world: World, gateway: httpx2.AsyncClient) -> None:
        self._world = world
        self._gateway = gateway
        self._streams: dict[str, Stream] = {}
        methods = ["GET", "HEAD", "OPTIONS"]
        self.app = Starlette(
            routes=[
                Route("/v1/stream/{name:path}", self.read, methods=methods),
                Route("/v1/stream/{name:path}", self.create, methods=["PUT"]),
                Route("/v1/stream/{name:path}", self.append, methods=["POST"]),
            ]
        )

    async def create(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        kind = request.headers.get("content-type", "application/octet-stream")
        is_new = name not in self._streams
        if is_new:
            session = await self._world.log.create(_named(name))
            self._streams[name] = Stream(session, kind)
            await self._write(self._streams[name], request, await request.body())
        return await self._placed(self._streams[name], 201 if is_new else 200)

    async def append(self, request: Request) -> Response:
        stream, body = self._streams.get(str(request.path_params["name"])), await request.body()
        if stream is None:
            return Response(status_code=404)
        if stream.closed:
            return await self._placed(stream, 204 if not body else 409)
        try:
            await self._write(stream, request, body)
        except orjson.JSONDecodeError:
            return Response(status_code=400)
        return await self._placed(stream, 204)

    async def read(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        stream = self._streams.get(name) or Stream(_named(name), JSON)
        url = f"/v1/stream/{stream.session}"
        wanted = (
            "accept",
            "if-none-match",
            "origin",
            "access-control-request-method",
            "access-control-request-headers",
        )
        headers = {name: value for name, value in request.headers.items() if name in wanted}
        query = str(request.url.query)
        asked = self._gateway.build_request(
            request.method, f"{url}?{query}" if query else url, headers=headers, timeout=None
        )
        answer = await self._gateway.send(asked, stream=True)
        kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        kind = answer.headers.get("content-type", "")
        if kind == "text/event-stream":
            return StreamingResponse(_unwrapped(stream, answer), answer.status_code, kept)
        body = await answer.aread()
        await answer.aclose()
        if kind == JSON:
            kept["content-type"] = stream.content_type
        if kind == JSON and body:
            body = stream.said(orjson.loads(body)) or b""
        return Response(body, answer.status_code, kept)

    async def _write(self, stream: Stream, request: Request, body: bytes) -> None:
        events: list[Event] = [UserMessage(RUN, MESSAGE, content) for content in stream.messages(body)]
        stream.closed = request.headers.get("stream-closed") == "true"
        if stream.closed:
            events.append(SessionClosed("requested"))
        assert len(body) < RECORD_BYTES_MAX
        await self._world.write(stream.session, *events)

    async def _placed(self, stream: Stream, status: int) -> Response:
        """Say where the stream ends: as the gateway says it."""
        end = await self._gateway.head(f"/v1/stream/{stream.session}")
        told = {name: value for name, value in end.headers.items() if name.startswith("stream-")}
        return Response(status_code=status, headers=told | {"content-type": stream.content_type})


def _named(name: str) -> SessionId:
    return session_id(sha256(name.encode()).digest()[:16])


async def _unwrapped(stream: Stream, answer: httpx2.Response) -> AsyncIterator[bytes]:
    """Pass server-sent events on, each as it is whole, with what was appended in the place of events."""
    rest = b""
    try:
        async for chunk in answer.aiter_raw():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            # What the gateway sent at once goes on at once: a test of the suite takes what it is given first for all.
            if said := b"".join(_block(stream, block) for block in blocks):
                yield said
    finally:
        await answer.aclose()


def _block(stream: Stream, block: bytes) -> bytes:
    if not block.startswith(b"event: data\ndata:"):
        return block + b"\n\n"
    events: list[dict[str, Any]] = orjson.loads(block.removeprefix(b"event: data\ndata:"))
    if not any(event["type"] == "user_message" for event in events):
        return b""
    said = (stream.said(events) or b"").decode()
    return ("event: data\n" + "".join(f"data:{line}\n" for line in LINE_ENDS.split(said)) + "\n").encode()
