"""Following a session's stream over a network that breaks: reconnect, resume, verify that nothing is missing.

The loop is ours because the resuming is: httpx2 parses the frames, and here it is decided when to try again, with which
cursor, and when to stop. What a stream says is checked, not trusted: seqs must follow on from each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from playhead.errors import PlayheadError, Unavailable

from playhead_cli.client import advice_of, object_of, refusal

__all__ = ["Dropped", "Ended", "Opened", "Patience", "Seen", "Told", "backoff", "seq_of", "watch"]

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""The longest frame: a record's limit, with room for escapes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When to try again, and when to give up.

    `silence_seconds` must be longer than a gateway's heartbeat (10 s): a stream without a sign of life for so long is
    taken for dead. After `lost_seconds` without a connection the watcher gives up.
    """

    first_seconds: float = 0.2
    most_seconds: float = 5.0
    silence_seconds: float = 25.0
    lost_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is open; what follows is told. `status` is the session's now."""

    status: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the session's log. `raw` is its JSON as it came; `cursor` resumes after it."""

    event: dict[str, Any]
    raw: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection is lost; the watcher tries again in `wait_seconds`."""

    cursor: str | None
    reason: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: nothing will ever follow."""


Seen = Opened | Told | Dropped | Ended


async def watch(
    http: httpx2.AsyncClient,
    session: str,
    after: str | None = None,
    *,
    patience: Patience,
    chance: Callable[[], float],
) -> AsyncGenerator[Seen, None]:
    """Yield what the session's stream tells, resuming where it broke, until the session ends.

    `chance` gives numbers from 0 to 1. Raises `Unavailable` when patience is over, and what the gateway refuses.
    """
    cursor, tries, lost_at = after, 0, None
    now = asyncio.get_running_loop().time
    while True:
        hint = None
        try:
            async for seen in _stream(http, session, cursor, patience):
                match seen:
                    case Told():
                        cursor, tries = seen.cursor, 0
                    case Opened():
                        lost_at = None
                    case Ended():
                        yield seen
                        return
                    case _Draining():
                        hint = seen.retry_seconds
                        continue
                yield seen
            reason = "the gateway closed the stream"
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
        lost_at = now() if lost_at is None else lost_at
        if now() - lost_at >= patience.lost_seconds:
            again = f"playhead tail {session}" + (f" --after {cursor}" if cursor else "")
            raise Unavailable(
                f"no stream from {http.base_url} for {patience.lost_seconds:.0f} s ({reason}): resume with `{again}`"
            )
        # A draining gateway says by when its viewers should be back, so that they do not all come at once.
        wait = backoff(patience, tries, chance()) if hint is None else hint * chance()
        tries += 1
        yield Dropped(cursor, reason, wait)
        await asyncio.sleep(wait)


def backoff(patience: Patience, tries: int, chance: float) -> float:
    """Give how many seconds to wait before a try: anything up to a bound that doubles, so that herds spread."""
    return chance * min(patience.most_seconds, patience.first_seconds * 2.0 ** min(tries, 16))


def seq_of(cursor: str | None) -> int | None:
    """Give the seq that a cursor names. Raises `ValueError` for what is no cursor."""
    return None if cursor is None else int(cursor.partition("-")[0])


@dataclass(frozen=True, slots=True)
class _Draining:
    retry_seconds: float


async def _stream(
    http: httpx2.AsyncClient, session: str, cursor: str | None, patience: Patience
) -> AsyncGenerator[Opened | Told | Ended | _Draining, None]:
    """Yield what one connection brings. Raises `httpx2.TransportError` when it breaks or cannot be had."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    timeout = httpx2.Timeout(5.0, read=patience.silence_seconds)
    seq, retry_seconds = seq_of(cursor), patience.first_seconds
    url = f"/v1/sessions/{session}/events"
    async with http.sse(url, headers=headers, timeout=timeout, max_event_size=FRAME_BYTES_MAX) as source:
        if source.response.status_code == 204:
            yield Ended()
            return
        await _check(source.response)
        async for frame in source:
            retry_seconds = retry_seconds if frame.retry is None else frame.retry / 1000
            data = object_of(frame.data)
            match frame.event:
                case "ready":
                    seq = int(data.get("first_seq", 1)) - 1 if seq is None else seq
                    yield Opened(str(data.get("status", "")), int(data.get("last_seq", 0)))
                case "end":
                    yield Ended()
                    return
                case "draining":
                    yield _Draining(retry_seconds)
                    return
                case _ if "seq" in data:
                    seq = _next(seq, int(data["seq"]))
                    yield Told(data, frame.data, frame.id)
                case _:
                    pass  # said by the gateway, not an event, and newer than this client


async def _check(response: httpx2.Response) -> None:
    if response.status_code == 200:
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            raise PlayheadError(
                f"{response.url} answers {kind or 'nothing'}, not an event stream: is it a Playhead gateway?"
            )
        return
    await response.aread()
    if response.status_code in {429, 500, 502, 503, 504}:
        raise httpx2.RemoteProtocolError(f"{response.status_code} {advice_of(response)}")
    raise refusal(response)


def _next(seq: int | None, told: int) -> int:
    if seq is not None and told != seq + 1:
        raise PlayheadError(
            f"the stream told event {told} after event {seq}: it is not whole, so nothing more is shown"
        )
    return told
