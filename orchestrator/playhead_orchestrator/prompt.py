"""From a session's messages to the conversation that a model is given. Pure.

Every provider refuses a conversation in which a tool use has no result, or a result has no use, and then refuses it for
ever. So the pairs are made here by construction, whatever the session holds: each assistant message is followed by one
user message that begins with the results of its tool uses, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import orjson
from playhead.session import Message, Session

from playhead_orchestrator.model import Block

__all__ = ["NO_RESULT", "messages_of"]

NO_RESULT = "no result was recorded for this call"

OURS = {"tool_use", "tool_result"}
"""Blocks that only the log may bring: a user's message that held them would claim calls that never were."""


def messages_of(session: Session) -> list[dict[str, Any]]:
    """Give the conversation in neutral blocks, roles in turn. A message without content is left out."""
    results = _results(session.messages)
    used: set[str] = set()
    conversation: list[dict[str, Any]] = []
    for message in session.messages:
        match message.role:
            case "user":
                _say(conversation, "user", _user_blocks(message))
            case "assistant":
                blocks = _assistant_blocks(message, used)
                _say(conversation, "assistant", blocks)
                _say(conversation, "user", [_result(results, block) for block in blocks if block["type"] == "tool_use"])
            case "tool":
                pass  # told right after the message that asked for it
    return conversation


def _say(conversation: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if conversation and conversation[-1]["role"] == role:
        conversation[-1]["content"].extend(blocks)
    else:
        conversation.append({"role": role, "content": blocks})


def _results(messages: Iterable[Message]) -> dict[str, Block]:
    """Find the results by call: the first that the log has of each."""
    results: dict[str, Block] = {}
    for message in messages:
        if message.role == "tool":
            for block in _blocks(orjson.loads(message.content)):
                results.setdefault(str(block.get("tool_use_id")), block)
    return results


def _result(results: dict[str, Block], use: Block) -> Block:
    result = results.get(use["id"])
    if result is None:
        return {"type": "tool_result", "tool_use_id": use["id"], "content": NO_RESULT, "is_error": True}
    return {
        "type": "tool_result",
        "tool_use_id": use["id"],
        "content": result.get("content"),
        "is_error": bool(result.get("is_error")),
    }


def _user_blocks(message: Message) -> list[Block]:
    content = orjson.loads(message.content)
    if isinstance(content, list):
        return [block for block in _blocks(cast("object", content)) if block.get("type") not in OURS]
    return [{"type": "text", "text": content if isinstance(content, str) else message.content}]


def _assistant_blocks(message: Message, used: set[str]) -> list[Block]:
    """Give the blocks of an assistant's message, each tool use once: an id can have but one result."""
    blocks: list[Block] = []
    for block in _blocks(orjson.loads(message.content)):
        if block["type"] == "tool_use":
            identity = block.get("id")
            if not isinstance(identity, str) or identity in used:
                continue
            used.add(identity)
        blocks.append(block)
    return blocks


def _blocks(value: object) -> list[Block]:
    """Take what is a block of a list, or the one block that the value is."""
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [cast("Block", one) for one in values if isinstance(one, dict) and "type" in one]
