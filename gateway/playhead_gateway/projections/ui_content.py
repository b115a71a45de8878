"""What a user said, from the parts of an AI SDK message to Playhead's content. Pure.

Texts and files are taken, and a part that the application made for itself (`data-*`) is left out, as the AI SDK does
when it asks a model. Anything else is refused: a message that was taken in part would be answered as if it had never
said the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

__all__ = ["Unsupported", "content_of"]

Part = dict[str, Any]

DATA_URL = re.compile(r"data:[^,;]*(?:;[^,;]+)*?;base64,([A-Za-z0-9+/=]+)")
WEB_URL = re.compile(r"https?://[^\s]+")


class Unsupported(ValueError):
    """A part that no agent here takes; the message says which."""


def content_of(parts: Iterable[object]) -> str | list[Part]:
    """Give what is said to a session: a text where there is nothing else. Raises `Unsupported`."""
    blocks = [block for part in parts if (block := _block(part)) is not None]
    match blocks:
        case [{"type": "text", "text": str(text)}] if text:
            return text
        case [] | [{"type": "text"}]:
            raise Unsupported("it says nothing")
        case _:
            return blocks


def _block(part: object) -> Part | None:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "file", "mediaType": str(media_type), "url": str(url)}:
            kind = "image" if media_type.startswith("image/") else "document"
            return {"type": kind, "source": _source(media_type, url)}
        case {"type": str(kind)} if kind.startswith("data-"):
            return None
        case _:
            kind = str(cast("Part", part).get("type"))[:80] if isinstance(part, dict) else "?"
            raise Unsupported(f"a part of the type {kind!r} cannot be taken; there are text and file")


def _source(media_type: str, url: str) -> Part:
    inline = DATA_URL.fullmatch(url)
    if inline is not None:
        return {"type": "base64", "media_type": media_type, "data": inline[1]}
    if WEB_URL.fullmatch(url):
        return {"type": "url", "url": url}
    raise Unsupported("a file's url must be http(s), or a data URL in base64")
