"""The wire of Anthropic's Messages API: a neutral request as its body, its stream's events as what was said. Pure.

Field names are those of `docs.claude.com/en/api/messages-streaming`. Events and deltas of types that are not known here
are skipped and blocks pass through, as the API's versioning policy asks of clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from playhead.events import Usage

from playhead_orchestrator.adapters.failures import GARBAGE, broken
from playhead_orchestrator.gather import Gathering, count_of, text_of
from playhead_orchestrator.model import Block, Finished, ModelFailed, ModelRequest, Said

__all__ = ["ClaudeStream", "body_of"]

CACHED = {"type": "ephemeral"}
UNCACHEABLE = {"thinking", "redacted_thinking"}
RESULT_BLOCKS = {
    "text": {"type", "text"},
    "image": {"type", "source"},
    "document": {"type", "source", "title", "context", "citations"},
    "search_result": {"type", "source", "title", "content", "citations"},
}
"""The blocks that a tool's result may be made of, and their members; any other JSON goes as text, for the API refuses
members that it does not know."""
SOURCES = ("base64", "url")

ERRORS = {
    "rate_limit_error": ("rate_limited", True),
    "overloaded_error": ("overloaded", True),
    "api_error": ("unavailable", True),
    "timeout_error": ("timeout", True),
    "authentication_error": ("authentication", False),
    "permission_error": ("authentication", False),
    "billing_error": ("invalid_request", False),
    "invalid_request_error": ("invalid_request", False),
    "not_found_error": ("invalid_request", False),
    "request_too_large": ("invalid_request", False),
}
"""What an `error` event in the middle of a stream means: our code, and whether trying again can help."""

COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def body_of(request: ModelRequest) -> dict[str, Any]:
    """Translate a request. The tools, the instructions and the conversation so far are marked to be cached."""
    messages = [message for message in map(_message, request.messages) if message["content"]]
    if messages and messages[-1]["role"] == "user":
        _cache_last(messages[-1]["content"])
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": messages,
    }
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in request.tools
        ]
    if request.instructions.strip():
        body["system"] = [{"type": "text", "text": request.instructions, "cache_control": CACHED}]
    elif request.tools:
        _cache_last(body["tools"])
    if request.thinking_tokens is not None:
        budget = min(request.thinking_tokens, request.max_tokens - 1)
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return body


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    blocks: Sequence[Block] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": message["role"], "content": [out for block in blocks if (out := _block(block)) is not None]}


def _block(block: Block) -> Block | None:
    """Translate a block; `None` for those that the API refuses: blank text, and thinking that it did not sign."""
    match block.get("type"):
        case "text":
            return block if str(block.get("text", "")).strip() else None
        case "thinking":
            if "signature" not in block:
                return None
            return {"type": "thinking", "thinking": block.get("text", ""), "signature": block["signature"]}
        case "tool_result":
            return {
                "type": "tool_result",
                "tool_use_id": block["tool_use_id"],
                "content": _result(block.get("content")),
                "is_error": bool(block.get("is_error")),
            }
        case _:
            return block


def _result(content: Any) -> str | list[Block]:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        blocks = cast("list[Any]", content)
        if blocks and all(map(_is_result_block, blocks)):
            return [block for block in blocks if block["type"] != "text" or block["text"].strip()]
    return orjson.dumps(content).decode()


def _is_result_block(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    block = cast("Block", value)
    kind = block.get("type")
    if not isinstance(kind, str) or not block.keys() <= RESULT_BLOCKS.get(kind, set()):
        return False
    source = block.get("source")
    if kind in ("image", "document"):
        return isinstance(source, dict) and cast("Block", source).get("type") in SOURCES
    return kind != "text" or isinstance(block.get("text"), str)


def _cache_last(blocks: list[Block]) -> None:
    """Mark the last block, so that the next request finds all up to it in the cache. The block is the caller's."""
    if blocks[-1].get("type") not in UNCACHEABLE:
        blocks[-1] = {"cache_control": CACHED, **blocks[-1]}


class ClaudeStream:
    """Reads the events of one message."""

    def __init__(self) -> None:
        self.is_whole = False
        self._gathering = Gathering()
        self._counts = dict.fromkeys(COUNTS, 0)
        self._stop: dict[str, Any] = {}

    def feed(self, events: Iterable[bytes], said: list[Said]) -> None:
        """Take the data of events; add what they say to `said`. Raises `ModelFailed`."""
        try:
            for data in events:
                event = orjson.loads(data)
                if event["type"] == "content_block_delta":
                    self._delta(event["index"], event["delta"], said)
                else:
                    self._event(event, said)
                    if self.is_whole:
                        return  # what follows is read or not as the network cuts it
        except GARBAGE as error:
            raise broken(f"the provider sent what is no event of a message: {error!r}") from error

    def _delta(self, index: int, delta: Mapping[str, Any], said: list[Said]) -> None:
        match delta["type"]:
            case "text_delta":
                if delta["text"]:
                    said.append(self._gathering.text(index, delta["text"]))
            case "input_json_delta":
                if delta["partial_json"]:
                    piece = self._gathering.input(index, delta["partial_json"])
                    if piece is not None:
                        said.append(piece)
            case "thinking_delta":
                if delta["thinking"]:
                    said.append(self._gathering.thinking(index, delta["thinking"]))
            case "signature_delta":
                self._gathering.block(index)["signature"] = text_of(delta["signature"])
            case "citations_delta":
                block = self._gathering.block(index)
                citations: list[Any] = block.get("citations") or []  # a block may begin with null
                citations.append(delta["citation"])
                block["citations"] = citations
            case _:
                pass

    def _event(self, event: Mapping[str, Any], said: list[Said]) -> None:
        match event["type"]:
            case "content_block_start":
                self._begin(event["index"], event["content_block"], said)
            case "message_start":
                self._count(event["message"].get("usage"))
            case "message_delta":
                self._stop |= event["delta"]
                self._count(event.get("usage"))
            case "message_stop":
                self.is_whole = True
            case "error":
                raise _failure(event["error"])
            case _:
                pass

    def _begin(self, index: int, block: Block, said: list[Said]) -> None:
        match block["type"]:
            case "text":
                extra = {key: value for key, value in block.items() if key != "text" and value is not None}
                self._gathering.begin(index, {**extra, "type": "text"})
                if block.get("text"):
                    said.append(self._gathering.text(index, block["text"]))
            case "thinking":
                signature = {"signature": text_of(block["signature"])} if block.get("signature") else {}
                self._gathering.begin(index, {"type": "thinking", **signature})
                if block.get("thinking"):
                    said.append(self._gathering.thinking(index, block["thinking"]))
            case "tool_use":
                begun: Block = {"type": "tool_use", "name": text_of(block["name"]), "input": block.get("input") or {}}
                self._gathering.begin(index, begun)
            case _:
                self._gathering.begin(index, block)

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Note the counts: each that is sent again is the sum so far."""
        for name in COUNTS:
            count = usage.get(name) if usage else None
            if count is not None:
                self._counts[name] = count_of(count)

    def end(self) -> Finished:
        """Give the message. Raises `ModelFailed` if it is not whole, or was refused."""
        if not self.is_whole:
            raise broken("Anthropic's stream ended before the message was whole")
        try:
            return self._end()
        except GARBAGE as error:
            raise broken(f"the provider sent what is no message: {error!r}") from error

    def _end(self) -> Finished:
        reason = text_of(self._stop.get("stop_reason") or "end_turn")
        if reason == "refusal":
            details: dict[str, Any] = self._stop.get("stop_details") or {}
            why = text_of(details.get("explanation") or "the model refused to go on with this conversation")
            raise ModelFailed("refused", why, retryable=False)
        usage = Usage(*(self._counts[name] for name in COUNTS))
        return Finished(self._gathering.content(), usage, reason)


def _failure(error: Mapping[str, Any]) -> ModelFailed:
    kind = str(error.get("type", ""))
    code, retryable = ERRORS.get(kind, ("unavailable", True))
    return ModelFailed(code, str(error.get("message") or kind or "the provider failed"), retryable)
