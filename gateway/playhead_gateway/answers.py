"""What the modules of routes share: how a route is added, and how an answer looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.openapi import Answer
from playhead_gateway.views import View, rendered

__all__ = ["Add", "Endpoint", "json_answer", "replay"]

Endpoint = Callable[[Request], Awaitable[Response]]


class Add(Protocol):
    """Adds a route; `described` are the arguments of `operation`, and `dependencies`, that FastAPI shows too."""

    def __call__(self, method: str, path: str, endpoint: Endpoint, answer: Answer, **described: Any) -> None:
        """Add it."""
        ...


def replay(replayed: bool) -> dict[str, str]:
    """Give the header by which an answer says that it was given before."""
    return {"Idempotency-Replayed": "true"} if replayed else {}


def json_answer(view: View, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a view, which nobody may keep."""
    all_headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(rendered(view), status, all_headers, "application/json")
