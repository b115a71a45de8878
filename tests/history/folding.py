"""What a session's events say, folded by rules written down here a second time: not with the product's code.

Whoever drops the attempts that failed or were abandoned must be left with exactly the messages that were completed.
The rules are O1 to O4, O6, L6 and L9 of the invariants; those of calls are in `calling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.history.calling import Calls
from tests.history.judge import Judge
from tests.history.speaking import Speech

__all__ = ["ENDS", "Event", "Folded", "folded"]

Event = dict[str, Any]

ENDS = ("run_completed", "run_failed", "run_cancelled")
LATE = "tool_result_late"
SPOKEN = ("model_call_started", "model_call_completed", "model_call_failed", "model_call_abandoned")
PIECES = ("text_delta", "thinking", "tool_input_delta")
REPORTS = ("tool_started", "tool_progress", "tool_result_chunk", "tool_retry", "tool_pending", "approval_requested")
OF_CALLS = ("tool_call", "tool_result", LATE, *REPORTS, "question_asked", "question_answered", "approval_given")
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


@dataclass
class Folded:
    """What the events come to."""

    judge: Judge = field(default_factory=Judge)
    questions: list[Any] = field(default_factory=list[Any])
    asked: dict[str, Event] = field(default_factory=dict[str, Event])
    started: list[str] = field(default_factory=list[str])
    waiting: list[str] = field(default_factory=list[str])
    finals: list[str] = field(default_factory=list[str])
    ends: dict[str, str] = field(default_factory=dict[str, str])
    owners: int = 0
    events: int = 0
    going: str | None = None
    last: Event | None = None
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.speech = Speech(self.judge)
        self._calls = Calls(self.judge, self.speech)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of completed attempts, in order."""
        return self.speech.messages

    @property
    def calls(self) -> dict[str, Event]:
        """Each `tool_call`, by its id."""
        return self._calls.calls

    @property
    def results(self) -> dict[str, Event]:
        """Each `tool_result`, by its call."""
        return self._calls.results

    @property
    def told(self) -> Calls:
        """All that is said of calls."""
        return self._calls

    def outcomes(self, outcome: str) -> int:
        """Count the attempts that came out so: open, completed, abandoned or failed."""
        return self.speech.outcomes(outcome)

    def read(self, event: Event) -> None:
        """Take the next event."""
        judge, kind, run = self.judge, event["type"], event.get("run_id")
        self._follow(event)
        match kind:
            case "session_started":
                self.speech.budget = event.get("budget") or {}
            case "owner_changed":
                self.owners += 1
                judge.holds("L6", event["epoch"] == self.owners, f"this owner is of epoch {self.owners}")
            case "session_closed":
                self.is_closed = True
                judge.holds("O4", self.going is None and not self.waiting, "all runs have ended before")
            case "user_message" | "run_started":
                self._ask(event)
            case "final_response":
                self._answer(event)
            case _ if kind in PIECES or kind in SPOKEN:
                judge.holds("O4", run == self.going, f"the run that is going is {self.going}")
                if kind == "model_call_started":
                    judge.holds("O4", not self._calls.open, f"{sorted(self._calls.open)} have results first")
                self.speech.read(event)
            case _ if kind in OF_CALLS:
                self._calls.read(event)
            case _ if kind in ENDS:
                self._end(event)
            case _:
                pass
        self.last = event
        self.events += 1

    def _follow(self, event: Event) -> None:
        judge, kind = self.judge, event["type"]
        judge.event = event
        judge.holds("O4", not self.is_closed, "nothing follows session_closed")
        judge.holds("O4", (self.last is None) == (kind == "session_started"), "session_started is first, and only once")
        is_over = event.get("run_id") in self.ends
        judge.holds("O4", not is_over or kind == LATE or kind in ENDS, "nothing of a run follows its end")

    def _ask(self, event: Event) -> None:
        run, judge = event["run_id"], self.judge
        if event["type"] == "user_message":
            if judge.holds("O2", run not in self.asked, "a message is in the log once"):
                self.asked[run] = event
                self.waiting.append(run)
                self.questions.append(event["content"])
            return
        just_said = self.last is not None and self.last["type"] == "user_message" and self.last["run_id"] == run
        judge.holds("O4", self.going is None, f"{self.going} ends first")
        if judge.holds("O4", run in self.waiting, "its message is said first"):
            # What interrupts is answered at once, before anything that was waiting.
            judge.holds("O4", just_said or self.waiting[0] == run, f"{self.waiting[0]} has waited longer")
            self.waiting.remove(run)
        self.going = run
        self.started.append(run)
        self.speech.begin()
        self._calls.begin()

    def _answer(self, event: Event) -> None:
        self.finals.append(event["text"])
        message = self.speech.last_message
        if message is not None:
            said = "".join(block["text"] for block in message["content"] if block["type"] == "text")
            self.judge.holds("O3", event["text"] == said, "the answer is the text of the last message")

    def _end(self, event: Event) -> None:
        run, judge = event["run_id"], self.judge
        if not judge.holds("O1", run not in self.ends, f"a run ends once; this one {self.ends.get(run)} before"):
            return
        self.ends[run] = event["type"]
        if run in self.waiting:
            self.waiting.remove(run)
            return
        judge.holds("O4", run == self.going, f"the run that is going is {self.going}")
        judge.holds("O4", not self._calls.open, f"{sorted(self._calls.open)} have results before the run ends")
        judge.holds("O3", self.outcomes("open") == 0, "each attempt is completed, failed or abandoned before its end")
        self._calls.hold_whole()
        self.going = None


def folded(events: Sequence[Event], judge: Judge | None = None) -> Folded:
    """Fold a session from its first event on, and object to whatever no session may ever contain.

    Without a `judge`, that is an `AssertionError`. What cannot be read at all is objected to, too.
    """
    judge = judge or Judge()
    state = Folded(judge)
    for place, event in enumerate(events, 1):
        try:
            judge.event = event
            judge.holds("L4", event["seq"] == place, f"this is seq {place}")
            state.read(event)
        except UNREADABLE as error:
            judge.object("H", f"{judge.session} event {place} cannot be read: {type(error).__name__}: {error}")
    return state
