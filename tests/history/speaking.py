"""What a model says, by attempts: only one of a step counts, and it comes to what was said in pieces (O3, O6)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.history.judge import Judge

__all__ = ["Attempt", "Place", "Speech", "place_of"]

Event = dict[str, Any]
Place = tuple[str, int, int]
"""A run, a step and an attempt."""

PIECES = {"text_delta": "text", "thinking": "text", "tool_input_delta": "json"}
STOPPED = ("interrupted", "cancelled")
"""Where an attempt was stopped and its text was kept: what else it had begun to say is not."""


def place_of(event: Event) -> Place:
    return (event["run_id"], event["step"], event["attempt"])


@dataclass
class Attempt:
    """One model call: what was said in pieces, by block, and how it came out."""

    pieces: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    outcome: str = "open"


@dataclass
class Speech:
    """All attempts of a session. `messages` are of completed ones only; `budget` is the session's."""

    judge: Judge
    attempts: dict[Place, Attempt] = field(default_factory=dict[Place, Attempt])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    uses: dict[Place, list[str]] = field(default_factory=dict[Place, list[str]])
    budget: dict[str, int] = field(default_factory=dict[str, int])
    usage: dict[str, int] = field(default_factory=dict[str, int])
    tokens: int = 0
    last: Place | None = None
    last_message: dict[str, Any] | None = None

    def outcomes(self, outcome: str) -> int:
        """Count the attempts that came out so."""
        return sum(attempt.outcome == outcome for attempt in self.attempts.values())

    def begin(self) -> None:
        """Begin a run: its steps and tokens are counted anew."""
        self.last, self.last_message, self.tokens = None, None, 0

    def read(self, event: Event) -> None:
        """Take an event of a model call."""
        place, judge = place_of(event), self.judge
        if event["type"] == "model_call_started":
            self._start(place)
            return
        attempt = self.attempts.get(place)
        if not judge.holds("O3", attempt is not None and attempt.outcome == "open", f"attempt {place[1:]} is open"):
            return
        assert attempt is not None
        if event["type"] in PIECES:
            block = (event["type"], event.get("call_id", ""))
            attempt.pieces[block] = attempt.pieces.get(block, "") + event[PIECES[event["type"]]]
            return
        attempt.outcome = event["type"].removeprefix("model_call_")
        if attempt.outcome == "completed":
            self._complete(event, place, attempt)

    def _start(self, place: Place) -> None:
        judge, before = self.judge, self.last
        is_over = before is None or self.attempts[before].outcome != "open"
        judge.holds("O3", is_over, "the attempt before is over first")
        if before is None:
            next_one = (1, 1)
        elif self.attempts[before].outcome == "completed":
            next_one = (before[1] + 1, 1)
        else:
            next_one = (before[1], before[2] + 1)
        judge.holds("O3", place[1:] == next_one, f"step and attempt are {next_one}")
        steps, tokens = self.budget.get("steps"), self.budget.get("tokens")
        if steps is not None:
            judge.holds("O6", place[1] <= steps, f"a run has at most {steps} steps")
        if tokens is not None and place[2] == 1:
            judge.holds("O6", self.tokens < tokens, f"a run that has used {self.tokens} of {tokens} tokens is over")
        self.attempts[place] = Attempt()
        self.last = place

    def _complete(self, event: Event, place: Place, attempt: Attempt) -> None:
        message = event["message"]
        self.messages.append(message)
        self.last_message = message
        for name, count in event["usage"].items():
            self.usage[name] = self.usage.get(name, 0) + count
            self.tokens += count
        blocks, said = message["content"], attempt.pieces
        self.uses[place] = [block["id"] for block in blocks if block["type"] == "tool_use"]
        kinds = (("text", "text_delta"), ("thinking", "thinking"))
        for kind, piece in kinds[:1] if event["stop_reason"] in STOPPED else kinds:
            whole = "".join(block["text"] for block in blocks if block["type"] == kind)
            self.judge.holds("O3", whole == said.get((piece, ""), ""), f"the {kind} is what was said in pieces")
        for block in blocks:
            # An input that was not said in pieces at all came whole: not every provider streams them.
            pieces = said.get(("tool_input_delta", block.get("id", "")))
            if block["type"] == "tool_use" and pieces is not None:
                is_same = block["input"] == _input_of(pieces)
                self.judge.holds("O3", is_same, f"the input of {block['id']} is what was said in pieces")


def _input_of(pieces: str) -> object:
    try:
        return json.loads(pieces)
    except ValueError:
        return {"invalid": pieces}  # what is no JSON is kept as the text that it is
