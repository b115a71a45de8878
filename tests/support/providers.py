"""A fake of the model providers, over real HTTP on loopback. It says what `tests.support.speech` describes.

One server speaks both wires, told apart by the path: `/v1/messages` is Anthropic's, anything else OpenAI's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, assert_never

from tests.support.speech import Cut, Frame, Hold, Speech, anthropic_wire, openai_wire, recut

__all__ = ["Answer", "Asked", "FakeProvider", "Refusal", "fake_provider"]

REQUEST_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class Refusal:
    """An HTTP error."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Answer = Speech | Refusal


@dataclass(frozen=True)
class Asked:
    """A request as it came; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class FakeProvider:
    """`answer` says what each request gets. `left` is set when a client closed before it had all."""

    answer: Callable[[Asked], Answer]
    url: str = ""
    asked: list[Asked] = field(default_factory=list[Asked])
    left: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        self.connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(min(int(headers.get("content-length", "0")), REQUEST_BYTES_MAX))
        asked = Asked(first.split()[1], headers, json.loads(body))
        self.asked.append(asked)
        match self.answer(asked):
            case Refusal() as refusal:
                writer.write(_refusal(refusal))
                await writer.drain()
                return True
            case Speech() as speech:
                return await self._speak(reader, writer, asked, speech)

    async def _speak(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked, speech: Speech
    ) -> bool:
        """Stream a speech while watching for the client to leave. Says whether the connection can go on."""
        wire = anthropic_wire if asked.path.endswith("/messages") else openai_wire
        frames = wire(speech, asked.body)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(reader))
            try:
                return await _send(
                    writer, frames if speech.cuts is None else recut(frames, speech.cuts), speech, watching
                )
            finally:
                watching.cancel()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        try:
            gone = not await reader.read(1)
        except ConnectionError:
            gone = True
        if gone:
            self.left.set()


async def _send(
    writer: asyncio.StreamWriter, frames: Iterator[Frame], speech: Speech, watching: asyncio.Task[None]
) -> bool:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_fake\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    pause = speech.first_seconds
    for frame in frames:
        match frame:
            case Cut(politely):
                if politely:
                    writer.write(b"0\r\n\r\n")
                await writer.drain()
                return False
            case Hold(until):
                waiting = asyncio.ensure_future(until.wait())  # noqa: TID251  awaited below, whichever comes first
                await asyncio.wait((waiting, watching), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            case bytes():
                if pause:
                    await asyncio.sleep(pause)
                pause = speech.interval_seconds
                writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                await writer.drain()
            case _:
                assert_never(frame)
        if watching.done():
            return False
    # Before the end is sent: what the client sends after it is its next request.
    watching.cancel()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _refusal(refusal: Refusal) -> bytes:
    is_text = isinstance(refusal.body, str)
    body = str(refusal.body).encode() if is_text else json.dumps(refusal.body).encode()
    kind = "text/html" if is_text else "application/json"
    extra = "".join(f"{name}: {value}\r\n" for name, value in refusal.headers.items())
    head = f"HTTP/1.1 {refusal.status} Refused\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def fake_provider(
    *answers: Answer | Callable[[Asked], Answer], port: int = 0
) -> AsyncGenerator[FakeProvider, None]:
    """Serve answers in turn, the last one for ever, on a free port of loopback."""
    waiting = list(answers)

    def next_answer(asked: Asked) -> Answer:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return answer(asked) if callable(answer) else answer

    fake = FakeProvider(next_answer)
    async with asyncio.TaskGroup() as tasks:
        talks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = tasks.create_task(fake.talk(reader, writer))
            talks.add(task)
            task.add_done_callback(talks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=REQUEST_BYTES_MAX)
        try:
            fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield fake
        finally:
            server.close()
            for task in list(talks):
                task.cancel()
