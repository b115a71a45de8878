"""A session's events, as a stream or as a page: from the cursor that a client has, to what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

import orjson
from playhead.errors import CursorConflict, CursorExpired, Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from playhead_gateway.dialect import Dialect
from playhead_gateway.entry import expiry_of, principal_of
from playhead_gateway.fanout import Opening, SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import Started
from playhead_gateway.pace import SPEED_MAX, Pace
from playhead_gateway.projections.messages import Messages
from playhead_gateway.projections.native import EVERYTHING, STREAM_HEADERS, Choice, Native, farewell
from playhead_gateway.projections.sse import control_frame, event_of
from playhead_gateway.query import choice, cursor_of, fraction, number, types_of, until_of, wants_stream
from playhead_gateway.speech import Manner, SessionSpeech
from playhead_gateway.stream import EventStream, retry_ms

__all__ = ["events_response", "manner_of", "messages_of", "open_at", "stream_of", "stream_response"]

OnLeft = Callable[[], Awaitable[None]]

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class Asking:
    """What a client wants to see: of a session, after a cursor, and in a page at most `limit` events.

    `status` is the session's, where it is known.
    """

    session: SessionId
    cursor: Cursor
    wanted: Choice
    limit: int = 0
    status: str | None = None


async def events_response(gateway: Gateway, session: SessionId, request: Request) -> Response:
    """Answer `GET …/events`. Raises what the log says of the session and the cursor."""
    cursor = cursor_of(request)
    wanted = await choice_of(gateway, session, request)
    if wants_stream(request):
        speed = fraction(request, "speed", SPEED_MAX)
        pace = None if speed is None else Pace(speed)
        manner = manner_of(gateway, request, pace)
        return await _stream(gateway, Asking(session, cursor, wanted), manner)
    limit = number(request, "limit", gateway.limits.page_events, gateway.limits.page_events_max)
    wait = fraction(request, "wait", gateway.limits.wait_seconds_max)
    return await _page_response(gateway, Asking(session, cursor, wanted, limit), wait or 0.0)


async def stream_response(gateway: Gateway, started: Started, request: Request, *, cancels: bool) -> Response:
    """Answer `POST /v1/stream` with the stream of the session that it began.

    `cancels`: if the client leaves before the end of the run, the run is cancelled.
    """
    cursor = cursor_of(request) if started.replayed else BEGINNING
    manner = manner_of(gateway, request)
    on_left: OnLeft | None = None
    if cancels and started.message is not None:
        on_left = partial(gateway.intake.cancel, started.session, started.message.run_id, None, "disconnected")
    asking = Asking(started.session, cursor, EVERYTHING, status=None if started.replayed else "running")
    response = await _stream(gateway, asking, manner, on_left)
    response.headers["Content-Location"] = f"/v1/sessions/{started.session}/events"
    return response


async def stream_of(
    gateway: Gateway, session: SessionId, cursor: Cursor, dialect: Dialect, request: Request
) -> Response:
    """Answer with a session's stream from a cursor on, in a dialect. Raises what the log says of both.

    A gateway that can serve no stream now answers with the dialect's farewell alone.
    """
    opening = await open_at(gateway, session, cursor)
    if isinstance(opening, str):
        return Response(dialect.farewell(opening), headers=dict(dialect.headers))
    manner = manner_of(gateway, request)
    speech = SessionSpeech(gateway.fanout, opening, dialect, manner)
    return EventStream(gateway.fanout, speech, gateway.telemetry)


def manner_of(gateway: Gateway, connection: HTTPConnection, pace: Pace | None = None) -> Manner:
    """Say for how long who asks may listen, and by what he is counted."""
    principal = principal_of(connection)
    return Manner(pace, expiry_of(principal, gateway.parts.clock()), gateway.allowances.streams(principal))


async def messages_of(gateway: Gateway, session: SessionId, connection: HTTPConnection) -> SessionSpeech | str:
    """Have a session told in messages, as the query of a connection has it; or say why there is no place for it now.

    Raises what the log says of the session and the cursor.
    """
    cursor, wanted = cursor_of(connection), await choice_of(gateway, session, connection)
    opening = await open_at(gateway, session, cursor)
    if isinstance(opening, str):
        return opening
    ready = ready_frame(gateway, opening, await gateway.status(opening))
    dialect = Messages(Native(session, ready, wanted, partial(retry_ms, gateway.limits)))
    manner = manner_of(gateway, connection)
    return SessionSpeech(gateway.fanout, opening, dialect, manner)


async def open_at(gateway: Gateway, session: SessionId, cursor: Cursor) -> Opening | str:
    """Find a viewer its place, or say why there is none now."""
    resumes = gateway.telemetry.stream_resumes
    try:
        opening = await gateway.fanout.open(session, cursor)
    except CursorConflict:
        resumes.labels("conflict").inc()
        raise
    except CursorExpired:
        resumes.labels("expired").inc()
        raise
    except (SentAway, Unavailable) as error:
        # Not 503: on that an EventSource gives up for ever. An answer that is over at once, it asks for again.
        reason = error.reason if isinstance(error, SentAway) else "unavailable"
        gateway.telemetry.stream_dropped.labels(reason).inc()
        return reason
    if cursor.seq:
        resumes.labels("done" if opening.nothing_left else "resumed").inc()
    return opening


async def _stream(gateway: Gateway, asking: Asking, manner: Manner, on_left: OnLeft | None = None) -> Response:
    session, cursor, wanted = asking.session, asking.cursor, asking.wanted
    limits = gateway.limits
    opening = await open_at(gateway, session, cursor)
    if isinstance(opening, str):
        return Response(farewell(session, opening, retry_ms(limits)), headers=STREAM_HEADERS)
    if cursor.seq and (opening.nothing_left or (wanted.until is not None and cursor.seq >= wanted.until)):
        return Response(status_code=204, headers=NO_STORE)
    ready = ready_frame(gateway, opening, asking.status or await gateway.status(opening))
    dialect = Native(session, ready, wanted, partial(retry_ms, limits))
    speech = SessionSpeech(gateway.fanout, opening, dialect, manner)
    return EventStream(gateway.fanout, speech, gateway.telemetry, on_left=on_left)


def ready_frame(gateway: Gateway, opening: Opening, status: str) -> bytes:
    """Make the first frame of a session's stream."""
    return control_frame(
        "ready",
        opening.tail.session,
        retry_ms=gateway.limits.retry_ms,
        status=status,
        first_seq=opening.cursor.seq + 1,
        last_seq=opening.tail.last_seq,
    )


async def choice_of(gateway: Gateway, session: SessionId, request: HTTPConnection) -> Choice:
    """Read which events a client wants to see. Raises `Problem` and what the log says of the session."""
    deltas = choice(request, "deltas", ("all", "final"))
    named = Choice.of(types_of(request), deltas=deltas != "final")
    match until_of(request):
        case None:
            return named
        case Cursor() as cursor:
            return Choice(named.only, named.never, until=cursor.seq)
        case run:
            folded = await gateway.folded(session)
            # One that is over already may have ended before the cursor: then nothing that comes ends the stream.
            last = folded.head.seq if run in folded.state.runs else None
            return Choice(named.only, named.never, until=last, until_run=run)


@dataclass(frozen=True, slots=True)
class Found:
    """What a page has. `after` is where the next one starts: beyond all that was looked at."""

    events: list[bytes]
    after: Cursor
    last_seq: int


async def _page_response(gateway: Gateway, asking: Asking, wait: float) -> Response:
    """Give some events after a cursor; where there are none, those that come within `wait` seconds."""
    found = await _page(gateway, asking)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait):
            while wait and not found.events and await _more_comes(gateway, asking, found):
                found = await _page(gateway, replace(asking, cursor=found.after))
    body = b'{"events":[%b],"next_after":%b,"last_seq":%d}' % (
        b",".join(found.events),
        orjson.dumps(str(found.after)),
        found.last_seq,
    )
    return Response(body, headers=NO_STORE, media_type="application/json")


async def _more_comes(gateway: Gateway, asking: Asking, found: Found) -> bool:
    if asking.wanted.until is not None and found.after.seq >= asking.wanted.until:
        return False
    try:
        return await gateway.fanout.beyond(asking.session, found.after)
    except SentAway as away:
        raise Unavailable(str(away)) from None


async def _page(gateway: Gateway, asking: Asking) -> Found:
    log, frame, wanted = gateway.parts.log, gateway.projection.frame, asking.wanted
    events: list[bytes] = []
    scanned, after, last_seq = 0, asking.cursor, asking.cursor.seq
    full = False
    async with aclosing(log.read(asking.session, asking.cursor)) as pages:
        async for page in pages:
            for record in page.records:
                shown = frame(record)
                if wanted.shows(shown):
                    events.append(event_of(shown))
                after, scanned = record.cursor, scanned + 1
                full = len(events) >= asking.limit or scanned >= gateway.limits.page_scanned_max
                full = full or wanted.ends_with(shown)
                if full:
                    break
            if full:
                break
            after, last_seq = page.head.cursor, page.head.seq
    if full:
        last_seq = (await log.end(asking.session)).seq
    return Found(events, after, last_seq)
