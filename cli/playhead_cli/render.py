"""From a session's events to what a person reads in a terminal. Pure: colours, widths and writing are others' affair.

An attempt's text is shown as it comes. If the attempt is lost, a marked line says that what it said is dropped, and the
next attempt's text starts on a new line: a terminal cannot take back what it has shown, but it can say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

__all__ = ["WORKED", "Event", "Object", "Piece", "Renderer", "Style", "clean", "compact", "text_of"]

Object = Mapping[str, Any]
"""A JSON object."""

Event = Object
"""An event as the gateway tells it: the JSON object of its `data`."""

Style = Literal["user", "text", "thinking", "tool", "mark", "error", "note"]

LINE_CHARACTERS_MAX = 160
"""How much of a tool's input or output one line shows."""

WORKED = frozenset({"ok", "fallback"})
"""The statuses of calls that brought what they were to bring."""

# Other people's text must not move the cursor, ring the bell or retitle the window.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text in one style, to be written as it is; line ends are in the text."""

    style: Style
    text: str


class Renderer:
    """Remembers just enough of a stream to lay out the next event."""

    def __init__(self, *, echo_user: bool = True) -> None:
        self._echo_user = echo_user
        self._line: Style | None = None  # the style of the line that is not ended yet
        self._said = False  # something of the current attempt is on the screen
        self._answered = False  # the run's last message is on the screen
        self._names: dict[str, str] = {}  # of the calls of which something may still come

    def feed(self, event: Event) -> list[Piece]:
        """Lay out one event. Types it does not know give nothing."""
        match event["type"]:
            case "text_delta":
                return self._flow("text", event["text"])
            case "thinking":
                return self._flow("thinking", event["text"])
            case "user_message" if self._echo_user:
                return self._lines(("user", f"› {text_of(event['content'])}"))
            case "model_call_completed":
                return self._completed(event)
            case "model_call_failed" | "model_call_abandoned":
                return self._lost(event)
            case "final_response":
                return self._final(event)
            case str(kind) if kind.startswith("tool_") and "call_id" in event:
                return self._tool(event)
            case _:
                return self._rest(event)

    def close(self) -> list[Piece]:
        """End the line that is open, if one is."""
        style, self._line = self._line, None
        return [] if style is None else [Piece(style, "\n")]

    def _flow(self, style: Style, text: str) -> list[Piece]:
        ended = self.close() if self._line not in {style, None} else []
        self._line, self._said, self._answered = style, True, False
        return [*ended, Piece(style, clean(text))]

    def _lines(self, *lines: tuple[Style, str]) -> list[Piece]:
        return [*self.close(), *(Piece(style, clean(text) + "\n") for style, text in lines)]

    def _completed(self, event: Event) -> list[Piece]:
        pieces = self.close()
        if not self._said:
            text = text_of(event["message"]["content"])
            pieces += self._lines(("text", text)) if text else []
        self._said, self._answered = False, True
        return pieces

    def _final(self, event: Event) -> list[Piece]:
        if self._answered:
            return []
        self._answered = True
        return self._lines(("text", event["text"]))

    def _lost(self, event: Event) -> list[Piece]:
        dropped = "; what it said is dropped" if self._said else ""
        self._said = False
        attempt = event["attempt"]
        if event["type"] == "model_call_abandoned":
            return self._lines(("mark", f"⟲ attempt {attempt} was lost ({event['reason']}){dropped}"))
        again = event.get("retry_in_ms")
        then = "" if again is None else f"; again in {again / 1000:.1f} s"
        return self._lines(("mark", f"⟲ attempt {attempt} failed ({failure_of(event)}){dropped}{then}"))

    def _tool(self, event: Event) -> list[Piece]:
        call: str = event["call_id"]
        name = self._names.get(call, call)
        match event["type"]:
            case "tool_call":
                self._names[call] = event["name"]
                return self._lines(("tool", f"→ {event['name']}({arguments_of(event['input'])})"))
            case "tool_progress":
                return self._lines(("note", f"  {name} {progress_of(event)}"))
            case "tool_result_chunk":
                return self._lines(("note", f"  {name} … {compact(event['output'])}"))
            case "tool_pending":
                within, message = (event["until"] - event["at"]) / 1_000_000, event.get("message")
                said = f": {compact(message)}" if message else ""
                return self._lines(("mark", f"  {name}'s result comes later, within {within:g} s{said}"))
            case "tool_retry" if event.get("delivery"):
                return self._lines(("mark", f"⟲ {name} ({failure_of(event)}); delivery {event['delivery']} follows"))
            case "tool_retry":
                wait = event["delay_ms"] / 1000
                return self._lines(
                    ("mark", f"⟲ {name} try {event['try']} failed ({failure_of(event)}); again in {wait:.1f} s")
                )
            case "tool_result":
                if event["status"] in WORKED:
                    self._names.pop(call, None)  # of the others something may come late
                return self._lines(result_line(name, event))
            case "tool_result_late":
                _, said = result_line(name, event)
                return self._lines(("mark", f"{said} (late: the model was told otherwise)"))
            case _:
                return []

    def _rest(self, event: Event) -> list[Piece]:
        match event["type"]:
            case "approval_requested":
                name = self._names.get(event["call_id"], event["call_id"])
                return self._lines(("mark", f"? {name} waits for approval: {event['reason']}"))
            case "approval_given":
                return self._lines(("note", f"  {event['decision']} by {event['by']}"))
            case "question_asked":
                return self._lines(("mark", f"? {text_of(event['content'])} ({event['question_id']})"))
            case "question_answered":
                said = f"{event['question_id']} answered by {event['by']}: {compact(event['content'])}"
                return self._lines(("note", f"  {said}"))
            case "guardrail_tripped":
                return self._lines(("mark", f"! guardrail {event['guardrail']}: {event['verdict']}"))
            case "run_failed":
                return self._lines(("error", f"✗ the run failed ({failure_of(event)})"))
            case "run_cancelled":
                return self._lines(("mark", f"✗ the run was cancelled ({event['reason']})"))
            case "run_completed":
                return self._lines(("note", f"✓ {usage_of(event['usage'])}"))
            case "session_closed":
                return self._lines(("note", f"the session is closed ({event['reason']})"))
            case _:
                return []


def clean(text: str) -> str:
    """Replace control characters, except line ends and tabs, by a visible sign."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def compact(value: object, limit: int = LINE_CHARACTERS_MAX) -> str:
    """Write a JSON value on one line of at most `limit` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def text_of(content: object) -> str:
    """Give the text in a message's content: a string, or a list of blocks of which some are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return compact(content)
    blocks = [cast("Event", block) for block in cast("Sequence[object]", content) if isinstance(block, Mapping)]
    return "".join(str(block["text"]) for block in blocks if block.get("type") == "text" and "text" in block)


def arguments_of(value: object) -> str:
    """Write a tool's input as a call's arguments."""
    if not isinstance(value, Mapping):
        return compact(value)
    given = cast("Mapping[str, object]", value)
    return compact(", ".join(f"{name}={json.dumps(item, ensure_ascii=False)}" for name, item in given.items()))


def failure_of(event: Event) -> str:
    """Name an event's error."""
    return f"{event['error']['code']}: {compact(event['error']['message'])}"


def progress_of(event: Event) -> str:
    """Write how far a call is, in the tool's own unit."""
    total, message = event.get("total"), event.get("message")
    so_far = f"{event['progress']:g}" if total is None else f"{event['progress']:g}/{total:g}"
    return f"{so_far} {message}" if message else so_far


def result_line(name: str, event: Event) -> tuple[Style, str]:
    """Write how a call ended, and with what."""
    status = event["status"]
    took = "cached" if event.get("cached") else f"{event['elapsed_ms']} ms"
    style: Style = "tool" if status in WORKED else "error"
    said = "" if status == "ok" else f"{status}: "
    return style, f"← {name} ({took}) {said}{compact(event['output'])}"


def usage_of(usage: Event) -> str:
    """Write what a run took."""
    return f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
