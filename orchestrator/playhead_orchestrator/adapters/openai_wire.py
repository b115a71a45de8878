"""The wire of chat completions: a neutral request as its body, its stream's chunks as what was said. Pure.

It is OpenAI's and that of the many servers compatible with it, which differ in small things: no usage, no last
`[DONE]`, reasoning in a field of their own, calls that share an index. All of these are understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from playhead.events import Usage

from playhead_orchestrator.adapters.failures import GARBAGE, broken
from playhead_orchestrator.gather import Gathering, count_of, text_of
from playhead_orchestrator.model import Block, Finished, ModelFailed, ModelRequest, Said, ToolOffer

__all__ = ["ChatStream", "body_of", "out_of_quota"]

STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "function_call": "tool_use", "length": "max_tokens"}
REASONING = ("reasoning_content", "reasoning")
"""Where compatible servers put reasoning; OpenAI itself does not stream it on this API."""

FINAL = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "context_length_exceeded",
}
"""The errors in mid-stream (by type or code) that another try does not help; servers agree on little else."""


def body_of(request: ModelRequest, limit: str) -> dict[str, Any]:
    """Translate a request; `limit` names the field for the most tokens. `thinking_tokens` has no counterpart here."""
    messages: list[dict[str, Any]] = []
    if request.instructions.strip():
        messages.append({"role": "system", "content": request.instructions})
    for message in request.messages:
        messages += _messages(message)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream_options": {"include_usage": True},
        limit: request.max_tokens,
    }
    if request.tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
    return body


def _function(tool: ToolOffer) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}


def _messages(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    blocks: Sequence[Block] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return _assistant(blocks) if message["role"] == "assistant" else _user(blocks)


def _assistant(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Translate an answer. Reasoning is left out: this API takes none back."""
    text = "".join(str(block.get("text", "")) for block in blocks if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if not text and not calls:
        return []
    return [{"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}]


def _user(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Translate results, each a message of its own right after the calls, and then what the user said."""
    results = [block for block in blocks if block["type"] == "tool_result"]
    messages = [_result(block) for block in results]
    said = [part for block in results for part in _shown(block)]
    said += [_part(block) for block in blocks if block["type"] != "tool_result"]
    if said and all(part["type"] == "text" for part in said):
        messages.append({"role": "user", "content": "\n\n".join(str(part.get("text", "")) for part in said)})
    elif said:
        messages.append({"role": "user", "content": said})
    return messages


def _result(block: Block) -> dict[str, Any]:
    content = block.get("content")
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    if _attachments(block):
        parts = cast("list[Block]", content)
        said = [str(part.get("text", "")) if part.get("type") == "text" else "[shown below]" for part in parts]
        text = "\n\n".join(said)
    if block.get("is_error"):
        # This API has no field for it, and a model should not take an error for an answer.
        text = f"The tool failed: {text}"
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}


def _shown(result: Block) -> list[Block]:
    """Give what a tool's result shows besides text, for a user's message: this API takes no pictures from tools."""
    attachments = [_part(part) for part in _attachments(result)]
    if not attachments:
        return []
    return [{"type": "text", "text": f"What the tool call {result['tool_use_id']} shows:"}, *attachments]


def _attachments(result: Block) -> list[Block]:
    """Give the pictures and documents of a result that is made of them and of texts; any other JSON goes as text."""
    content = result.get("content")
    if not isinstance(content, list):
        return []
    parts = [cast("Block", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
    texts = [part for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str)]
    attachments = [part for part in parts if _can_be_shown(part)]
    return attachments if len(texts) + len(attachments) == len(cast("list[Any]", content)) else []


def _can_be_shown(part: Block) -> bool:
    """Tell what this API takes: data of either kind, and the address of a picture, but not of a document."""
    if part.get("type") not in ("image", "document") or not isinstance(part.get("source"), dict):
        return False
    kind = part["source"].get("type")
    return kind == "base64" or (kind == "url" and part["type"] == "image")


def _part(block: Block) -> Block:
    if block["type"] not in ("image", "document") or not isinstance(block.get("source"), dict):
        return block
    source: dict[str, Any] = block["source"]
    if block["type"] == "document":
        data = f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "file", "file": {"filename": str(block.get("title", "document.pdf")), "file_data": data}}
    url: str = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
    return {"type": "image_url", "image_url": {"url": url}}


class ChatStream:
    """Reads the chunks of one message."""

    def __init__(self) -> None:
        self.is_whole = False
        self._gathering = Gathering()
        self._reason: str | None = None
        self._refusal: list[str] = []
        self._usage = Usage()
        self._ids: dict[int, str] = {}

    def feed(self, events: Iterable[bytes], said: list[Said]) -> None:
        """Take the data of chunks; add what they say to `said`. Raises `ModelFailed`."""
        try:
            for data in events:
                if data.strip() == b"[DONE]":
                    self.is_whole = True
                elif not self.is_whole:
                    self._chunk(orjson.loads(data), said)
        except GARBAGE as error:
            raise broken(f"the provider sent what is no chunk of a message: {error!r}") from error

    def end(self) -> Finished:
        """Give the message. Raises `ModelFailed` if it is not whole, or was refused."""
        if self._reason is None:
            raise broken("the provider's stream ended before the message was whole")
        if self._reason == "content_filter" or self._refusal:
            why = "".join(self._refusal) or "the provider's content filter stopped the answer"
            raise ModelFailed("refused", why, retryable=False)
        reason = STOP_REASONS.get(self._reason, self._reason)
        if reason == "end_turn" and self._gathering.uses:
            reason = "tool_use"  # some servers say `stop` all the same
        try:
            return Finished(self._gathering.content(), self._usage, reason)
        except GARBAGE as error:
            raise broken(f"the provider sent what is no message: {error!r}") from error

    def _chunk(self, chunk: Mapping[str, Any], said: list[Said]) -> None:
        if chunk.get("error"):
            raise _failure(chunk["error"])
        usage = chunk.get("usage")
        if usage:
            self._usage = _usage(usage)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._delta(choice.get("delta") or {}, said)
                reason = choice.get("finish_reason")
                self._reason = text_of(reason) if reason else self._reason

    def _delta(self, delta: Mapping[str, Any], said: list[Said]) -> None:
        text = delta.get("content")
        if text:
            if "text" not in self._gathering:
                self._gathering.begin("text", {"type": "text"})
            said.append(self._gathering.text("text", text))
        for call in delta.get("tool_calls") or ():
            self._call(call, said)
        for field in REASONING:
            thought = delta.get(field)
            if thought:
                if "thinking" not in self._gathering:
                    self._gathering.begin("thinking", {"type": "thinking"})
                said.append(self._gathering.thinking("thinking", thought))
                break
        if delta.get("refusal"):
            self._refusal.append(text_of(delta["refusal"]))

    def _call(self, call: Mapping[str, Any], said: list[Said]) -> None:
        index, identity = call.get("index") or 0, call.get("id") or ""
        if index not in self._ids or (identity and identity != self._ids[index]):
            self._ids[index] = identity
            self._gathering.begin((index, identity), {"type": "tool_use", "name": ""})
        key = (index, self._ids[index])
        function: Mapping[str, Any] = call.get("function") or {}
        if function.get("name"):
            self._gathering.block(key)["name"] = text_of(function["name"])
        if function.get("arguments"):
            piece = self._gathering.input(key, function["arguments"])
            if piece is not None:
                said.append(piece)


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Translate the counts. OpenAI counts cached tokens among those of the prompt; here they are counted apart."""
    details: Mapping[str, Any] = usage.get("prompt_tokens_details") or {}
    cached = count_of(details.get("cached_tokens") or 0)
    prompt = count_of(usage.get("prompt_tokens") or 0)
    return Usage(max(0, prompt - cached), count_of(usage.get("completion_tokens") or 0), cached)


def out_of_quota(error: object) -> bool:
    """Tell an account without credit, which no waiting helps, from one that is asking too fast: both are a 429."""
    if not isinstance(error, Mapping):
        return False
    known = cast("Mapping[str, object]", error)
    return "insufficient_quota" in (known.get("code"), known.get("type"))


def _failure(error: object) -> ModelFailed:
    is_object = isinstance(error, Mapping)
    known = cast("Mapping[str, object]", error) if is_object else {"message": str(error)}
    kinds = {str(known.get("type")), str(known.get("code"))}
    message = str(known.get("message") or "the provider failed")
    if kinds & FINAL or out_of_quota(known):
        return ModelFailed("invalid_request", message, retryable=False)
    limited = any("rate_limit" in kind or kind == "429" for kind in kinds)
    return ModelFailed("rate_limited" if limited else "unavailable", message, retryable=True)
