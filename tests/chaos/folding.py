"""What a session's events say, folded by rules written down here a second time: not with the product's code.

Whoever drops the attempts that failed or were abandoned must be left with exactly the messages that were completed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ENDS", "Event", "Folded", "folded"]

Event = dict[str, Any]

ENDS = ("run_completed", "run_failed", "run_cancelled")
PIECES = {"text_delta": "text", "thinking": "text", "tool_input_delta": "json"}

Place = tuple[str, int, int]
"""A run, a step and an attempt."""


@dataclass
class Attempt:
    """One model call: what was said in pieces, by block, and how it came out."""

    pieces: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    outcome: str = "open"


@dataclass
class Folded:
    """What the events come to. `messages` are of completed attempts only."""

    attempts: dict[Place, Attempt] = field(default_factory=dict[Place, Attempt])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    questions: list[Any] = field(default_factory=list[Any])
    calls: dict[str, Event] = field(default_factory=dict[str, Event])
    results: dict[str, Event] = field(default_factory=dict[str, Event])
    finals: list[str] = field(default_factory=list[str])
    ends: dict[str, str] = field(default_factory=dict[str, str])
    owners: int = 0

    def outcomes(self, outcome: str) -> int:
        """Count the attempts that came out so: open, completed, abandoned or failed."""
        return sum(attempt.outcome == outcome for attempt in self.attempts.values())

    def speak(self, event: Event) -> None:
        """Take an event of a model call."""
        place = (event["run_id"], event["step"], event["attempt"])
        if event["type"] == "model_call_started":
            assert place not in self.attempts
            assert self.outcomes("open") == 0, "an attempt began while another was open"
            self.attempts[place] = Attempt()
            return
        attempt = self.attempts[place]
        assert attempt.outcome == "open", f"said after its attempt was over: {event}"
        if event["type"] in PIECES:
            block = (event["type"], event.get("call_id", ""))
            attempt.pieces[block] = attempt.pieces.get(block, "") + event[PIECES[event["type"]]]
            return
        attempt.outcome = event["type"].removeprefix("model_call_")
        if attempt.outcome == "completed":
            self.messages.append(event["message"])
            _is_what_was_said(event["message"], attempt)

    def call(self, event: Event) -> None:
        """Take a call, or its result."""
        if event["type"] == "tool_call":
            assert event["call_id"] not in self.calls, "a call was asked for twice"
            self.calls[event["call_id"]] = event
        else:
            assert event["call_id"] in self.calls
            assert event["call_id"] not in self.results, "a call has two results"
            self.results[event["call_id"]] = event

    def end(self, event: Event) -> None:
        """Take the end of a run."""
        assert event["run_id"] not in self.ends, "a run has two ends"
        assert self.calls.keys() == self.results.keys(), "a call has no result"
        assert self.outcomes("open") == 0, "an attempt is neither completed nor marked"
        self.ends[event["run_id"]] = event["type"]


def folded(events: Sequence[Event]) -> Folded:
    """Fold a session from its first event on. Fails on whatever no session may ever contain."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    state = Folded()
    for event in events:
        match event["type"]:
            case "owner_changed":
                state.owners += 1
                assert event["epoch"] == state.owners
            case "user_message":
                state.questions.append(event["content"])
            case "final_response":
                state.finals.append(event["text"])
            case "tool_call" | "tool_result":
                state.call(event)
            case kind if kind in PIECES or kind.startswith("model_call_"):
                state.speak(event)
            case kind if kind in ENDS:
                state.end(event)
            case _:
                pass
    return state


def _is_what_was_said(message: dict[str, Any], attempt: Attempt) -> None:
    blocks, said = message["content"], attempt.pieces
    for kind, piece in (("text", "text_delta"), ("thinking", "thinking")):
        assert "".join(block["text"] for block in blocks if block["type"] == kind) == said.get((piece, ""), "")
    used = {block["id"]: block["input"] for block in blocks if block["type"] == "tool_use"}
    assert used == {call: json.loads(text) for (piece, call), text in said.items() if piece == "tool_input_delta"}
