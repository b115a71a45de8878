"""Following a session's stream over a network that breaks: reconnect, resume, verify that nothing is missing.

The loop is ours because the resuming is: httpx2 parses the frames, and here it is decided when to try again, with which
cursor, and when to stop. What a stream says is checked, not trusted: seqs must follow on from each other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from playhead.client.asking import BUSY, RETRY_AFTER_SECONDS_MAX, advice_of, object_of, refusal, retry_after_of
from playhead.errors import PlayheadError, Unavailable
from playhead.ids import parse_cursor

__all__ = ["Dropped", "Ended", "Event", "Lost", "Opened", "Patience", "Seen", "View", "backoff", "watch"]

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""The longest frame: a record's limit, with room for escapes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When to try again, and when to give up.

    The first try comes within `first_seconds`; later ones within a bound that doubles, starts with the `retry` that the
    gateway asks for, and ends at `most_seconds`. `silence_seconds` must be longer than a gateway's heartbeat (10 s): a
    stream without a sign of life for so long is taken for dead. After `lost_seconds` without a connection the watcher
    gives up.
    """

    first_seconds: float = 0.2
    most_seconds: float = 5.0
    silence_seconds: float = 25.0
    lost_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class View:
    """What of a session to watch: the events after a cursor (of some types, or without deltas), and those that come."""

    session: str
    after: str | None = None
    types: tuple[str, ...] = ()
    deltas: Literal["all", "final"] = "all"

    @property
    def is_whole(self) -> bool:
        """Whether each event follows on from the one before."""
        return not self.types and self.deltas == "all"

    @property
    def params(self) -> dict[str, str]:
        """What is asked for beside the cursor."""
        types = {"types": ",".join(self.types)} if self.types else {}
        return types | ({"deltas": self.deltas} if self.deltas != "all" else {})


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is open; what follows is told. `status` is the session's now."""

    status: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the session's log. `data` is all of it, `raw` the JSON as it came; `cursor` resumes after it."""

    seq: int
    type: str
    cursor: str
    data: Mapping[str, Any]
    raw: str

    @property
    def run_id(self) -> str | None:
        """The run that it is part of."""
        return self.data.get("run_id")


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection is lost; the watcher tries again in `wait_seconds`."""

    cursor: str | None
    reason: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: nothing will ever follow."""


Seen = Opened | Event | Dropped | Ended


class Lost(Unavailable):
    """Patience is over: no stream for too long. Resume after `cursor`."""

    def __init__(self, session: str, cursor: str | None, message: str) -> None:
        self.session = session
        self.cursor = cursor
        super().__init__(message)


async def watch(
    http: httpx2.AsyncClient, view: View, *, patience: Patience, chance: Callable[[], float] = random.random
) -> AsyncGenerator[Seen, None]:
    """Yield what the session's stream tells, resuming where it broke, until the session ends.

    `chance` gives numbers from 0 to 1. Raises `Lost` when patience is over, and what the gateway refuses.
    """
    place, tries, lost_at = _Place(view), 0, None
    now = asyncio.get_running_loop().time
    while True:
        try:
            async with aclosing(_stream(http, view, place, patience)) as stream:
                async for seen in stream:
                    match seen:
                        case Opened():
                            lost_at = None
                        case Event():
                            tries = 0
                        case Ended():
                            yield seen
                            return
                    yield seen
            reason = "the gateway closed the stream"
        except httpx2.RequestError as error:
            reason = str(error) or type(error).__name__
        lost_at = now() if lost_at is None else lost_at
        if now() - lost_at >= patience.lost_seconds:
            given_up = f"no stream from {http.base_url} for {patience.lost_seconds:.0f} s ({reason})"
            raise Lost(view.session, place.cursor, f"{given_up}: resume after {place.cursor or 'the beginning'}")
        wait = place.wait(patience, tries, chance())
        tries += 1
        yield Dropped(place.cursor, reason, wait)
        await asyncio.sleep(wait)


def backoff(patience: Patience, tries: int, chance: float, retry_seconds: float = 0.0) -> float:
    """Give how many seconds to wait before a try: anything up to a bound that doubles, so that herds spread."""
    bound = patience.first_seconds * 2.0 ** min(tries, 16)
    return chance * min(patience.most_seconds, max(bound, retry_seconds) if tries else bound)


class _Place:
    """Where a watcher is in the log, whether what it is told follows from there, and when it should come back."""

    def __init__(self, view: View) -> None:
        self.cursor = view.after
        self.retry_seconds = 0.0
        self.is_sent_away = False
        self.leave_alone_seconds = 0.0
        self._seq = None if view.after is None else parse_cursor(view.after).seq
        self._is_whole = view.is_whole
        self._is_checked = self._is_whole
        self._doubt: tuple[int, int] | None = None

    def open(self, first_seq: int) -> None:
        """Begin to be told."""
        self._is_checked = self._is_whole
        if self._seq is None:
            self._seq = first_seq - 1

    def step(self, event: Event) -> None:
        """Go to the next event. Raises `_Gap` for what must be asked again, `PlayheadError` for what can only be wrong.

        A gateway leaves out events of types that are newer than it (P13): a gap that is there again on the next
        connection is one of these, and on that connection there may be more.
        """
        seq, told = self._seq, event.seq
        if seq is not None and told <= seq:
            raise PlayheadError(f"the stream told event {told} after event {seq}: nothing more of it is shown")
        if seq is not None and told > seq + 1 and self._is_checked:
            if self._doubt != (seq, told):
                self._doubt = (seq, told)
                raise _Gap(f"the stream told event {told} after event {seq}")
            self._is_checked = False
        self._seq, self.cursor = event.seq, event.cursor

    def wait(self, patience: Patience, tries: int, chance: float) -> float:
        """Give how many seconds to wait before the next connection, which begins with what this says."""
        if self.is_sent_away:
            # A draining gateway says by when its viewers should be back, so that they do not all come at once.
            wait = self.retry_seconds * chance
        else:
            wait = self.leave_alone_seconds + backoff(patience, tries, chance, self.retry_seconds)
        self.is_sent_away, self.leave_alone_seconds = False, 0.0
        return wait


class _Gap(httpx2.RemoteProtocolError):
    """The stream is not whole."""


async def _stream(
    http: httpx2.AsyncClient, view: View, place: _Place, patience: Patience
) -> AsyncGenerator[Opened | Event | Ended, None]:
    """Yield what one connection brings. Raises `httpx2.TransportError` when it breaks or cannot be had."""
    headers = {} if place.cursor is None else {"Last-Event-ID": place.cursor}
    timeout = httpx2.Timeout(5.0, read=patience.silence_seconds)
    url = f"/v1/sessions/{view.session}/events"
    opened = http.sse(url, params=view.params, headers=headers, timeout=timeout, max_event_size=FRAME_BYTES_MAX)
    async with opened as source:
        if source.response.status_code == 204:
            yield Ended()
            return
        await _check(source.response, place)
        async for frame in source:
            if frame.retry is not None:
                place.retry_seconds = min(frame.retry, RETRY_AFTER_SECONDS_MAX * 1000) / 1000
            data = object_of(frame.data)
            match frame.event:
                case "ready":
                    place.open(_number(data, "first_seq", 1))
                    yield Opened(str(data.get("status", "")), _number(data, "last_seq", 0))
                case "end":
                    yield Ended()
                    return
                case "draining":
                    place.is_sent_away = True
                    return
                case _ if "seq" in data:
                    event = Event(_number(data, "seq", 0), frame.event, frame.id, data, frame.data)
                    place.step(event)
                    parse_cursor(event.cursor)  # it is sent back, in a header
                    yield event
                case _:
                    pass  # said by the gateway, not an event, and newer than this client


def _number(data: Mapping[str, Any], name: str, default: int) -> int:
    """Give a number of events. Raises `PlayheadError` for what is none."""
    value: object = data.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PlayheadError(f"the stream told a {name} that is no number of an event: nothing more of it is shown")
    return value


async def _check(response: httpx2.Response, place: _Place) -> None:
    if response.status_code == 200:
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            raise PlayheadError(
                f"{response.url} answers {kind or 'nothing'}, not an event stream: is it a Playhead gateway?"
            )
        return
    await response.aread()
    if response.status_code in BUSY | {500}:
        place.leave_alone_seconds = retry_after_of(response)
        raise httpx2.RemoteProtocolError(f"{response.status_code} {advice_of(response)}")
    raise refusal(response)
