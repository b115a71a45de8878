"""A gateway that says what a test wrote down: each connection gets the next answer, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

RUN = "run_1"
SESSION = "ses_" + "a" * 26


@dataclass
class FakeGateway:
    """`answers` are whole HTTP responses; `asked` is what came, as (request line, headers, body)."""

    answers: list[bytes]
    url: str = ""
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list[tuple[str, dict[str, str], str]])

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.asked.append((first, headers, body.decode()))
            writer.write(self.answers.pop(0) if self.answers else b"")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def fake_gateway(*answers: bytes) -> AsyncGenerator[FakeGateway, None]:
    """Serve the answers on a free port, each on a connection of its own."""
    fake = FakeGateway(list(answers))
    server = await asyncio.start_server(fake._talk, "127.0.0.1", 0)  # pyright: ignore[reportPrivateUsage]  its own module
    async with server:
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield fake


def answer(body: object, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Make a JSON response."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


def stream(*frames: str) -> bytes:
    """Make an event stream that breaks off after the frames."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = "".join(f"{len(frame.encode()):x}\r\n{frame}\r\n" for frame in frames)
    return (head + chunks).encode()


def ready(status: str = "running", last_seq: int = 0) -> str:
    """Make the frame that opens a stream."""
    data = json.dumps({"session": SESSION, "status": status, "first_seq": 1, "last_seq": last_seq})
    return f"retry: 2000\nevent: ready\ndata: {data}\n\n"


def event(seq: int, kind: str, **fields: object) -> str:
    """Make an event's frame."""
    data = json.dumps({"type": kind, "seq": seq, "at": 0, "run_id": RUN, **fields})
    return f"event: {kind}\ndata: {data}\nid: {seq}-0000000{seq % 10}\n\n"


def end() -> str:
    """Make the frame after the last event of a closed session."""
    return "event: end\ndata: {}\n\n"
