"""The outermost ring: which hosts and origins are answered, that no fault of ours shows its inside, and what every
answer tells a browser.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from playhead.telemetry import logger
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from playhead_gateway.headers import with_security
from playhead_gateway.limits import Limits
from playhead_gateway.problems import Problem, problem_response

__all__ = ["Guard"]

_log = logger("playhead.gateway")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, limits: Limits, origins: Collection[str]) -> None:
        self._app = app
        self._hosts = None if limits.allowed_hosts is None else frozenset(limits.allowed_hosts)
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        if scope["type"] == "websocket":
            await self._guard_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                message["headers"] = with_security(message.get("headers", ()), tls=scope["scheme"] == "https")
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        if refusal is not None:
            await problem_response(refusal)(scope, receive, watched)
            return
        try:
            await self._app(scope, receive, watched)
        except Exception:
            _log.exception("a request failed", method=scope["method"], path=scope["path"])
            if begun:
                raise  # too late for an answer: the server closes the connection
            internal = Problem(500, "internal", "something went wrong here; it has been logged")
            await problem_response(internal)(scope, receive, watched)

    async def _guard_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).send_denial_response(problem_response(refusal))

    def _refusal(self, headers: Mapping[str, str]) -> Problem | None:
        """Refuse what a page of a stranger makes a browser send here: a name that was rebound, a foreign origin."""
        if self._hosts is None:
            return None
        host = _hostname(f"//{headers.get('host', '')}")
        if host not in self._hosts:
            return Problem(421, "host-not-allowed", f"this server does not answer for the host {host!r}")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and _hostname(origin) not in self._hosts:
            return Problem(403, "origin-not-allowed", f"pages of {origin!r} may not call this server")
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
