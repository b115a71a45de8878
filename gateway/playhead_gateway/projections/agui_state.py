"""What a client of AG-UI has of a session: its messages, and the run that is going. Pure data and its arithmetic.

`agui_thread` decides what is said; here is what it remembers of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import orjson

__all__ = [
    "KINDS",
    "Call",
    "Growing",
    "Messages",
    "Run",
    "Said",
    "approval_of",
    "end_of",
    "patch",
    "question_of",
    "texts",
]

Said = dict[str, Any]
"""A JSON object: a native event, or one of AG-UI without the members that all of them have."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a message that the model is saying begins, grows and ends."""

    role: str
    starts: tuple[str, ...]
    grows: str
    ends: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "text": Kind("assistant", ("TEXT_MESSAGE_START",), "TEXT_MESSAGE_CONTENT", ("TEXT_MESSAGE_END",)),
    "thinking": Kind(
        "reasoning",
        ("REASONING_START", "REASONING_MESSAGE_START"),
        "REASONING_MESSAGE_CONTENT",
        ("REASONING_MESSAGE_END", "REASONING_END"),
    ),
}
"""By the type of a content block."""


@dataclass(slots=True)
class Growing:
    """A message that an attempt is saying: its answer, or its reasoning."""

    message: Said
    pieces: list[str] = field(default_factory=list[str])
    is_open: bool = False

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "".join(self.pieces)


@dataclass(slots=True)
class Call:
    """A call without a result, or a question that no call asks. `asks`: the interrupt by which it waits."""

    waits_for: frozenset[str] = frozenset()
    is_pending: bool = False
    asks: Said | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing here is at work on it."""
        return self.is_pending or self.asks is not None


@dataclass(slots=True)
class Run:
    """The run that is going. `part` counts what AG-UI has for runs; between them it is not open.

    `tokens` are those of this part, by provider and model: of the input, the output, read from and written to a cache.
    """

    run_id: str
    part: int = 0
    is_open: bool = False
    attempt: tuple[int, int] = (0, 0)
    model: tuple[str, str] = ("", "")
    said: dict[str, Growing] = field(default_factory=dict[str, Growing])
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    tokens: dict[tuple[str, str], list[int]] = field(default_factory=dict[tuple[str, str], list[int]])

    @property
    def answer_id(self) -> str:
        """The id of the message that the attempt's answer is."""
        step, attempt = self.attempt
        return f"msg-{self.run_id}-{step}-{attempt}"

    def count(self, usage: Said) -> None:
        """Count tokens as AG-UI does: what was read from a cache, or written to one, is part of the input."""
        read, written = usage["cache_read_tokens"], usage["cache_write_tokens"]
        counts = (usage["input_tokens"] + read + written, usage["output_tokens"], read, written)
        before = self.tokens.get(self.model, [0, 0, 0, 0])
        self.tokens[self.model] = [one + more for one, more in zip(before, counts, strict=True)]

    @property
    def usage(self) -> Said:
        """The member `usage`, if a model was called."""
        entries = [
            {
                "provider": provider,
                "model": model,
                "inputTokens": given,
                "outputTokens": made,
                "totalTokens": given + made,
                "cachedInputTokens": read,
                "cacheWriteInputTokens": written,
            }
            for (provider, model), (given, made, read, written) in self.tokens.items()
        ]
        return {"usage": entries} if entries else {}

    @property
    def interrupts(self) -> list[Said]:
        """All that the user is asked, once no call can go on without him; nothing before."""
        going = [call for call in self.calls.values() if not call.waits and not call.waits_for & self.calls.keys()]
        return [] if going else [call.asks for call in self.calls.values() if call.asks is not None]


class Messages:
    """The messages of a conversation, in the order in which the stock client has them."""

    def __init__(self) -> None:
        self._all: list[Said] = []
        self._by_id: dict[str, Said] = {}

    def get(self, identity: str) -> Said | None:
        """Give the message of an id."""
        return self._by_id.get(identity)

    def add(self, message: Said) -> Said:
        """Add a message at the end."""
        return self._insert(len(self._all), message)

    def add_result(self, call: str, message: Said) -> None:
        """Add the result of a call: behind the results that follow the message by which the call was made."""
        place = len(self._all)
        while place and all(made["id"] != call for made in self._all[place - 1].get("toolCalls", ())):
            place -= 1
        if not place:
            place = len(self._all)
        while place < len(self._all) and self._all[place]["role"] == "tool":
            place += 1
        self._insert(place, message)

    def remove(self, message: Said) -> None:
        """Take a message away."""
        del self._by_id[message["id"]]
        self._all = [one for one in self._all if one is not message]

    def written(self) -> orjson.Fragment:
        """Give all as JSON, as they are now."""
        return orjson.Fragment(orjson.dumps(self._all))

    def _insert(self, place: int, message: Said) -> Said:
        self._all.insert(place, message)
        self._by_id[message["id"]] = message
        return message


def texts(message: object) -> dict[str, str]:
    """Give the texts of a whole message by kind, the kind that comes first first."""
    whole: dict[str, str] = {}
    blocks = cast("Said", message).get("content") if isinstance(message, dict) else None
    for block in cast("list[object]", blocks) if isinstance(blocks, list) else ():
        match block:
            case {"type": "text", "text": str(text)} if text:
                whole["text"] = whole.get("text", "") + text
            case {"type": "thinking", "text": str(text)} if text:
                whole["thinking"] = whole.get("thinking", "") + text
            case _:
                pass
    return whole


def patch(before: Said, after: Said) -> list[Said]:
    """Give the JSON Patch (RFC 6902) between two flat objects. `add` also replaces a member."""
    gone = [{"op": "remove", "path": f"/{name}"} for name in before if name not in after]
    new = [(name, value) for name, value in after.items() if before.get(name) != value]
    return gone + [{"op": "add", "path": f"/{name}", "value": value} for name, value in new]


def end_of(event: Said) -> Said:
    """Give the event that ends an AG-UI run for the one that ended ours."""
    match event["type"]:
        case "run_failed":
            return {"type": "RUN_ERROR", "message": event["error"]["message"], "code": event["error"]["code"]}
        case "run_completed":
            return {"type": "RUN_FINISHED", "outcome": {"type": "success"}}
        case _:
            return {"type": "RUN_FINISHED", "outcome": {"type": "cancelled"}}


def question_of(event: Said) -> Said:
    """Give the interrupt that a question is."""
    content, schema = event["content"], event.get("schema")
    message = content if isinstance(content, str) else orjson.dumps(content).decode()
    about = {"toolCallId": event["call_id"]} if "call_id" in event else {}
    shape: Said = {"responseSchema": schema} if isinstance(schema, dict) else {}
    return {"id": event["question_id"], "reason": "question", "message": message, **about, **shape}


def approval_of(event: Said) -> Said:
    """Give the interrupt that a call's wait for somebody's yes is."""
    call, until = event["call_id"], event.get("expires_at")
    asks = {"id": call, "reason": "tool_approval", "message": event["reason"], "toolCallId": call}
    if until is not None:
        asks["expiresAt"] = datetime.fromtimestamp(until / 1_000_000, UTC).isoformat()
    return asks
