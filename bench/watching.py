"""Watches sessions with many connections, as cheaply as can be, so that it is not what is measured.

It reads raw sockets and scans the bytes for stamps and ids; a portion that another viewer has already had, it does not
scan again. Every seq of a session must come to each of its viewers exactly once. It refuses to know what serves them.

It is spoken to by lines of JSON, each answered by one:

  {"do": "open", "port": …, "sessions": […], "each": …, "stalled": …}   connects; a stalled viewer reads nothing
  {"do": "report", "last": {session: seq}}        waits until all but the stalled have all, and says what they had
  {"do": "read on", "last": {session: seq}}       has every other stalled viewer read on, the rest begin to, be cut off
                                                  and resume with the last id they had; waits and says as above
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import orjson
import uvloop

from bench.table import quantile

__all__ = ["main"]

EVENT = re.compile(rb"(?:@([0-9]{19})[^\n]*)?\nid: ([0-9]+)-")
WAIT_SECONDS_MAX = 60.0
CONNECTING_MAX = 100
SCANNED_MAX = 4096
"""How many portions are remembered, so that they are scanned once."""
STALLED_BUFFER_BYTES = 4096
READING_BUFFER_BYTES = 128 * 1024
HOST = "127.0.0.1"

Portion = tuple[Sequence[int], int, int]
"""When its deltas were due, its first seq, its last."""


class Scanner:
    """Gives what is in a portion of a stream: the same bytes are scanned once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Portion | None] = {}

    def scan(self, data: bytes) -> Portion | None:
        """Read whole frames. None if there is no event among them."""
        if data in self._known:
            return self._known[data]
        found = EVENT.findall(data)
        portion = None
        if found:
            stamps = [int(stamp) for stamp, _ in found if stamp]
            first, last = int(found[0][1]), int(found[-1][1])
            assert last - first == len(found) - 1, "a server wrote a portion with a gap within"
            portion = stamps, first, last
        if len(self._known) >= SCANNED_MAX:
            self._known.clear()
        self._known[data] = portion
        return portion


class Viewer(asyncio.Protocol):
    """One viewer of one session, over as many connections as it needs."""

    def __init__(self, scanner: Scanner, session: str, *, stalled: bool) -> None:
        self.session = session
        self.stalled = stalled
        self.seq = 0
        self.lost = 0
        self.repeated = 0
        self.had: list[tuple[Sequence[int], int]] = []
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False
        self._scan = scanner.scan
        self._rest = b""
        self._transport: asyncio.Transport
        self._cut_after: int | None = None
        self._cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int) -> None:
        """Connect and ask for the rest of the session."""
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        if self.stalled:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
        connection.setblocking(False)
        await loop.sock_connect(connection, (HOST, port))
        self._rest, self.ended = b"", False
        await loop.create_connection(lambda: self, sock=connection)
        if self.stalled:
            self._transport.pause_reading()
            self.opened.set_result(None)
        last = f"Last-Event-ID: {self.seq}\r\n" if self.seq else ""
        path = f"/v1/sessions/{self.session}/events?after={self.seq}"
        self._transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n{last}\r\n".encode()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of `asyncio.Transport` without being one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        rest = data[end:]
        # What ends a chunk is nothing that the next frame begins with.
        self._rest = b"" if rest == b"\r\n" else rest
        if not self.opened.done() and end > 1:
            self.opened.set_result(None)
        portion = self._scan(data[:end])
        if portion is not None:
            stamps, first, last = portion
            self.lost += max(0, first - self.seq - 1)
            self.repeated += max(0, self.seq - first + 1)
            self.seq = last
            self.had.append((stamps, now))
            if self._cut_after is not None and last > self._cut_after and not self._cut.done():
                self._transport.abort()
                self._cut.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True

    def read_on(self) -> None:
        """Read after all, and as much at a time as others do: with so small a window the kernel alone takes minutes."""
        connection = cast("socket.socket", self._transport.get_extra_info("socket"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READING_BUFFER_BYTES)
        self._transport.resume_reading()

    async def resume(self, port: int) -> None:
        """Read some events, cut the connection, and go on from the last one over another."""
        self._cut_after = self.seq
        self.read_on()
        await self._cut
        self.stalled = False
        await self.connect(port)

    def delays(self) -> list[float]:
        """Give how long each delta took, in milliseconds."""
        return [(now - stamp) / 1e6 for stamps, now in self.had for stamp in stamps]

    def close(self) -> None:
        self._transport.abort()


class Watching:
    """All viewers of this process."""

    def __init__(self) -> None:
        self._scanner = Scanner()
        self._viewers: list[Viewer] = []
        self._port = 0
        self._began = time.monotonic(), _cpu_seconds()

    async def open(self, asked: dict[str, Any]) -> object:
        """Connect viewers, and wait until the server has answered each that reads."""
        self._port = asked["port"]
        stalled = bool(asked.get("stalled"))
        fresh = [
            Viewer(self._scanner, session, stalled=stalled)
            for session in asked["sessions"]
            for _ in range(asked["each"])
        ]
        self._viewers += fresh
        room = asyncio.Semaphore(CONNECTING_MAX)

        async def one(viewer: Viewer) -> None:
            async with room, asyncio.timeout(WAIT_SECONDS_MAX):
                await viewer.connect(self._port)
                await viewer.opened

        async with asyncio.TaskGroup() as group:
            for viewer in fresh:
                group.create_task(one(viewer))
        self._began = time.monotonic(), _cpu_seconds()
        return {"open": len(self._viewers)}

    async def report(self, asked: dict[str, Any]) -> object:
        """Say what came to those who read."""
        return await self._report([viewer for viewer in self._viewers if not viewer.stalled], asked["last"])

    async def read_on(self, asked: dict[str, Any]) -> object:
        """Let the stalled come to the end, each in its way, and say what came to them."""
        stalled = [viewer for viewer in self._viewers if viewer.stalled]
        ended = sum(viewer.ended for viewer in stalled)
        for viewer in stalled[::2]:
            viewer.read_on()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await asyncio.gather(*(viewer.resume(self._port) for viewer in stalled[1::2]))
        return {**await self._report(stalled, asked["last"]), "ended_before": ended, "reconnected": len(stalled[1::2])}

    async def _report(self, viewers: Sequence[Viewer], last: dict[str, int]) -> dict[str, object]:
        until = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < until and any(viewer.seq < last[viewer.session] for viewer in viewers):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # what would ring a bell here would cost each viewer at each delta
        wall, used = time.monotonic() - self._began[0], _cpu_seconds() - self._began[1]
        delays = sorted(delay for viewer in viewers for delay in viewer.delays())
        return {
            "viewers": len(viewers),
            "delivered": len(delays),
            "lost": sum(viewer.lost + last[viewer.session] - viewer.seq for viewer in viewers),
            "repeated": sum(viewer.repeated for viewer in viewers),
            "portions": sum(len(viewer.had) for viewer in viewers),
            "p50_ms": quantile(delays, 0.5) if delays else 0.0,
            "p99_ms": quantile(delays, 0.99) if delays else 0.0,
            "max_ms": delays[-1] if delays else 0.0,
            "client_cores": used / wall,
        }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run() -> None:
    """Do what is asked, line by line, until stdin ends."""
    watching = Watching()
    does = {"open": watching.open, "report": watching.report, "read on": watching.read_on}
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = orjson.loads(line)
        print(orjson.dumps(await does[asked["do"]](asked)).decode(), flush=True)
    os._exit(0)  # thousands of connections, and nobody left to close them for


def main() -> None:
    """Watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16_384)), hard))
    uvloop.run(run())


if __name__ == "__main__":
    main()
