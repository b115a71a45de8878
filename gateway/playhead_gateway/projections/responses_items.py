"""The output items of one response of the OpenAI Responses API, and the stream events that tell of them. Pure.

An item is *done* when the log has accepted it. What a model says therefore stays open until its call has completed,
also while an answer follows a reasoning, and no `done` ever carries text that is taken back. An attempt that is lost
has its items closed at once: emptied, `incomplete`. They keep their places, since an `output_index` is a place in
`output`; the next attempt has items of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import orjson

from playhead_gateway.projections.response_name import ToolItems

__all__ = ["FINE", "Items", "Said"]

Said = dict[str, Any]
"""A JSON object: a native event, or one of the Responses API."""

Told = Literal["completed", "incomplete"]

FINE = ("ok", "fallback")
NO_POOL = "playhead"


class Say(Protocol):
    """Says a stream event of a type, with its members."""

    def __call__(self, kind: str, **members: Any) -> None:
        """Say it."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of text is told: an item with one part, which grows. `also` goes with its deltas."""

    prefix: str
    item: Mapping[str, Any]
    parts: str
    part: Mapping[str, Any]
    part_event: str
    text_event: str
    place: Mapping[str, int]
    also: Mapping[str, Any]


MESSAGE = Kind(
    "msg",
    {"type": "message", "role": "assistant"},
    "content",
    {"type": "output_text", "annotations": [], "logprobs": []},
    "response.content_part",
    "response.output_text",
    {"content_index": 0},
    {"logprobs": []},
)
REASONING = Kind(
    "rs",
    {"type": "reasoning"},
    "summary",
    {"type": "summary_text"},
    "response.reasoning_summary_part",
    "response.reasoning_summary_text",
    {"summary_index": 0},
    {},
)
BLOCKS = {"text": MESSAGE, "thinking": REASONING}


@dataclass(slots=True)
class Growing:
    """An item of the attempt that is going. `first` and `last` are the seqs of what it is made of."""

    kind: Kind
    index: int
    item: Said
    first: int
    last: int
    pieces: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """What it says so far."""
        return "".join(self.pieces)


class Items:
    """The items of one response. `name` makes their ids its own."""

    def __init__(self, name: str, tool_items: ToolItems, say: Say) -> None:
        self._name = name
        self._as_functions = tool_items == "function"
        self._say = say
        self._items: list[Said] = []
        self._attempt: list[Growing] = []
        self._settled: list[Growing] = []
        self._calls: dict[str, int] = {}

    def view(self) -> list[Said]:
        """Give the items as they stand, for `output`."""
        for growing in self._attempt:
            growing.item[growing.kind.parts] = [{**growing.kind.part, "text": growing.text}]
        return list(self._items)

    # --- what the model says ---------------------------------------------------------------------------------------

    def grow(self, block: str, text: str, seq: int) -> None:
        """Add a piece of a `text` or of a `thinking`."""
        kind = BLOCKS[block]
        growing = self._attempt[-1] if self._attempt else None
        if growing is None or growing.kind is not kind:
            growing = self._begin(kind, seq)
        growing.pieces.append(text)
        growing.last = seq
        self._say(f"{kind.text_event}.delta", **self._place(growing), delta=text, **kind.also)

    def settle(self, message: object, seq: int, told: Told) -> None:
        """Close what was said: the attempt's message is accepted. What was said otherwise is taken back."""
        blocks = _blocks(message)
        if not self._attempt:
            for block, text in blocks:
                self.grow(block, text, seq)
        final = "".join(text for block, text in blocks if block == "text")
        if not final.startswith(self._said):
            self._take_back(lambda growing: growing.kind is MESSAGE)
        if final != self._said:
            self.grow("text", final[len(self._said) :], seq)
        for growing in self._attempt:
            self._end(growing, growing.text, told)
        self._settled += self._attempt
        self._attempt.clear()

    def take_back(self) -> None:
        """Close what was said, emptied: its attempt is lost."""
        self._take_back(lambda _: True)

    def withdraw(self, first: int, last: int) -> None:
        """Show no more what was said from one seq to another."""
        self._take_back(lambda growing: growing.first <= last and growing.last >= first)
        for growing in self._settled:
            if growing.first <= last and growing.last >= first:
                emptied = {growing.kind.parts: [{**growing.kind.part, "text": ""}], "status": "incomplete"}
                self._items[growing.index] = growing.item | emptied

    @property
    def _said(self) -> str:
        return "".join(growing.text for growing in self._attempt if growing.kind is MESSAGE)

    def _take_back(self, is_lost: Callable[[Growing], bool]) -> None:
        for growing in self._attempt:
            if is_lost(growing):
                self._end(growing, "", "incomplete")
        self._attempt = [growing for growing in self._attempt if not is_lost(growing)]

    def _begin(self, kind: Kind, seq: int) -> Growing:
        index = len(self._items)
        item: Said = {**kind.item, "id": f"{kind.prefix}_{self._name}_{index}", "status": "in_progress", kind.parts: []}
        self._add(item)
        growing = Growing(kind, index, item, seq, seq)
        self._attempt.append(growing)
        self._say(f"{kind.part_event}.added", **self._place(growing), part={**kind.part, "text": ""})
        return growing

    def _end(self, growing: Growing, text: str, told: Told) -> None:
        kind, part = growing.kind, {**growing.kind.part, "text": text}
        growing.item |= {kind.parts: [part], "status": told}
        self._say(f"{kind.text_event}.done", **self._place(growing), text=text, **kind.also)
        self._say(f"{kind.part_event}.done", **self._place(growing), part=part)
        self._done(growing.index)

    def _place(self, growing: Growing) -> Said:
        return {"item_id": growing.item["id"], "output_index": growing.index, **growing.kind.place}

    # --- calls -----------------------------------------------------------------------------------------------------

    def call(self, event: Said) -> None:
        """Tell of a call that is made. Its arguments come whole: their pieces come before the name of the tool does."""
        call, arguments = event["call_id"], orjson.dumps(event["input"]).decode()
        item: Said = {"id": f"mcp_{call}", "type": "mcp_call", "server_label": event.get("pool") or NO_POOL}
        item |= {"name": event["name"], "arguments": "", "status": "in_progress", "output": None, "error": None}
        if self._as_functions:
            item = {"id": f"fc_{call}", "type": "function_call", "call_id": call, "name": event["name"]}
            item |= {"arguments": "", "status": "in_progress"}
        index = self._add(item)
        place = {"item_id": item["id"], "output_index": index}
        if not self._as_functions:
            self._say("response.mcp_call.in_progress", **place)
        event_name = f"response.{item['type']}_arguments"
        self._say(f"{event_name}.delta", **place, delta=arguments)
        item["arguments"] = arguments
        self._say(f"{event_name}.done", **place, arguments=arguments)
        if self._as_functions:
            item["status"] = "completed"
            self._done(index)
        else:
            self._calls[call] = index

    def result(self, event: Said) -> None:
        """Tell what came of a call."""
        call, output = event["call_id"], _text(event["output"])
        if self._as_functions:
            item: Said = {"id": f"fco_{call}", "type": "function_call_output", "call_id": call}
            self._done(self._add(item | {"output": output, "status": "completed"}))
            return
        index = self._calls.pop(call, None)
        if index is None:
            return
        item = self._items[index]
        if event["status"] in FINE:
            item |= {"status": "completed", "output": output}
        else:
            told = output if event["status"] == "error" else f"{event['status']}: {output}"
            error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": told}]}
            item |= {"status": "failed", "error": error}
        self._say(f"response.mcp_call.{item['status']}", item_id=item["id"], output_index=index)
        self._done(index)

    # --- both ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all that is open: nothing more comes in this response."""
        self.take_back()
        for index in self._calls.values():
            self._items[index]["status"] = "incomplete"
            self._done(index)
        self._calls.clear()

    def _add(self, item: Said) -> int:
        index = len(self._items)
        self._items.append(item)
        self._say("response.output_item.added", output_index=index, item=dict(item))
        return index

    def _done(self, index: int) -> None:
        self._say("response.output_item.done", output_index=index, item=dict(self._items[index]))


def _blocks(message: object) -> list[tuple[str, str]]:
    """Give the texts and thoughts of a message as the log has it, in order. One of no shape of ours says nothing."""
    content = cast("Said", message).get("content") if isinstance(message, dict) else None
    found: list[tuple[str, str]] = []
    for block in cast("list[object]", content) if isinstance(content, list) else ():
        match block:
            case {"type": "text", "text": str(text)} if text:
                found.append(("text", text))
            case {"type": "thinking", "text": str(text)} if text:
                found.append(("thinking", text))
            case _:
                pass  # its calls are events of their own
    return found


def _text(output: object) -> str:
    """Give what a tool returned as the string that the API has it be."""
    return output if isinstance(output, str) else orjson.dumps(output).decode()
