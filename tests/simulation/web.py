"""HTTP over a simulated network: requests go straight to a gateway's ASGI application, bytes come back in their time.

A connection may be cut after any byte, in either direction; a client that does not read fills it up; a gateway that is
killed resets it, or (as after a power cut) is never heard of again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from playhead_gateway.tail import DIRECT

from tests.simulation.loop import Process, SimLoop

__all__ = ["Broken", "Connection", "Web"]

BUFFER_BYTES_MAX = 4_096
"""What fits into a connection that nobody reads."""


class Broken(Exception):
    """The connection is gone."""


@dataclass(eq=False)
class Web:
    """The network between clients and gateways. `servers` are those that listen now, by name."""

    loop: SimLoop
    chance: random.Random
    hop_seconds: float
    servers: dict[str, tuple[Process, Any]] = field(default_factory=dict[str, tuple[Process, Any]])
    open: dict[Connection, None] = field(default_factory=dict["Connection", None])
    direct: bool = True

    def connect(self, client: Process, name: str, request: Request) -> Connection:
        """Send a request. Raises `Broken` if nobody listens."""
        found = self.servers.get(name)
        if found is None:
            raise Broken(f"{name} does not listen")
        server, app = found
        connection = Connection(self, client, server, request)
        self.open[connection] = None
        self.loop.begin(server, connection.serve(app))
        return connection

    def died(self, server: Process, *, silently: bool) -> None:
        """Have the connections of a server break, or never be heard of again."""
        for connection in list(self.open):
            if connection.server is server:
                self.open.pop(connection, None)
                if not silently:
                    connection.reset()


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


class Connection:
    """One request and its answer. It is the gateway's `Direct` too."""

    def __init__(self, web: Web, client: Process, server: Process, request: Request) -> None:
        self.server = server
        self.status = 0
        self.headers: dict[str, str] = {}
        self._web = web
        self._client = client
        self._request = request
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._is_over = False
        self._is_reset = False
        self._in_flight = 0
        self._room = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._body_given = False
        self._started = False
        self._due = 0.0

    # ---- the client's end

    async def head(self) -> int:
        """Wait for the answer's status. Raises `Broken`."""
        while not self.status:
            if self._is_reset or self._is_over:
                raise Broken("no answer")
            self._news.clear()
            await self._news.wait()
        return self.status

    async def read(self) -> bytes | None:
        """Wait for bytes; None at the end. Raises `Broken`."""
        while not self._arrived:
            if self._is_reset:
                raise Broken("reset")
            if self._is_over:
                return None
            self._news.clear()
            await self._news.wait()
        data = self._arrived.popleft()
        self._in_flight -= len(data)
        self._web.loop.call_later(self._hop(), self._room.set, context=self.server.context)
        return data

    async def body(self) -> bytes:
        """Wait for all. Raises `Broken`."""
        await self.head()
        parts: list[bytes] = []
        while (data := await self.read()) is not None:
            parts.append(data)
        return b"".join(parts)

    def hang_up(self) -> None:
        """Leave."""
        self._is_reset = True
        self._web.open.pop(self, None)
        self._web.loop.call_later(self._hop(), self._hung_up.set, context=self.server.context)

    def reset(self) -> None:
        """Break, for both; of what is on its way some arrives."""
        loop = self._web.loop
        if self._arrived and self._web.chance.random() < 0.5:
            data = self._arrived.pop()
            self._arrived.append(data[: self._web.chance.randrange(len(data) + 1)])
        self._is_reset = True
        self._news.set()
        loop.call_later(self._hop(), self._hung_up.set, context=self.server.context)

    # ---- the server's end

    async def serve(self, app: Any) -> None:
        """Have the application answer."""
        request = self._request
        headers = {"host": "sim", **request.headers}
        if request.body:
            headers |= {"content-type": "application/json", "content-length": str(len(request.body))}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("client", 1),
            "server": ("sim", 80),
            "state": {},
            "extensions": {DIRECT: self} if self._web.direct else {},
        }
        await asyncio.sleep(self._hop())
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._web.open.pop(self, None)

    @property
    def has_room(self) -> bool:
        """Whether bytes can be written at once."""
        return self._started and not self._hung_up.is_set() and self._in_flight < BUFFER_BYTES_MAX

    def write_part(self, data: bytes) -> None:
        """Write bytes at once."""
        self._put(data)

    async def _receive(self) -> dict[str, Any]:
        if not self._body_given:
            self._body_given = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._later(self._take_head, message["status"], headers)
            return
        if data := message.get("body", b""):
            while self._in_flight >= BUFFER_BYTES_MAX and not self._hung_up.is_set():
                self._room.clear()
                await self._room.wait()
            self._put(data)
        if not message.get("more_body", False):
            self._later(self._take_end)

    def _put(self, data: bytes) -> None:
        self._in_flight += len(data)
        self._later(self._take, data)

    def _later(self, callback: Any, *arguments: Any) -> None:
        """Have something arrive, after what was sent before it."""
        self._due = max(self._due, self._web.loop.time() + self._hop())
        self._web.loop.call_at(self._due, callback, *arguments, context=self._client.context)

    def _take_head(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self._news.set()

    def _take(self, data: bytes) -> None:
        if not self._is_reset:
            self._arrived.append(data)
            self._news.set()

    def _take_end(self) -> None:
        self._is_over = True
        self._news.set()

    def _hop(self) -> float:
        return self._web.hop_seconds * (0.2 + 1.6 * self._web.chance.random())


def json_of(body: bytes) -> dict[str, Any]:
    """Read an answer."""
    return orjson.loads(body) if body else {}
