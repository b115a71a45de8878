"""What a fake model says, and how the providers' wires say it: Anthropic's Messages, OpenAI's chat completions.

A `Speech` is a script of steps. The wires are the providers' own, down to event names, pings and usage, so that their
SDKs can read them. Tests cut a speech anywhere (`cuts`); a piece may be a function, called when the piece is sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

__all__ = [
    "Cut",
    "ErrorEvent",
    "Frame",
    "Hold",
    "Ping",
    "Raw",
    "RedactedThink",
    "Speech",
    "Text",
    "Think",
    "Use",
    "anthropic_wire",
    "openai_wire",
    "recut",
]

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
    message: dict[str, object] = {
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
            case Cut():
                yield step
                return
            case Hold():
                yield step
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
        return _named({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: _said(piece)}})

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
    yield _choice({"role": "assistant", "content": ""})
    uses = 0
    for step in speech.steps:
        match step:
            case Cut():
                yield step
                return
            case Hold():
                yield step
            case Raw(data):
                yield data
            case Ping():
                yield b": ping\n\n"
            case ErrorEvent(kind, text):
                yield _data({"error": {"type": kind, "message": text, "code": kind, "param": None}})
                return
            case Text() | Think() | RedactedThink() | Use():
                yield from _openai_block(uses, step)
                uses += isinstance(step, Use)
            case _:
                assert_never(step)
    yield _choice({}, FINISH_REASONS.get(speech.stop_reason, speech.stop_reason))
    options: Mapping[str, object] = request.get("stream_options") or {}
    if options.get("include_usage") and speech.usage:
        prompt, completion = speech.usage.get("input_tokens", 0), speech.usage.get("output_tokens", 0)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        yield _data({**CHUNK, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _openai_block(place: int, block: Text | Think | RedactedThink | Use) -> Iterator[bytes]:
    match block:
        case Text(pieces):
            for piece in pieces:
                yield _choice({"content": _said(piece)})
        case Think(pieces):
            for piece in pieces:
                yield _choice({"reasoning_content": _said(piece)})
        case RedactedThink():
            pass  # this wire has no such thing
        case Use(name, pieces, identity):
            call = {"id": identity, "type": "function", "function": {"name": name, "arguments": ""}}
            yield _choice({"tool_calls": [{"index": place, **call}]})
            for piece in pieces:
                yield _choice({"tool_calls": [{"index": place, "function": {"arguments": _said(piece)}}]})
        case _:
            assert_never(block)


CHUNK = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": "fake"}


def _choice(delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _data({**CHUNK, "choices": [choice]})


def _data(chunk: Mapping[str, object]) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def _said(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece()
