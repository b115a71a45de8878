"""From what a tool returned to the output of its result: JSON, or content blocks where it holds pictures and files.

What is too large for an event goes to the archive, and the output refers to it. Secrets are cut out before that: what
is in an archive is as public as what is in the log.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from playhead.archive import Archive
from playhead.content import File, Image
from playhead.errors import PlayheadError
from playhead.events import Json
from playhead.ids import SessionId

from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Returned, Try, readable, returned

__all__ = ["Output"]

PREVIEW_CHARS_MAX = 2_000
"""How much of an archived output its reference shows."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where outputs of one session go. Without an `archive` there is nowhere for large ones."""

    session: SessionId
    archive: Archive | None
    redact: Callable[[str], str]
    limits: WorkerLimits

    async def keep(self, value: object) -> Try:
        """Turn what a tool returned into its output."""
        try:
            plain = await self._with_blocks(value)
        except PlayheadError as error:
            return _unkept(str(error))
        if isinstance(plain, Failed):
            return plain
        bytes_max = self.limits.result_bytes_max
        came = returned(plain, bytes_max if self.archive is None else self.limits.archived_bytes_max)
        if isinstance(came, Failed) or self.archive is None or len(came.output.encode()) <= bytes_max:
            return came
        content = self.redact(came.output).encode()
        try:
            name = await _put(self.archive, self.session, content)
        except PlayheadError as error:
            return _unkept(str(error))
        preview = content[: 4 * PREVIEW_CHARS_MAX].decode("utf-8", "ignore")[:PREVIEW_CHARS_MAX]
        reference = {"type": "reference", "name": name, "bytes": len(content), "media_type": "application/json"}
        return Returned(Json(json.dumps({**reference, "preview": preview}, ensure_ascii=False)))

    async def _with_blocks(self, value: object) -> object:
        """Give a value whose pictures and files are content blocks; a value without any as it is."""
        if isinstance(value, Image | File):
            value = [value]
        if not isinstance(value, list | tuple):
            return value
        items = cast("list[object]", value)
        if not any(isinstance(item, Image | File) for item in items):
            return items
        blocks: list[dict[str, Any]] = []
        inline = 0
        for item in items:
            if isinstance(item, Image | File) and len(item.data) > self.limits.archived_bytes_max:
                return _too_large(item, self.limits.archived_bytes_max)
            # Half of an event is left for the texts: a reference in place of the whole would show no picture.
            room = min(self.limits.block_bytes_max, (self.limits.result_bytes_max // 2 - inline) * 3 // 4)
            block = await self._block(item, room)
            if isinstance(block, Failed):
                return block
            inline += len(block["source"].get("data", "")) if "source" in block else 0
            blocks.append(block)
        return blocks

    async def _block(self, item: object, room: int) -> dict[str, Any] | Failed:
        match item:
            case Image(data, media_type):
                return {"type": "image", "source": await self._source(data, media_type, room)}
            case File(data, media_type, name):
                title = {} if name is None else {"title": name}
                return {"type": "document", "source": await self._source(data, media_type, room), **title}
            case str():
                return {"type": "text", "text": item}
            case _:
                came = returned(item, self.limits.result_bytes_max)
                return came if isinstance(came, Failed) else {"type": "text", "text": came.output}

    async def _source(self, data: bytes, media_type: str, room: int) -> dict[str, Any]:
        if self.archive is None or len(data) <= room:
            return {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
        name = await _put(self.archive, self.session, data)
        return {"type": "archive", "media_type": media_type, "name": name, "bytes": len(data)}


async def _put(archive: Archive, session: SessionId, data: bytes) -> str:
    name = sha256(data).hexdigest()
    await archive.put(session, name, data)
    return name


def _too_large(item: Image | File, bytes_max: int) -> Failed:
    what = type(item).__name__.lower()
    why = f"the tool returned a {what} of {len(item.data)} bytes, and one has at most {bytes_max}"
    return Failed("error", "ResultTooLarge", f"{why}; ask for less")


def _unkept(why: str) -> Failed:
    told = f"the tool did return, but its output is too large for an event, and {why}"
    return Failed("error", "OutputNotKept", readable(told), retryable=True)
