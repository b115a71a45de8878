"""The reading half of the Durable Streams protocol, over session logs: catch up, wait, follow, and look at the end.

Writing is not here: a session's log has one writer, its owner, and clients ask that one for things. What the words
mean is in `projections.durable`; what of the protocol is kept, and how that is tested, in `docs/durable-streams.md`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from playhead.accept import Record
from playhead.errors import CursorConflict, CursorExpired, Unavailable
from playhead.ids import BEGINNING, Cursor, Seq, SessionId, parse_session_id
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.answers import Add
from playhead_gateway.fanout import SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.limits import MIB
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem
from playhead_gateway.projections.durable import (
    JITTER_INTERVALS_MAX,
    DurableEvents,
    cursor_after,
    cursor_at,
    offset_of,
    place_of,
)
from playhead_gateway.query import choice
from playhead_gateway.speech import SessionSpeech
from playhead_gateway.states import closes
from playhead_gateway.stream import EventStream
from playhead_gateway.watch import manner_of, open_at

__all__ = ["add_durable_routes"]

PATH = "/v1/stream/{session}"

CHUNK_BYTES_MAX = MIB
"""After so many bytes a chunk ends with the event that it is at."""
LONG_POLL_SECONDS = 20.0

MODES = ("long-poll", "sse")
STREAM_CURSOR = re.compile(r"[0-9]{1,15}")

JSON = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
NEVER_KEPT = {"Cache-Control": "no-store"}
CHECKED_AGAIN = {"Cache-Control": "private, no-cache"}
"""A chunk may be kept, and is asked for again by its entity tag: who may no longer see it, is not shown it."""

OFFSET = {
    "name": "offset",
    "in": "query",
    "schema": {"type": "string", "pattern": r"^(-1|now|[0-9]{1,18}(-[0-9a-f]{8})?)$"},
}
LIVE = {"name": "live", "in": "query", "schema": {"type": "string", "enum": list(MODES)}}
CURSOR = {"name": "cursor", "in": "query", "schema": {"type": "string", "pattern": f"^{STREAM_CURSOR.pattern}$"}}
EVENTS = {"type": "array", "items": {"type": "object"}}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events in order, and the place behind them. `closed`: nothing will follow; known at the end of the log."""

    events: list[bytes]
    end: Cursor
    is_at_end: bool
    closed: bool


def add_durable_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes by which a session's log is read as a durable stream."""
    routes = DurableRoutes(gateway)
    read = Answer(200, EVENTS, streams=True, is_empty_at_end=True)
    add("GET", PATH, routes.read, read, parameters=[OFFSET, LIVE, CURSOR], scope="sessions:read")
    add("HEAD", PATH, routes.head, Answer(200), scope="sessions:read")


class DurableRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def head(self, request: Request) -> Response:
        """Tell where a log ends, and whether it is closed."""
        session = _session(request)
        end = (await self._gateway.parts.log.end(session)).cursor
        return Response(headers=JSON | _place(await self._chunk(session, end), None) | NEVER_KEPT)

    async def read(self, request: Request) -> Response:
        """Give what is after an offset: what there is, what comes within a while, or all that comes."""
        session = _session(request)
        mode, asked = choice(request, "live", MODES), _offset(request)
        if mode is not None and asked is None:
            raise Problem(
                400, "invalid-query", "a live read must say from where: give its `offset`", parameter="offset"
            )
        start = BEGINNING if asked is None else place_of(asked)
        after = (await self._gateway.parts.log.end(session)).cursor if start is None else start
        if mode == "sse":
            return await self._follow(session, after, request)
        chunk = await self._chunk(session, after)
        if mode == "long-poll":
            return await self._wait(session, after, chunk, _cursors(self._gateway, request)())
        if start is None:
            return Response(_body(chunk), headers=JSON | _place(chunk, None) | NEVER_KEPT)
        etag = f'"{session}:{offset_of(after)}:{offset_of(chunk.end)}{":c" if chunk.closed else ""}"'
        headers = JSON | _place(chunk, None) | CHECKED_AGAIN | {"ETag": etag}
        if _has(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(_body(chunk), headers=headers)

    async def _wait(self, session: SessionId, after: Cursor, chunk: Chunk, cursor: int) -> Response:
        gateway = self._gateway
        if chunk.end.seq == after.seq and not chunk.closed:
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(LONG_POLL_SECONDS, gateway.limits.wait_seconds_max)):
                        await gateway.fanout.beyond(session, chunk.end)
            except SentAway as away:
                raise Unavailable(str(away)) from None
            chunk = await self._chunk(session, after)
        headers = JSON | _place(chunk, cursor) | NEVER_KEPT
        if chunk.end.seq == after.seq:
            return Response(status_code=204, headers=headers)
        return Response(_body(chunk), headers=headers)

    async def _follow(self, session: SessionId, after: Cursor, request: Request) -> Response:
        gateway, cursors = self._gateway, _cursors(self._gateway, request)
        opening = await open_at(gateway, session, after)
        if isinstance(opening, str):
            raise Unavailable(f"no stream can be opened here now: {opening}")  # no client of this is an EventSource
        dialect = DurableEvents(after, opening.tail, cursors)
        speech = SessionSpeech(gateway.fanout, opening, dialect, manner_of(gateway, request))
        return EventStream(gateway.fanout, speech, gateway.telemetry)

    async def _chunk(self, session: SessionId, after: Cursor) -> Chunk:
        """Read what is after a place, a bounded part. Raises what the log says of the place."""
        # From one event earlier: the event that the place is named by shows whether it is on this log, and closed it.
        before = Cursor(Seq(after.seq - 1)) if after.seq else BEGINNING
        try:
            return await self._read(session, before, after)
        except CursorConflict as conflict:
            raise CursorConflict(str(after), conflict.last_seq) from None
        except CursorExpired as expired:
            if expired.first_seq > after.seq + 1:
                raise CursorExpired(str(after), expired.first_seq) from None
            return await self._read(session, after, after)

    async def _read(self, session: SessionId, before: Cursor, after: Cursor) -> Chunk:
        gateway, events, size = self._gateway, list[bytes](), 0
        last: Record | None = None
        async with aclosing(gateway.parts.log.read(session, before)) as pages:
            async for page in pages:
                for record in page.records:
                    if len(events) >= gateway.limits.page_events_max or size >= CHUNK_BYTES_MAX:
                        assert last is not None
                        return Chunk(events, last.cursor, is_at_end=False, closed=False)
                    last = record
                    if record.seq == after.seq:
                        if after.tag not in (None, record.cursor.tag):
                            raise CursorConflict(str(after), (await gateway.parts.log.end(session)).seq)
                        continue
                    event = gateway.projection.event(record)
                    if event is not None:
                        events.append(event)
                        size += len(event)
        if last is None:
            if before.seq < after.seq:
                raise CursorConflict(str(after), before.seq)
            return Chunk(events, after, is_at_end=True, closed=False)
        return Chunk(events, last.cursor, is_at_end=True, closed=closes(gateway.parts.codec, last))


def _session(request: Request) -> SessionId:
    return parse_session_id(str(request.path_params["session"]))


def _offset(request: Request) -> str | None:
    given = request.query_params.getlist("offset")
    if len(given) > 1:
        raise Problem(400, "invalid-query", "`offset` may be given once", parameter="offset")
    return given[0] if given else None


def _cursors(gateway: Gateway, request: Request) -> Callable[[], int]:
    """Give what makes the stream cursors of one answer. Raises `Problem`."""
    asked, clock = request.query_params.get("cursor"), gateway.parts.clock
    if asked is not None and not STREAM_CURSOR.fullmatch(asked):
        raise Problem(400, "invalid-query", "`cursor` must be a `Stream-Cursor` of before", parameter="cursor")
    first = cursor_after(None if asked is None else int(asked), clock(), random.randint(1, JITTER_INTERVALS_MAX))
    return lambda: max(first, cursor_at(clock()))


def _place(chunk: Chunk, cursor: int | None) -> dict[str, str]:
    """Say where a client stands that has a chunk."""
    told = {"Stream-Next-Offset": offset_of(chunk.end)}
    if chunk.is_at_end:
        told["Stream-Up-To-Date"] = "true"
    if chunk.closed:
        told["Stream-Closed"] = "true"
    elif cursor is not None:
        told["Stream-Cursor"] = str(cursor)
    return told


def _body(chunk: Chunk) -> bytes:
    return b"[%b]" % b",".join(chunk.events)


def _has(request: Request, etag: str) -> bool:
    """Tell whether the client has the chunk already, as `If-None-Match` says (RFC 9110, 13.1.2)."""
    given = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return "*" in given or etag in given
