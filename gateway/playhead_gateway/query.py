"""What stands in a request's query and headers, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from playhead.errors import InvalidCursor
from playhead.ids import BEGINNING, Cursor, RunId, parse_cursor
from starlette.requests import HTTPConnection, Request

from playhead_gateway.problems import Problem

__all__ = [
    "choice",
    "cursor_of",
    "directory_cursor",
    "fraction",
    "given_cursor",
    "letter_cursor",
    "number",
    "trace_of",
    "types_of",
    "until_of",
    "wants_stream",
]

DIRECTORY_CURSOR = re.compile(r"-?[0-9]{1,18}-ses_[0-9a-z]{26}")
LETTER = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")
TYPE = re.compile(r"[a-z][a-z_]{0,63}")
TYPES_MAX = 64
FRACTION = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
RUN_ID = re.compile(r"run_[0-9a-z]{26}")
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def cursor_of(request: HTTPConnection) -> Cursor:
    """Read where a client is. Raises `InvalidCursor`."""
    given = given_cursor(request)
    return parse_cursor(given) if given else BEGINNING


def given_cursor(request: HTTPConnection) -> str | None:
    """Find a cursor. `Last-Event-ID` wins: on a reconnect the URL still has the cursor it began with.

    Raises `InvalidCursor` if there are several: some clients add theirs to what they were given, and to follow the
    older of them would repeat what they have seen.
    """
    given = {one.strip(" \t") for one in request.headers.getlist("last-event-id")}  # the server leaves what follows it
    query = request.query_params
    if len(given) > 1:
        raise InvalidCursor(", ".join(sorted(given))[:80], "send one `Last-Event-ID`: these name different places")
    return next(iter(given), None) or query.get("after") or query.get("last_event_id")


def types_of(request: HTTPConnection) -> frozenset[str]:
    """Read which types of events are asked for; none is all. Raises `Problem`."""
    named = frozenset(name for name in request.query_params.get("types", "").split(",") if name)
    if len(named) > TYPES_MAX or not all(TYPE.fullmatch(name) for name in named):
        raise _invalid("types", f"up to {TYPES_MAX} names of event types, such as `text_delta,run_completed`")
    return named


def fraction(request: Request, name: str, most: float) -> float | None:
    """Read a number above 0 and up to `most`, or None if it is not there. Raises `Problem`."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if not (FRACTION.fullmatch(given) and 0 < float(given) <= most):
        raise _invalid(name, f"a number above 0 and up to {most:g}")
    return float(given)


def until_of(request: HTTPConnection) -> Cursor | RunId | None:
    """Read where a stream is to end: after an event, or with a run. Raises `Problem`."""
    given = request.query_params.get("until")
    if not given:
        return None
    if RUN_ID.fullmatch(given):
        return RunId(given)
    try:
        return parse_cursor(given)
    except InvalidCursor:
        raise _invalid("until", "a cursor or a seq, or the id of a run") from None


def number(request: Request, name: str, default: int, most: int) -> int:
    """Read a count from 1 to `most`. Raises `Problem`."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and 1 <= int(given) <= most):
        raise _invalid(name, f"a number from 1 to {most}")
    return int(given)


def choice(request: HTTPConnection, name: str, among: Sequence[str]) -> str | None:
    """Read one of some words. Raises `Problem`."""
    given = request.query_params.get(name)
    if given is not None and given not in among:
        raise _invalid(name, f"one of {', '.join(among)}")
    return given


def directory_cursor(request: Request) -> str | None:
    """Read the cursor of a page of the directory. Raises `Problem`."""
    given = request.query_params.get("cursor")
    if given is not None and not DIRECTORY_CURSOR.fullmatch(given):
        raise _invalid("cursor", "the `next_cursor` of an earlier page")
    return given


def letter_cursor(request: Request) -> tuple[int, int] | None:
    """Read the cursor of a page of dead letters: the partition and offset of a letter. Raises `Problem`."""
    given = request.query_params.get("cursor")
    if given is None:
        return None
    read = LETTER.fullmatch(given)
    if read is None:
        raise _invalid("cursor", "the `next_cursor` of an earlier page")
    return int(read[1]), int(read[2])


def wants_stream(request: Request) -> bool:
    """Tell whether the client takes a stream of events."""
    return "text/event-stream" in request.headers.get("accept", "").lower()


def trace_of(request: HTTPConnection) -> str | None:
    """Read the W3C `traceparent`. One that is malformed is ignored, as the specification has it."""
    given = request.headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else None


def _invalid(name: str, wanted: str) -> Problem:
    return Problem(400, "invalid-query", f"`{name}` must be {wanted}", parameter=name)
