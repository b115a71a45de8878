"""What a session's log says of its calls: asked for once, by a message, with one result (O4, O6, T1, T3, T6, L9)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.history.judge import Judge
from tests.history.speaking import Place, Speech, place_of

__all__ = ["SUCCEEDED", "Calls"]

Event = dict[str, Any]

SUCCEEDED = ("ok", "fallback")
DELIVERIES_MAX = 6
"""How often a call is handed out (docs/decisions/0007)."""
BY_HAND = 0
"""The step of a call that no model asked for."""


@dataclass
class Calls:
    """All calls of a session. `open` are those without a result; `begun` counts what the log says of starts."""

    judge: Judge
    speech: Speech
    calls: dict[str, Event] = field(default_factory=dict[str, Event])
    results: dict[str, Event] = field(default_factory=dict[str, Event])
    lates: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict[str, list[Event]](list))
    of: defaultdict[Place, list[str]] = field(default_factory=lambda: defaultdict[Place, list[str]](list))
    open: set[str] = field(default_factory=set[str])
    begun: Counter[str] = field(default_factory=Counter[str])
    deferred: set[str] = field(default_factory=set[str])
    asked: Counter[str] = field(default_factory=Counter[str])
    questions: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    answers: dict[str, Event] = field(default_factory=dict[str, Event])
    approvals_asked: set[str] = field(default_factory=set[str])
    approved: set[str] = field(default_factory=set[str])
    counted: int = 0

    def begin(self) -> None:
        """Begin a run: its calls are counted anew."""
        self.counted = 0

    def read(self, event: Event) -> None:
        """Take an event of a call."""
        match event["type"]:
            case "tool_call":
                self._called(event)
            case "tool_result":
                self._ended(event)
            case "tool_result_late":
                self._came_late(event)
            case "question_asked":
                self._asked(event)
            case "question_answered":
                question = event["question_id"]
                is_asked = question in self.questions and question not in self.answers
                self.judge.holds("O4", is_asked, "a question is asked first, and answered once")
                self.answers[question] = event
            case "approval_given":
                if event["decision"] == "approve":
                    self.approved.add(event["call_id"])
            case _:
                self._reported(event)

    def hold_whole(self) -> None:
        """Hold, at the end of a run, that the calls of each message are all there, or none is."""
        for place, uses in self.speech.uses.items():
            if uses and place[0] == self.judge.event["run_id"]:
                self.judge.holds("L9", self.of[place] == uses, f"the message of {place[1:]} asked for {uses}")

    def _called(self, event: Event) -> None:
        call, place, judge = event["call_id"], place_of(event), self.judge
        if not judge.holds("O4", call not in self.calls, "a call is asked for once"):
            return
        if event["step"] != BY_HAND:
            judge.holds("O4", call in self.speech.uses.get(place, ()), "a completed message asked for the call before")
            self.counted += 1
        self.calls[call] = event
        self.of[place].append(call)
        self.open.add(call)

    def _ended(self, event: Event) -> None:
        call, judge = event["call_id"], self.judge
        if not judge.holds("T1", call not in self.results, "a call has one result"):
            return
        self.results[call] = event
        if not judge.holds("O4", call in self.calls, "a result follows its call"):
            return
        self.open.discard(call)
        self.counted -= event["status"] == "denied" and event["step"] != BY_HAND
        allowed = self.speech.budget.get("calls")
        if allowed is not None and not self.open:
            judge.holds("O6", self.counted <= allowed, f"a run has at most {allowed} calls")

    def _came_late(self, event: Event) -> None:
        call = event["call_id"]
        worked = [one["status"] in SUCCEEDED for one in self.lates[call]]
        ended = self.results.get(call, {}).get("status", "ok")
        can_be_late = ended not in SUCCEEDED and not any(worked)
        self.judge.holds("T1", can_be_late, "only what ended without having worked comes late")
        self.lates[call].append(event)

    def _asked(self, event: Event) -> None:
        call = event.get("call_id")
        self.questions[event["question_id"]] = call
        if call is not None:
            self.judge.holds("O4", call in self.open, "a call that asks has no result yet")
            self.asked[call] += 1

    def _reported(self, event: Event) -> None:
        call, judge = event["call_id"], self.judge
        if not judge.holds("O4", call in self.open, "what is said of a call comes before its result"):
            return
        is_once = self.calls[call]["effect"] == "once"
        match event["type"]:
            case "tool_started":
                self.begun[call] += 1
                if is_once:
                    # A question is an orderly end of a start: with the answer the call is begun once more.
                    judge.holds("T3", self.begun[call] <= 1 + self.asked[call], "a once call starts once")
            case "tool_retry":
                delivery = event.get("delivery")
                if delivery is None:
                    judge.holds("T6", not is_once, "a once call is never tried again")
                else:
                    judge.holds(
                        "T6", delivery <= DELIVERIES_MAX, f"a call is handed out {DELIVERIES_MAX} times at most"
                    )
            case "tool_pending":
                self.deferred.add(call)
            case "approval_requested":
                self.approvals_asked.add(call)
            case _:
                pass
