"""What a user said, from Playhead's content blocks to AG-UI's parts and back. Pure.

Both know text, pictures and documents. A part of another kind is refused on its way in: a message that was taken in
part would be answered as if it had never said the rest. On the way out what AG-UI has no part for is left out.
"""

from __future__ import annotations

from typing import Any, cast

__all__ = ["Unsupported", "blocks_of", "parts_of"]

Part = dict[str, Any]

KINDS = ("image", "document")


class Unsupported(ValueError):
    """A part that no agent here takes; the message says which."""


def blocks_of(content: str | list[Part]) -> str | list[Part]:
    """Give what is said to a session for the content of an AG-UI message. Raises `Unsupported`."""
    return content if isinstance(content, str) else [_block(part) for part in content]


def parts_of(content: object) -> str | list[Part]:
    """Give the content of an AG-UI message for what a session was told."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [cast("Part", block) for block in cast("list[object]", content) if isinstance(block, dict)]
    return [part for block in blocks if (part := _part(block)) is not None]


def _block(part: Part) -> Part:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {
            "type": "image" | "document" as kind,
            "source": {"type": "data", "value": str(data), "mimeType": str(mime)},
        }:
            return {"type": kind, "source": {"type": "base64", "media_type": mime, "data": data}}
        case {"type": "image" | "document" as kind, "source": {"type": "url", "value": str(url)}}:
            return {"type": kind, "source": {"type": "url", "url": url}}
        case _:
            known = f"text, and {' and '.join(KINDS)} whose source is data or a url"
            raise Unsupported(f"a part of the type {str(part.get('type'))[:80]!r} cannot be taken; there are {known}")


def _part(block: Part) -> Part | None:
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image" | "document" as kind, "source": {"type": "base64", "data": str(data), **more}}:
            mime = str(cast("Part", more).get("media_type", "application/octet-stream"))
            return {"type": kind, "source": {"type": "data", "value": data, "mimeType": mime}}
        case {"type": "image" | "document" as kind, "source": {"type": "url", "url": str(url)}}:
            return {"type": kind, "source": {"type": "url", "value": url}}
        case _:
            return None
