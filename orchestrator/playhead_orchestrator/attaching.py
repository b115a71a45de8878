"""Pictures, files and cut outputs of tools as a model can read them: fetched from the archive, told in words if not.

The log refers to what is too large for it. Before a model is called, what it refers to is put in its place.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, cast

from playhead.archive import Archive
from playhead.errors import NotArchived, TooLarge
from playhead.ids import SessionId

from playhead_orchestrator.model import Block

__all__ = ["ATTACHED_BYTES_MAX", "attached"]

ATTACHED_BYTES_MAX = 16 * 1024 * 1024
"""How much is fetched from the archive for one model call; what comes after that is only named."""

PDF = "application/pdf"

Room = list[int]
"""How many bytes may still be fetched, as its only element."""


async def attached(
    messages: Sequence[dict[str, Any]], session: SessionId, archive: Archive | None
) -> list[dict[str, Any]]:
    """Give a conversation in which every tool result is complete, as far as it can be. Raises `Unavailable`."""
    room = [ATTACHED_BYTES_MAX]
    return [{**message, "content": await _blocks(message["content"], session, archive, room)} for message in messages]


async def _blocks(content: Any, session: SessionId, archive: Archive | None, room: Room) -> Any:
    if not isinstance(content, list):
        return content
    blocks: list[Any] = []
    for block in cast("list[Any]", content):
        if isinstance(block, dict) and cast("Block", block).get("type") == "tool_result":
            inner = cast("Block", block).get("content")
            blocks.append({**block, "content": await _result(inner, session, archive, room)})
        else:
            blocks.append(block)
    return blocks


async def _result(content: Any, session: SessionId, archive: Archive | None, room: Room) -> Any:
    if isinstance(content, dict):
        block = cast("Block", content)
        return _preview(block) if block.get("type") == "reference" else block
    if not isinstance(content, list):
        return content
    values = cast("list[Any]", content)
    if not any(_is_attachment(value) for value in values):
        return values
    return [await _block(value, session, archive, room) if _is_attachment(value) else value for value in values]


def _is_attachment(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    block = cast("Block", value)
    return block.get("type") in ("image", "document") and isinstance(block.get("source"), dict)


async def _block(block: Block, session: SessionId, archive: Archive | None, room: Room) -> Block:
    source: dict[str, Any] = block["source"]
    if source.get("type") == "archive":
        data = await _fetched(str(source.get("name")), session, archive, room)
        if data is None:
            return _text(f"[{_named(block)}: it cannot be shown here]")
        source = {"type": "base64", "media_type": source.get("media_type"), "data": b64encode(data).decode()}
    if block["type"] == "image" or source.get("type") != "base64" or source.get("media_type") == PDF:
        return {**block, "source": source}
    if str(source.get("media_type")).startswith("text/"):
        return _text(b64decode(str(source.get("data"))).decode("utf-8", "replace"))
    return _text(f"[{_named(block)}: a file that you cannot read]")


async def _fetched(name: str, session: SessionId, archive: Archive | None, room: Room) -> bytes | None:
    if archive is None:
        return None
    try:
        data = await archive.get(session, name, room[0])
    except (NotArchived, TooLarge):
        return None
    room[0] -= len(data)
    return data


def _preview(reference: Block) -> str:
    shown, whole = str(reference.get("preview", "")), reference.get("bytes")
    return f"{shown}\n[Only the beginning is shown. The whole output has {whole} bytes and is kept for people.]"


def _named(block: Block) -> str:
    title = block.get("title")
    kind = block["source"].get("media_type")
    return f"{block['type']} {title} of type {kind}" if title else f"{block['type']} of type {kind}"


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
