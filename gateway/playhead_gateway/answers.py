"""What the modules of routes share: how a route is added, and how an answer looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.entry import RATES, Entry
from playhead_gateway.openapi import Answer
from playhead_gateway.principal import Scope
from playhead_gateway.views import View, rendered

__all__ = ["Add", "Endpoint", "guarded", "json_answer", "replay"]

Endpoint = Callable[[Request], Awaitable[Response]]


class Add(Protocol):
    """Adds a route; `described` are the arguments of `operation`, and `dependencies`, that FastAPI shows too.

    `scope` is what who asks must have; None is for routes that everybody may ask, or that see to it themselves.
    """

    def __call__(
        self, method: str, path: str, endpoint: Endpoint, answer: Answer, *, scope: Scope | None, **described: Any
    ) -> None:
        """Add it."""
        ...


def guarded(entry: Entry, scope: Scope | None, action: str, endpoint: Endpoint) -> Endpoint:
    """Have an endpoint asked only by those who may."""
    if scope is None:
        return endpoint

    @wraps(endpoint)
    async def entering(request: Request) -> Response:
        await entry.admit(request, scope, action)
        response = await endpoint(request)
        response.headers.update(request.scope.get(RATES, {}))
        return response

    return entering


def replay(replayed: bool) -> dict[str, str]:
    """Give the header by which an answer says that it was given before."""
    return {"Idempotency-Replayed": "true"} if replayed else {}


def json_answer(view: View, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a view, which nobody may keep."""
    all_headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(rendered(view), status, all_headers, "application/json")
