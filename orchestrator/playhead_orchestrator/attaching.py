"""Pictures, files and cut outputs of tools as a model can read them: fetched from the archive, told in words if not.

The log refers to what is too large for it. Before a model is called, what it refers to is put in its place. Any JSON
may look like a picture, and what is in a log stays there: so what is none is told in words, since a provider that
refuses it once refuses the session for ever.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, cast

from playhead.archive import Archive
from playhead.content import IMAGE_TYPES
from playhead.errors import Invalid, NotArchived
from playhead.ids import SessionId

from playhead_orchestrator.model import Block

__all__ = ["ATTACHED_BYTES_MAX", "IMAGE_BYTES_MAX", "attached"]

ATTACHED_BYTES_MAX = 16 * 1024 * 1024
"""How much is fetched from the archive for one model call, the newest first; what is older is only named."""

IMAGE_BYTES_MAX = 5 * 1024 * 1024 * 3 // 4
"""The largest picture that is shown: 5 MiB in base64, the most that Anthropic's API takes of one."""

PDF = "application/pdf"

BEGINNINGS = {
    "image/png": (b"\x89PNG",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF8",),
    "image/webp": (b"RIFF",),
}
"""How files of these types begin. A provider refuses one that is none, each time that it is shown the conversation."""

SHOWN_CHARS_MAX = 200

Room = list[int]
"""How many bytes may still be fetched, as its only element."""


async def attached(
    messages: Sequence[dict[str, Any]], session: SessionId, archive: Archive | None
) -> list[dict[str, Any]]:
    """Give a conversation in which every tool result is complete, as far as it can be. Raises `Unavailable`."""
    room = [ATTACHED_BYTES_MAX]
    newest_first = [
        {**message, "content": await _blocks(message["content"], session, archive, room)}
        for message in reversed(messages)
    ]
    return newest_first[::-1]


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
    if source.get("type") == "base64":
        return _shown(block, source)
    if source.get("type") != "archive":
        return block
    bytes_max = min(room[0], IMAGE_BYTES_MAX) if block["type"] == "image" else room[0]
    data = await _fetched(str(source.get("name")), session, archive, bytes_max)
    if data is None:
        return _text(f"[{_named(block)}: it cannot be shown here]")
    room[0] -= len(data)
    return _shown(block, {"type": "base64", "media_type": source.get("media_type"), "data": b64encode(data).decode()})


def _shown(block: Block, source: dict[str, Any]) -> Block:
    """Give what a model reads of a picture or a document: itself, its text, or that there is one."""
    kind, data = source.get("media_type"), _decoded(source.get("data"))
    if data and data.startswith(BEGINNINGS.get(str(kind), (b"%PDF",))) and _is_readable(block, kind):
        return {**block, "source": source}
    if data is not None and block["type"] == "document" and str(kind).startswith("text/"):
        return _text(data.decode("utf-8", "replace"))
    return _text(f"[{_named(block)}: a file that you cannot read]")


def _is_readable(block: Block, kind: Any) -> bool:
    return kind in (IMAGE_TYPES if block["type"] == "image" else (PDF,))


def _decoded(data: Any) -> bytes | None:
    try:
        return b64decode(data, validate=True) if isinstance(data, str) else None
    except ValueError:
        return None


async def _fetched(name: str, session: SessionId, archive: Archive | None, bytes_max: int) -> bytes | None:
    if archive is None:
        return None
    try:
        return await archive.get(session, name, bytes_max)
    except (NotArchived, Invalid):  # also what is too large, and a name that can be none
        return None


def _preview(reference: Block) -> str:
    shown, whole = str(reference.get("preview", "")), reference.get("bytes")
    return f"{shown}\n[Only the beginning is shown. The whole output has {whole} bytes and is kept for people.]"


def _named(block: Block) -> str:
    title = block.get("title")
    kind = str(block["source"].get("media_type"))[:SHOWN_CHARS_MAX]
    return (
        f"{block['type']} {str(title)[:SHOWN_CHARS_MAX]} of type {kind}" if title else f"{block['type']} of type {kind}"
    )


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
