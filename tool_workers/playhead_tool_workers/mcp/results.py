"""What an MCP tool returned, as what a tool of ours returns. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from playhead.content import IMAGE_TYPES, File, Image
from playhead.tools import ToolFailed

from playhead_tool_workers.mcp.hiding import Redact, hide

__all__ = ["result_of"]

NO_WORDS = "the tool failed and did not say why"


def result_of(result: CallToolResult, redact: Redact) -> object:
    """Give the result: what is structured if there is that, else texts, with all images and files beside.

    One part stands alone, several are a list. Raises `ToolFailed` for an error: the model is told it.
    """
    parts = [hide(part, redact) for part in _joined(_part(block) for block in result.content)]
    if result.is_error:
        words = "\n".join(part for part in parts if isinstance(part, str))
        raise ToolFailed(words.strip() or NO_WORDS)
    if result.structured_content is not None:
        pictures = [part for part in parts if isinstance(part, Image | File)]
        parts = [hide(result.structured_content, redact), *pictures]
    match parts:
        case []:
            return None
        case [only]:
            return only
        case _:
            return parts


def _part(block: ContentBlock) -> object:
    match block:
        case TextContent():
            return block.text
        case ImageContent():
            data = _bytes(block.data)
            return Image(data, block.mime_type) if block.mime_type in IMAGE_TYPES else File(data, block.mime_type)
        case AudioContent():
            return File(_bytes(block.data), block.mime_type)
        case EmbeddedResource():
            return _resource(block.resource)
        case ResourceLink():
            shown = {"uri", "name", "title", "description", "mime_type", "size"}
            return {"resource": block.model_dump(mode="json", by_alias=True, include=shown, exclude_none=True)}


def _resource(resource: TextResourceContents | BlobResourceContents) -> object:
    if isinstance(resource, TextResourceContents):
        return resource.text
    data, kind = _bytes(resource.blob), resource.mime_type or "application/octet-stream"
    return Image(data, kind) if kind in IMAGE_TYPES else File(data, kind, _name(resource.uri))


def _joined(parts: Iterable[object]) -> list[object]:
    """Make one text of those that follow each other."""
    joined: list[object] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] = f"{joined[-1]}\n{part}"
        else:
            joined.append(part)
    return joined


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolFailed("the tool returned a picture or file that cannot be decoded") from error


def _name(uri: object) -> str | None:
    return PurePosixPath(urlsplit(str(uri)).path).name or None
