"""A fake of the model providers, over real HTTP on loopback: Anthropic's Messages and OpenAI's chat completions, streamed.

What it says is a script: a `Speech` of steps, or a `Refusal`. The wire is the providers' own, down to event names, pings
and usage, so that their SDKs can read it. Tests cut it anywhere (`Speech.cuts`); the bench paces it and stamps pieces
(a piece may be a function, called when it is sent). `python -m tests.support.providers` serves one speech for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, assert_never

__all__ = [
    "Asked",
    "Cut",
    "ErrorEvent",
    "FakeProvider",
    "Hold",
    "Ping",
    "Raw",
    "RedactedThink",
    "Refusal",
    "Speech",
    "Text",
    "Think",
    "Use",
    "anthropic_wire",
    "fake_provider",
    "openai_wire",
]

REQUEST_BYTES_MAX = 64 * 1024 * 1024

Piece = str | Callable[[], str]


@dataclass(frozen=True)
class Text:
    """A text block, in pieces."""

    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Think:
    """A block of reasoning, in pieces."""

    pieces: Sequence[Piece]
    signature: str = "c2lnbmVk"


@dataclass(frozen=True)
class RedactedThink:
    """A block of reasoning that only the provider can read."""

    data: str


@dataclass(frozen=True)
class Use:
    """A tool use, its JSON input in pieces."""

    name: str
    pieces: Sequence[Piece]
    id: str = "toolu_1"


@dataclass(frozen=True)
class Ping:
    """A sign of life (a comment, on OpenAI's wire)."""


@dataclass(frozen=True)
class ErrorEvent:
    """The provider fails in mid-stream."""

    kind: str
    message: str


@dataclass(frozen=True)
class Raw:
    """Bytes as they are."""

    data: bytes


@dataclass(frozen=True)
class Cut:
    """The connection ends here, without an end of the body; `politely` ends the body as if it were whole."""

    politely: bool = False


@dataclass(frozen=True)
class Hold:
    """Nothing more is sent until the event is set."""

    until: asyncio.Event


Step = Text | Think | RedactedThink | Use | Ping | ErrorEvent | Raw | Cut | Hold
Frame = bytes | Cut | Hold
"""What is sent at once, or what happens to the connection."""


@dataclass(frozen=True)
class Speech:
    """What the model says. `cuts` are the places at which the body is cut into HTTP chunks; without, one a frame."""

    steps: Sequence[Step]
    stop_reason: str = "end_turn"
    usage: Mapping[str, int] = field(default_factory=lambda: {"input_tokens": 11, "output_tokens": 22})
    cuts: Sequence[int] | None = None
    first_seconds: float = 0.0
    """How long the model takes to begin."""
    interval_seconds: float = 0.0
    """How long it takes for each frame after the first."""


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
            case never:
                assert_never(never)

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
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def recut(frames: Iterator[Frame], cuts: Sequence[int]) -> Iterator[Frame]:
    """Cut a body anew: at the places given (counted from its start), whatever its frames were."""
    places = iter(sorted({cut for cut in cuts if cut > 0}))
    next_cut, at, held = next(places, None), 0, b""
    for frame in frames:
        if not isinstance(frame, bytes):
            if held:
                yield held
            held = b""
            yield frame
            continue
        held += frame
        while next_cut is not None and at + len(held) > next_cut:
            if next_cut > at:
                yield held[: next_cut - at]
            held, at = held[next_cut - at :], next_cut
            next_cut = next(places, None)
    if held:
        yield held


def anthropic_wire(speech: Speech, request: Mapping[str, Any]) -> Iterator[Frame]:
    """Say a speech as events of Anthropic's Messages API."""
    counts = {"input_tokens": 0, "output_tokens": 0, **speech.usage}
    message = {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", "fake"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": counts | {"output_tokens": 1},
    }
    yield _named({"type": "message_start", "message": message})
    index = 0
    for step in speech.steps:
        match step:
            case Cut() | Hold():
                yield step
                if isinstance(step, Cut):
                    return
            case Raw(data):
                yield data
            case Ping():
                yield _named({"type": "ping"})
            case ErrorEvent(kind, text):
                yield _named({"type": "error", "error": {"type": kind, "message": text}})
                return
            case Text() | Think() | RedactedThink() | Use():
                yield from _anthropic_block(index, step)
                index += 1
            case _:
                assert_never(step)
    delta = {"stop_reason": speech.stop_reason, "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": delta, "usage": {"output_tokens": counts["output_tokens"]}})
    yield _named({"type": "message_stop"})


def _anthropic_block(index: int, block: Text | Think | RedactedThink | Use) -> Iterator[bytes]:
    def delta(kind: str, name: str, piece: Piece) -> bytes:
        text = piece if isinstance(piece, str) else piece()
        return _named({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text}})

    def start(content_block: Mapping[str, object]) -> bytes:
        return _named({"type": "content_block_start", "index": index, "content_block": content_block})

    match block:
        case Text(pieces):
            yield start({"type": "text", "text": ""})
            for piece in pieces:
                yield delta("text_delta", "text", piece)
        case Think(pieces, signature):
            yield start({"type": "thinking", "thinking": "", "signature": ""})
            for piece in pieces:
                yield delta("thinking_delta", "thinking", piece)
            yield delta("signature_delta", "signature", signature)
        case RedactedThink(data):
            yield start({"type": "redacted_thinking", "data": data})
        case Use(name, pieces, identity):
            yield start({"type": "tool_use", "id": identity, "name": name, "input": {}})
            for piece in ("", *pieces):
                yield delta("input_json_delta", "partial_json", piece)
        case _:
            assert_never(block)
    yield _named({"type": "content_block_stop", "index": index})


def _named(event: Mapping[str, object]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


FINISH_REASONS = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}


def openai_wire(speech: Speech, request: Mapping[str, Any]) -> Iterator[Frame]:
    """Say a speech as chunks of OpenAI's chat completions; reasoning as compatible servers send it."""

    def chunk(delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data(
            {
                "id": "chatcmpl-fake",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": request.get("model", "fake"),
                "choices": [choice],
            }
        )

    yield chunk({"role": "assistant", "content": ""})
    uses = 0
    for step in speech.steps:
        match step:
            case Cut() | Hold():
                yield step
                if isinstance(step, Cut):
                    return
            case Raw(data):
                yield data
            case Ping():
                yield b": ping\n\n"
            case ErrorEvent(kind, text):
                yield _data({"error": {"type": kind, "message": text, "code": kind, "param": None}})
                return
            case Text(pieces):
                for piece in pieces:
                    yield chunk({"content": piece if isinstance(piece, str) else piece()})
            case Think(pieces):
                for piece in pieces:
                    yield chunk({"reasoning_content": piece if isinstance(piece, str) else piece()})
            case RedactedThink():
                pass  # this wire has no such thing
            case Use(name, pieces, identity):
                function: dict[str, str] = {"name": name, "arguments": ""}
                call = {"index": uses, "id": identity, "type": "function", "function": function}
                yield chunk({"tool_calls": [call]})
                for piece in pieces:
                    arguments = {"arguments": piece if isinstance(piece, str) else piece()}
                    yield chunk({"tool_calls": [{"index": uses, "function": arguments}]})
                uses += 1
            case _:
                assert_never(step)
    yield chunk({}, FINISH_REASONS.get(speech.stop_reason, speech.stop_reason))
    if (request.get("stream_options") or {}).get("include_usage") and speech.usage:
        prompt, completion = speech.usage.get("input_tokens", 0), speech.usage.get("output_tokens", 0)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        yield _data(
            {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "choices": [], "usage": usage}
        )
    yield b"data: [DONE]\n\n"


def _data(chunk: Mapping[str, object]) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


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
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        talks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = tasks.create_task(fake.talk(reader, writer))
            talks.add(task)
            task.add_done_callback(talks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", port, limit=REQUEST_BYTES_MAX)
        try:
            fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield fake
        finally:
            server.close()
            for task in list(talks):
                task.cancel()


async def _serve() -> None:
    pieces = [f"word{number} " for number in range(60)]
    speech = Speech([Think(["Let me see."]), Text(pieces)], first_seconds=0.25, interval_seconds=0.02)
    async with fake_provider(speech, port=4199) as fake:
        print(f"ANTHROPIC_BASE_URL={fake.url} OPENAI_BASE_URL={fake.url}/v1", flush=True)  # noqa: T201  its one output
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
