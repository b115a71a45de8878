"""Several sessions in one stream: each frame names its session, and each id says where all of them are.

A browser has six connections for all its tabs; who shows many sessions at once needs no more than one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson
from playhead.errors import InvalidCursor, PlayheadError, Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId, parse_cursor, parse_session_id
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.answers import Add
from playhead_gateway.fanout import Fanout, Opening, SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem, problem_of
from playhead_gateway.projections.native import STREAM_HEADERS, WORDLESS, Choice
from playhead_gateway.projections.sse import HEARTBEAT, control_frame
from playhead_gateway.query import choice, given_cursor, types_of
from playhead_gateway.speech import Manner
from playhead_gateway.stream import EventStream, retry_ms
from playhead_gateway.tail import Viewer
from playhead_gateway.walk import Dropped, Walk, walking
from playhead_gateway.watch import manner_of

__all__ = ["add_channel_routes"]

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(slots=True)
class Channel:
    """One session of a stream, the viewer's place in it, and what it was doing when the stream began."""

    opening: Opening
    cursor: str
    status: str

    @property
    def session(self) -> SessionId:
        """The session's id."""
        return self.opening.tail.session


class ChannelsSpeech:
    """Tells several sessions at once, each in its own order."""

    protocol = "channels"
    headers = STREAM_HEADERS

    def __init__(
        self, fanout: Fanout, channels: Sequence[Channel], choice: Choice, manner: Manner, retry: Callable[[], int]
    ) -> None:
        self.tails = tuple(channel.opening.tail for channel in channels)
        self.sessions = tuple(channel.session for channel in channels)
        self.names = manner.names
        self._fanout = fanout
        self._channels = channels
        self._choice = choice
        self._manner = manner
        self._retry = retry

    def farewell(self, reason: str) -> bytes:
        """Say goodbye for now, if it is the gateway that goes."""
        return b"" if reason in WORDLESS else _control("draining", {"reason": reason}, self._retry())

    async def hold(self, viewer: Viewer) -> None:
        """Say everything of all sessions, until all are over. Raises `Dropped`."""
        await viewer.write(self._ready())
        async with AsyncExitStack() as stack:
            going: list[tuple[int, Walk]] = []
            for place, channel in enumerate(self._channels):
                going.append((place, await stack.enter_async_context(walking(self._fanout, channel.opening))))
            while going and not viewer.gone:
                if viewer.now >= self._manner.expires_at:
                    raise Dropped("expired")
                # A session that never stops must not keep the others waiting: one portion of each, in turn.
                for place, walk in tuple(going):
                    if await self._go_on(viewer, place, walk):
                        going.remove((place, walk))
                if any(_has_news(walk) for _, walk in going):
                    await asyncio.sleep(0)
                elif going:
                    await viewer.wait()
                    await self._keep_alive(viewer)
        if not viewer.gone:
            await viewer.write(b"", more=False)

    async def _go_on(self, viewer: Viewer, place: int, walk: Walk) -> bool:
        """Say what is next of one session, and tell whether that was the end of it."""
        frames = await walk.next()
        session = self._channels[place].session
        if frames is None:
            await viewer.write(control_frame("end", session, last_seq=walk.tail.last_seq))
            return True
        said = self._say(place, frames) if frames else b""
        if said:
            await viewer.write(said)
        elif frames:
            await self._keep_alive(viewer)
        return False

    def _say(self, place: int, frames: Sequence[bytes]) -> bytes:
        channel = self._channels[place]
        before = "".join(f"{other.cursor}." for other in self._channels[:place]).encode()
        after = "".join(f".{other.cursor}" for other in self._channels[place + 1 :]).encode()
        named = b'{"session":"%b",' % channel.session.encode()
        said: list[bytes] = []
        for frame in frames:
            if not frame:
                continue
            head, _, rest = frame.partition(b"\ndata: {")
            data, _, cursor = rest.rpartition(b"\nid: ")
            cursor = cursor[:-2]
            channel.cursor = cursor.decode()
            if self._choice.shows(frame):
                said.append(b"%b\ndata: %b%b\nid: %b%b%b\n\n" % (head, named, data, before, cursor, after))
        return b"".join(said)

    def _ready(self) -> bytes:
        told = [
            {
                "session": channel.session,
                "status": channel.status,
                "first_seq": channel.opening.cursor.seq + 1,
                "last_seq": channel.opening.tail.last_seq,
            }
            for channel in self._channels
        ]
        return _control("ready", {"sessions": told}, self._fanout.limits.retry_ms)

    async def _keep_alive(self, viewer: Viewer) -> None:
        if viewer.silent_for() >= self._fanout.limits.heartbeat_seconds:
            await viewer.write(HEARTBEAT)


def add_channel_routes(add: Add, gateway: Gateway) -> None:
    """Add the route of several sessions in one stream."""

    async def events(request: Request) -> Response:
        """Stream the events of several sessions."""
        sessions = _sessions(request, gateway.limits.channels_max)
        cursors = _cursors(request, len(sessions))
        wanted = Choice.of(types_of(request), deltas=choice(request, "deltas", ("all", "final")) != "final")
        channels: list[Channel] = []
        for session, cursor in zip(sessions, cursors, strict=True):
            try:
                await gateway.entry.enter(request, session)
                opening = await gateway.fanout.open(session, cursor)
                channels.append(Channel(opening, str(cursor), await gateway.status(opening)))
            except (SentAway, Unavailable) as error:
                reason = error.reason if isinstance(error, SentAway) else "unavailable"
                gateway.telemetry.stream_dropped.labels(reason).inc()
                last = _control("draining", {"reason": reason}, retry_ms(gateway.limits))
                return Response(last, headers=STREAM_HEADERS)
            except PlayheadError as error:
                problem = problem_of(error)
                problem.more["session"] = session
                raise problem from error
        if all(channel.opening.nothing_left and channel.opening.cursor.seq for channel in channels):
            return Response(status_code=204, headers=NO_STORE)
        manner = manner_of(gateway, request)
        speech = ChannelsSpeech(gateway.fanout, channels, wanted, manner, lambda: retry_ms(gateway.limits))
        return EventStream(gateway.fanout, speech, gateway.telemetry)

    parameters = openapi.channel_parameters(gateway.limits)
    answer = Answer(200, streams=True, is_empty_at_end=True)
    add("GET", "/v1/events", events, answer, parameters=parameters, scope="sessions:read")


def _sessions(request: Request, most: int) -> list[SessionId]:
    named = [name for name in request.query_params.get("sessions", "").split(",") if name]
    if not 1 <= len(named) <= most or len(set(named)) < len(named):
        detail = f"`sessions` must be 1 to {most} different session ids, with commas between them"
        raise Problem(400, "invalid-query", detail, parameter="sessions")
    return [parse_session_id(name) for name in named]


def _cursors(request: Request, count: int) -> list[Cursor]:
    given = given_cursor(request)
    if not given:
        return [BEGINNING] * count
    parts = given.split(".")
    if len(parts) != count:
        advice = f"a cursor of {count} sessions is {count} cursors with dots between them, in the order of `sessions`"
        raise InvalidCursor(given[:80], advice)
    return [parse_cursor(part) for part in parts]


def _has_news(walk: Walk) -> bool:
    tail = walk.tail
    return walk.has_more or tail.closed or tail.failure is not None


def _control(name: str, said: dict[str, object], retry: int) -> bytes:
    return b"event: %b\nretry: %d\ndata: %b\n\n" % (name.encode(), retry, orjson.dumps(said))
