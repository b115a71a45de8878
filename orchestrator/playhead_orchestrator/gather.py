"""From the pieces of a model's message to the whole message. Pure; knows no provider's wire.

Each block has a key of the provider's own (an index, a name). Blocks come out in the order in which they began.
What a provider sends is not believed: a text is a text and a count a count, or `TypeError` says that it is none.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

import orjson

from playhead_orchestrator.model import Block, TextSaid, ThinkingSaid, ToolInputSaid

__all__ = ["Gathering", "count_of", "text_of"]

HOLDERS = 50
"""How many levels what holds a block or a tool's input may add: a message, a request, an event."""

COUNT_MAX = 10**12
"""More tokens than any message has; the sums of many such still fit into an event."""


def text_of(value: object) -> str:
    """Give what must be a text. Raises `TypeError`."""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text should be")
    return value


def count_of(value: object) -> int:
    """Give what must be a number of tokens. Raises `TypeError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= COUNT_MAX:
        raise TypeError("no number of tokens where one should be")
    return int(value)


class _Growing:
    """A block that is not whole: `field` is what the pieces make up; `place` counts tool uses."""

    __slots__ = ("block", "field", "pieces", "place")

    def __init__(self, block: Block, field: str, place: int) -> None:
        self.block = block
        self.field = field
        self.place = place
        self.pieces: list[str] = []


class Gathering:
    """The message so far."""

    def __init__(self) -> None:
        self._blocks: dict[Hashable, _Growing] = {}
        self._uses = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._blocks

    @property
    def uses(self) -> int:
        """How many tool uses have begun."""
        return self._uses

    def begin(self, key: Hashable, block: Block) -> None:
        """Begin a block. A `tool_use` may bring its `input`, which holds if no piece of it comes."""
        kind = block.get("type")
        field = "text" if kind in ("text", "thinking") else "input"
        self._blocks[key] = _Growing(block, field, self._uses)
        if kind == "tool_use":
            self._uses += 1

    def block(self, key: Hashable) -> Block:
        """Give a block to add to. Raises `KeyError` if it has not begun."""
        return self._blocks[key].block

    def text(self, key: Hashable, text: object) -> TextSaid:
        """Add a piece of text. Raises `KeyError` if the block has not begun, `TypeError`."""
        text = text_of(text)
        self._blocks[key].pieces.append(text)
        return TextSaid(text)

    def thinking(self, key: Hashable, text: object) -> ThinkingSaid:
        """Add a piece of reasoning. Raises `KeyError` if the block has not begun, `TypeError`."""
        text = text_of(text)
        self._blocks[key].pieces.append(text)
        return ThinkingSaid(text)

    def input(self, key: Hashable, json: object) -> ToolInputSaid | None:
        """Add a piece of a block's JSON input. `None` for a tool that the provider runs itself.

        Raises `KeyError` if the block has not begun, `TypeError`.
        """
        growing, json = self._blocks[key], text_of(json)
        growing.pieces.append(json)
        return ToolInputSaid(growing.place, json) if growing.block.get("type") == "tool_use" else None

    def content(self) -> tuple[Block, ...]:
        """Give the blocks, whole, without the empty ones. Raises `TypeError` for what is too deep to be kept."""
        blocks = tuple(block for block in map(_whole, self._blocks.values()) if not _is_empty(block))
        # orjson reads deeper than it writes, and this will be written within a message, within a request.
        orjson.dumps(_nested(blocks))
        return blocks


def _whole(growing: _Growing) -> Block:
    block = dict(growing.block)
    joined = "".join(growing.pieces)
    if growing.field == "text":
        block["text"] = joined
    elif joined.strip():
        block |= _parsed(joined)
    elif block.get("type") == "tool_use":
        block |= _object(block.get("input", {}))
    return block


def _parsed(text: str) -> Block:
    """Parse a tool's input; if it is no JSON object, keep the text and say why."""
    try:
        value = cast("object", orjson.loads(text))
    except orjson.JSONDecodeError as error:
        return {"input": text, "invalid": str(error)}
    return _object(value, text)


def _object(value: object, text: str | None = None) -> Block:
    """Give an input; if it is no object, or one that nests too deep, its text and why."""
    try:
        orjson.dumps(_nested(value))
    except orjson.JSONEncodeError:
        return {"input": text or "", "invalid": "it nests too deep"}
    if not isinstance(value, dict):
        text = orjson.dumps(value).decode() if text is None else text
        return {"input": text, "invalid": "a tool's input is a JSON object"}
    return {"input": cast("Block", value)}


def _nested(value: object) -> object:
    for _ in range(HOLDERS):
        value = [value]
    return value


def _is_empty(block: Block) -> bool:
    return block.get("type") in ("text", "thinking") and not block.get("text") and "signature" not in block
