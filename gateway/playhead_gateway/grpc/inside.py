"""Asking the HTTP application from within the process: one request, one whole answer."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp

__all__ = ["Asked", "Inside", "scope_of"]

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer: its HTTP status, its JSON."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """What it says."""
        return orjson.loads(self.body)


class Inside:
    """The application, without a network. What it checks, limits, records and refuses is checked here as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, method: str, path: str, headers: Headers, body: dict[str, Any] | None = None) -> Asked:
        """Send a request and give the answer."""
        data = b"" if body is None else orjson.dumps(body)
        scope = scope_of("http", path, (*headers, (b"content-type", b"application/json")))
        scope["method"] = method
        status, parts = 500, list[bytes]()
        is_sent = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal is_sent
            if is_sent:
                return {"type": "http.disconnect"}
            is_sent = True
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return Asked(status, b"".join(parts))


def scope_of(kind: str, path: str, headers: Headers) -> dict[str, Any]:
    """Make an ASGI scope for a request that came another way. The host is the gateway's own: nothing was rebound."""
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*headers, (b"host", b"127.0.0.1")],
        "client": None,
        "server": None,
        "extensions": {},
    }
