"""How a provider's stream is written: the bytes of a message before its text, around each delta's stamp, and after it.

All is built before the first delta is due, so that writing one costs next to nothing. Pure. The wires are the
providers' own, down to pings and usage, so that their SDKs can read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from bench.scenarios import TOOL_NAMES, Script

__all__ = ["FLOOR", "WIRES", "Wire", "results_of"]

STAMP_DIGITS = 19
"""Fixed, so that a delta's bytes are built before it is due."""

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
BLANK = "0" * STAMP_DIGITS
TEXT = f"@{BLANK} so it goes, "
INPUT_TOKENS = 25
TOKENS_OF_DELTA = 4


@dataclass(frozen=True, slots=True)
class Wire:
    """The bytes of one streamed message, built before it starts."""

    opening: bytes
    closing: bytes
    delta: tuple[bytes, bytes]
    """What comes before and after a delta's stamp."""


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _around_stamp(frame: bytes) -> tuple[bytes, bytes]:
    return cast("tuple[bytes, bytes]", tuple(_chunk(frame).split(BLANK.encode())))


def _data(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


FLOOR = Wire(
    HEAD, _chunk(_data({"type": "run_completed"})) + END, _around_stamp(_data({"type": "text_delta", "text": TEXT}))
)
"""What a system under test would write, straight from the model server."""


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + _data({"type": kind, **fields})


ANTHROPIC_DELTA = _around_stamp(_event("content_block_delta", index=0, delta={"type": "text_delta", "text": TEXT}))


def _anthropic(model: str, script: Script, token: str, uses_tools: bool) -> Wire:
    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": 1},
    }
    opening = (
        _event("message_start", message=message)
        + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + _event("ping")
    )
    delta = {"stop_reason": "tool_use" if uses_tools else "end_turn", "stop_sequence": None}
    closing = (
        _event("content_block_stop", index=0)
        + (_anthropic_uses(script, token) if uses_tools else b"")
        + _event("message_delta", delta=delta, usage={"output_tokens": script.deltas * TOKENS_OF_DELTA})
        + _event("message_stop")
    )
    return Wire(HEAD + _chunk(opening), _chunk(closing) + END, ANTHROPIC_DELTA)


def _anthropic_uses(script: Script, token: str) -> bytes:
    parts: list[bytes] = []
    for index, name in enumerate(TOOL_NAMES[: script.tools], start=1):
        block: dict[str, object] = {"type": "tool_use", "id": f"toolu_{token[-16:]}{index}", "name": name, "input": {}}
        parts.append(_event("content_block_start", index=index, content_block=block))
        for piece in _arguments(script):
            delta = {"type": "input_json_delta", "partial_json": piece}
            parts.append(_event("content_block_delta", index=index, delta=delta))
        parts.append(_event("content_block_stop", index=index))
    return b"".join(parts)


def _arguments(script: Script) -> Sequence[str]:
    return '{"milliseconds"', f": {script.wait_ms}}}"


CHUNK: dict[str, object] = {
    "id": "chatcmpl-bench",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "bench",
    "service_tier": "default",
    "system_fingerprint": "fp_bench",
}


def _choice(delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _data({**CHUNK, "choices": [choice], "usage": None})


OPENAI_DELTA = _around_stamp(_choice({"content": TEXT}))


def _openai(model: str, script: Script, token: str, uses_tools: bool) -> Wire:
    del model  # OpenAI's answers name the model in each chunk: that one is the same for all, so that it is built once
    opening = _choice({"role": "assistant", "content": "", "refusal": None})
    completion = script.deltas * TOKENS_OF_DELTA
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": INPUT_TOKENS + completion,
    }
    closing = (
        (_openai_uses(script, token) if uses_tools else b"")
        + _choice({}, "tool_calls" if uses_tools else "stop")
        + _data({**CHUNK, "choices": [], "usage": usage})
        + b"data: [DONE]\n\n"
    )
    return Wire(HEAD + _chunk(opening), _chunk(closing) + END, OPENAI_DELTA)


def _openai_uses(script: Script, token: str) -> bytes:
    parts: list[bytes] = []
    for index, name in enumerate(TOOL_NAMES[: script.tools]):
        call = {"id": f"call_{token[-16:]}{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        parts.append(_choice({"tool_calls": [{"index": index, **call}]}))
        for piece in _arguments(script):
            parts.append(_choice({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    return b"".join(parts)


WIRES: Mapping[bytes, Callable[[str, Script, str, bool], Wire]] = {
    b"/v1/messages": _anthropic,
    b"/v1/chat/completions": _openai,
}
"""For each path, how a message is written: by the model's name, its script, the run's token, whether it uses tools."""


def results_of(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Give the tool results that a request ends with, as JSON text, or nothing if it has none."""
    said: list[object] = []
    for message in reversed(messages):
        content = message.get("content")
        if message.get("role") == "tool":
            said.append(content)
        elif isinstance(content, list):
            said += [block for block in cast("list[dict[str, Any]]", content) if block.get("type") == "tool_result"]
            break
        else:
            break
    return orjson.dumps(said) if said else b""
