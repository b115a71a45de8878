"""A model server that costs next to nothing and remembers exactly what it did.

It speaks Anthropic's Messages and OpenAI's chat completions, both streamed, over HTTP/1.1 (`wires.py`).
The name of the model says what to do (`scenarios.py`). Each text delta carries the monotonic clock at the moment it was
written, which all processes of one machine share: whoever receives it subtracts and knows what the way cost.
`GET /runs` gives, and forgets, when each step of each run began and ended here and when its tools ran, so that a
client can take the model's own time out of what it measured.
A run is recognised by the token in its user message, because systems under test choose their own ids.

A POST to `/v1/stream` is answered as a system under test would answer it, straight from here: what the client measures
then is the floor of the harness, with nothing in between. The server refuses to know which system is asking.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, cast

import httptools
import orjson
import uvloop

from bench.scenarios import AGENTS, SAMPLES, Script, parse
from bench.wires import FLOOR, WIRES, Wire, results_of

__all__ = ["Provider", "main"]

RUNS_MAX = 10_000
"""How many runs are remembered; past it the oldest is forgotten."""
BURST_MAX = 64
"""How many deltas one turn of the loop writes for one stream."""
BACKLOG_MAX = 2048

TOKEN = re.compile(rb"bench-run-[0-9a-f]{16}")
WAITED = re.compile(rb"waited ([0-9]{19}) ([0-9]{19})")


class Provider:
    """What the server remembers: for each run its steps and tools, in nanoseconds of the monotonic clock."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def run(self, token: str) -> dict[str, Any]:
        """Give the record of a run, new or known."""
        found = self.runs.get(token)
        if found is None:
            if len(self.runs) >= RUNS_MAX:
                self.runs.pop(next(iter(self.runs)))
            found = self.runs[token] = {"steps": [], "tools": []}
        return found

    def take(self) -> bytes:
        """Give everything remembered, and forget it."""
        taken, self.runs = self.runs, {}
        return orjson.dumps(taken)


class _Reply:
    """One streamed message. It keeps its own time: a delta that is late does not make the next one late."""

    def __init__(self, transport: asyncio.Transport, script: Script, step: dict[str, int], wire: Wire) -> None:
        self._transport = transport
        self._script = script
        self._step = step
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._gap_ns = 1_000_000_000 // script.rate if script.rate else 0
        self._due_ns = step["received"] + script.first_ms * 1_000_000
        transport.write(wire.opening)
        self._wait()

    def _wait(self) -> None:
        self._loop.call_later(max(0.0, (self._due_ns - time.monotonic_ns()) / 1e9), self._tick)

    def _tick(self) -> None:
        if self._transport.is_closing():
            return
        burst = 0
        while self._sent < self._script.deltas and burst < BURST_MAX:
            now = time.monotonic_ns()
            # A timer that fires a little early is not worth a second one.
            if self._due_ns - now > 500_000:
                break
            self._late(now)
            self._write(now)
            burst += 1
            self._sent += 1
            self._due_ns += self._gap_ns
        if self._sent < self._script.deltas:
            self._wait()
        elif self._script.held_ms:
            self._loop.call_later(self._script.held_ms / 1000, self._finish)
        else:
            self._finish()

    def _late(self, now: int) -> None:
        if self._sent == 0:
            self._step["first"] = now
        if self._gap_ns:
            self._step["late"] = max(self._step["late"], now - self._due_ns)

    def _write(self, now: int) -> None:
        before, after = self._wire.delta
        chunk = b"%b%019d%b" % (before, now, after)
        if self._script.held_ms:
            self._loop.call_later(self._script.held_ms / 1000, self._transport.write, chunk)
        else:
            self._transport.write(chunk)

    def _finish(self) -> None:
        self._step["ended"] = time.monotonic_ns()
        self._transport.write(self._wire.closing)


class _Connection(asyncio.Protocol):
    """One HTTP connection: its requests come one after another."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._path = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of `asyncio.Transport` without being one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._path.partition(b"?")[0]
        body = b"".join(self._body)
        if path in WIRES:
            self._stream(body, str(orjson.loads(body).get("model")), WIRES[path])
        elif path == b"/v1/stream":
            self._stream(body, (AGENTS | SAMPLES).get(orjson.loads(body)["agent"], ""), None)
        elif path == b"/runs":
            self._answer(b"200 OK", self._provider.take())
        else:
            self._refuse(b"404 Not Found", f"nothing at {path.decode(errors='replace')}")

    def _stream(self, body: bytes, model: str, wire_of: Callable[[str, Script, str, bool], Wire] | None) -> None:
        received = time.monotonic_ns()
        token = TOKEN.search(body)
        try:
            script = parse(model)
        except ValueError as error:
            self._refuse(b"404 Not Found", str(error))
            return
        if token is None:
            self._refuse(b"400 Bad Request", "the user's message must hold bench-run-<16 hex digits>")
            return
        step = {"received": received, "first": 0, "ended": 0, "late": 0}
        run = self._provider.run(token[0].decode())
        run["steps"].append(step)
        if wire_of is None:
            wire = FLOOR
        else:
            results = results_of(orjson.loads(body)["messages"])
            run["tools"] += [(int(found[1]), int(found[2])) for found in WAITED.finditer(results)]
            wire = wire_of(model, script, token[0].decode(), bool(script.tools and not results))
        _Reply(self._transport, script, step, wire)

    def _refuse(self, status: bytes, message: str) -> None:
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        self._answer(status, orjson.dumps(error))

    def _answer(self, status: bytes, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
        )


async def serve(port: int, say: Callable[[str], None]) -> None:
    """Serve until cancelled."""
    provider = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(provider), "127.0.0.1", port, backlog=BACKLOG_MAX)
    async with server:
        say("ready")
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="The fake model server.")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
