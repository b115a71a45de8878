"""A session's events, as a stream or as a page: from the cursor that a client has, to what it is answered."""

from __future__ import annotations

from contextlib import aclosing

import orjson
from playhead.errors import CursorConflict, CursorExpired, Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.fanout import SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import Started
from playhead_gateway.projections.sse import control_frame, event_of, prefix_of
from playhead_gateway.query import cursor_of, number, types_of, wants_stream
from playhead_gateway.stream import STREAM_HEADERS, EventStream, farewell

__all__ = ["events_response", "stream_response"]

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept"}


async def events_response(gateway: Gateway, session: SessionId, request: Request) -> Response:
    """Answer `GET …/events`. Raises what the log says of the session and the cursor."""
    cursor, types = cursor_of(request), types_of(request)
    wanted = tuple(prefix_of(name) for name in sorted(types))
    if wants_stream(request):
        return await _stream(gateway, session, cursor, wanted)
    limit = number(request, "limit", gateway.limits.page_events, gateway.limits.page_events_max)
    return await _page(gateway, session, cursor, wanted, limit)


async def stream_response(gateway: Gateway, started: Started, request: Request) -> Response:
    """Answer `POST /v1/stream` with the stream of the session that it began."""
    cursor = cursor_of(request) if started.replayed else BEGINNING
    response = await _stream(gateway, started.session, cursor, (), None if started.replayed else "running")
    response.headers["Content-Location"] = f"/v1/sessions/{started.session}/events"
    return response


async def _stream(
    gateway: Gateway, session: SessionId, cursor: Cursor, wanted: tuple[bytes, ...], status: str | None = None
) -> Response:
    resumes = gateway.telemetry.stream_resumes
    try:
        opening = await gateway.fanout.open(session, cursor)
        status = status or await gateway.status(opening)
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
        return Response(farewell(session, reason, gateway.limits), headers=STREAM_HEADERS)
    if cursor.seq:
        resumes.labels("done" if opening.nothing_left else "resumed").inc()
        if opening.nothing_left:
            return Response(status_code=204, headers=NO_STORE)
    ready = control_frame(
        "ready",
        session,
        retry_ms=gateway.limits.retry_ms,
        status=status,
        first_seq=cursor.seq + 1,
        last_seq=opening.tail.last_seq,
    )
    return EventStream(gateway.fanout, opening, ready, wanted, gateway.telemetry)


async def _page(
    gateway: Gateway, session: SessionId, cursor: Cursor, wanted: tuple[bytes, ...], limit: int
) -> Response:
    """Give some events after a cursor, and the cursor for the next page: beyond all that was looked at."""
    log, frame = gateway.parts.log, gateway.projection.frame
    events: list[bytes] = []
    scanned, after, last_seq = 0, cursor, cursor.seq
    full = False
    async with aclosing(log.read(session, cursor)) as pages:
        async for page in pages:
            for record in page.records:
                shown = frame(record)
                if shown and (not wanted or shown.startswith(wanted)):
                    events.append(event_of(shown))
                after, scanned = record.cursor, scanned + 1
                full = len(events) >= limit or scanned >= gateway.limits.page_scanned_max
                if full:
                    break
            if full:
                break
            after, last_seq = page.head.cursor, page.head.seq
    if full:
        last_seq = (await log.end(session)).seq
    body = b'{"events":[%b],"next_after":%b,"last_seq":%d}' % (
        b",".join(events),
        orjson.dumps(str(after)),
        last_seq,
    )
    return Response(body, headers=NO_STORE, media_type="application/json")
