"""Errors as RFC 9457 problem documents: what went wrong, for a program (`code`) and for a person (`detail`)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from playhead.errors import (
    CursorConflict,
    CursorExpired,
    InvalidCursor,
    InvalidId,
    PlayheadError,
    TooLarge,
    Unavailable,
    UnknownSession,
)
from starlette.responses import Response

__all__ = ["Problem", "document_of", "problem_of", "problem_response"]

RETRY_AFTER_SECONDS = 1, 3
"""A client that cannot be served now is told to come back within these, so that not all come at once."""


class Problem(Exception):
    """A request that is refused. `more` are further members of the document, `headers` of the response."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more
        super().__init__(detail)


def invalid_body(errors: Sequence[Mapping[str, str]]) -> Problem:
    """Refuse a body of the wrong shape: each error is a JSON `pointer` and a `detail`."""
    detail = "; ".join(f"{error['pointer'] or 'the body'}: {error['detail']}" for error in errors)
    return Problem(422, "invalid-body", detail, errors=list(errors))


def problem_of(error: PlayheadError) -> Problem:
    """Say as a problem what a port raised."""
    match error:
        case UnknownSession():
            return Problem(404, "unknown-session", str(error))
        case InvalidId():
            return Problem(400, "invalid-id", error.advice)
        case InvalidCursor():
            return Problem(400, "invalid-cursor", error.advice)
        case CursorConflict():
            return Problem(409, "cursor-conflict", str(error), last_seq=error.last_seq)
        case CursorExpired():
            return Problem(410, "cursor-expired", str(error), first_seq=error.first_seq)
        case TooLarge():
            return Problem(413, "too-large", str(error))
        case Unavailable():
            wait = {"Retry-After": str(random.randint(*RETRY_AFTER_SECONDS))}
            return Problem(503, "unavailable", "the log cannot be reached now; try again", headers=wait)
        case _:
            return Problem(500, "internal", "something went wrong here; it has been logged")


def document_of(problem: Problem) -> dict[str, Any]:
    """Write a problem down."""
    return {
        "type": f"urn:playhead:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        **problem.more,
    }


def problem_response(problem: Problem) -> Response:
    """Put a problem on the wire."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **problem.headers}
    return Response(orjson.dumps(document_of(problem)), problem.status, headers, "application/problem+json")
