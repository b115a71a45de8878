"""What tools really did, as they note it themselves, against what the logs say of their calls (O4, O5, T2 to T6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.history.calling import SUCCEEDED, Calls
from tests.history.folding import Event, Folded
from tests.history.judge import brief
from tests.history.lines import Line
from tests.history.report import Report
from tests.history.told import Told

__all__ = ["STRAY_SECONDS", "hold_tools"]

STRAY_SECONDS = 9.0
"""How long after its run is known to be cancelled a call that was handed out before may still be begun with.

One that was handed out less than 7 s ago is not asked for, and a grant counts for 5 s (docs/decisions/0007).
"""
UNTIMELY = ("stop", "suspend", "pause", "freeze", "clock_jump")
"""Whoever is suspended between its last look at a clock and the tool's first instruction begins at any later time.

How long ago a call was handed out is told by two clocks: if they differ by more, it may be asked for by so much less.
"""


@dataclass
class Noted:
    """What was noted of one call: each start, and each time that it was done."""

    begun: list[Line] = field(default_factory=list[Line])
    done: list[Line] = field(default_factory=list[Line])


def hold_tools(told: Told, found: Mapping[str, Folded], report: Report) -> None:
    """Hold what tools noted against the final logs, folded by session."""
    if not told.tools:
        return
    noted: defaultdict[str, Noted] = defaultdict(Noted)
    for line in told.tools:
        (noted[line["call"]].done if line["what"] == "done" else noted[line["call"]].begun).append(line)
    calls = {name: call for folded in found.values() for name, call in folded.calls.items()}
    if found and all(asked.sessions[0] in found for asked in told.of("message") if asked.sessions):
        for name in noted:
            report.hold(
                "O4", name in calls, f"{name} is in a log before anybody runs it; found {brief(noted[name].begun[:1])}"
            )
    # Tools that note nothing cannot be held to anything: what one call of a tool noted, all of its calls do.
    beginning = {calls[name]["name"] for name, one in noted.items() if name in calls and one.begun}
    finishing = {calls[name]["name"] for name, one in noted.items() if name in calls and one.done}
    _hold_keys(noted, report)
    cancelled = {} if told.has_fault(*UNTIMELY) else _cancelled_at(told)
    for session, folded in found.items():
        for name, call in folded.calls.items():
            with report.reading(f"{session}: call {name}"):
                one = _Call(report, session, call, folded.told, noted.get(name, Noted()))
                one.hold(call["name"] in beginning, call["name"] in finishing)
                one.hold_after(cancelled.get(call["run_id"]))


def _hold_keys(noted: Mapping[str, Noted], report: Report) -> None:
    calls: dict[str, str] = {}
    for name, one in noted.items():
        for line in one.begun:
            other = calls.setdefault(line["key"], name)
            report.hold("T2", other == name, f"{name} and {other} have a key each; found {line['key']!r} with both")


def _cancelled_at(told: Told) -> dict[str, float]:
    """Give when anybody first saw that a run was cancelled."""
    seen: dict[str, float] = {}
    for lines in told.viewers.values():
        for line in lines:
            if line["op"] == "seen" and line["event"].get("type") == "run_cancelled":
                run = line["event"]["run_id"]
                seen[run] = min(line["at"], seen.get(run, line["at"]))
    return seen


@dataclass
class _Call:
    """One call of a log, and what was noted of it."""

    report: Report
    session: str
    call: Event
    said: Calls
    noted: Noted

    @property
    def name(self) -> str:
        return self.call["call_id"]

    @property
    def result(self) -> Event:
        return self.said.results.get(self.name, {})

    def hold(self, notes_begun: bool, notes_done: bool) -> None:
        """Hold what was noted against the call. Without a result, what it would come to cannot be said."""
        begun = self.noted.begun
        if begun:
            keys = {line["key"] for line in begun}
            self._holds("T2", len(keys) == 1, f"one key, however often; found {sorted(keys)}")
        for line in begun:
            given = line["given"] == self.call["input"]
            self._holds(
                "T5", given, f"it is given what is logged, {brief(self.call['input'])}; found {brief(line['given'])}"
            )
        self._hold_tries(begun)
        self._hold_leave(begun)
        if self.call["effect"] == "once":
            self._hold_once(notes_begun, notes_done)
        elif self.result.get("status") == "ok" and not self.result.get("cached"):
            self._hold_worked("T2", notes_begun, notes_done)

    def hold_after(self, cancelled_at: float | None) -> None:
        """Hold that it was not begun with for the first time long after its run was known to be cancelled."""
        if cancelled_at is not None:
            begun_at = min((line["at"] for line in self.noted.begun), default=cancelled_at)
            late = begun_at - cancelled_at
            text = f"nothing begins more than {STRAY_SECONDS} s after the run was cancelled; found {late:.1f} s"
            self._holds("O5", late <= STRAY_SECONDS, text)

    def _hold_once(self, notes_begun: bool, notes_done: bool) -> None:
        begun = self.noted.begun
        starts = 1 + self.said.asked[self.name]
        self._holds("T3", len(begun) <= starts, f"a once call starts {starts} time at most; found {brief(begun)}")
        if begun:
            self._holds("T3", self.said.begun[self.name] > 0, "the log says that it starts before it does")
        # One that was begun and lost is unknown, unless somebody found out what became of it: ok takes an end.
        if self.result.get("status") in SUCCEEDED[:1] and not self.call.get("reconciles"):
            self._hold_worked("T3", notes_begun, notes_done)

    def _hold_worked(self, invariant: str, notes_begun: bool, notes_done: bool) -> None:
        if notes_begun:
            self._holds(invariant, bool(self.noted.begun), "a call that is ok was run; found no start")
        if notes_done and self.name not in self.said.deferred:
            self._holds(invariant, bool(self.noted.done), "a call that is ok was done; found no end of it")

    def _hold_leave(self, begun: Sequence[Line]) -> None:
        refused = self.result.get("status") == "denied"
        asked = self.name in self.said.approvals_asked and self.name not in self.said.approved
        if refused or asked:
            self._holds("T4", not begun, f"a call without its approval never begins; found {brief(begun)}")

    def _hold_tries(self, begun: Sequence[Line]) -> None:
        """Hold that each delivery to a process begins with try 1 and counts on."""
        before: dict[str, int] = {}
        for line in begun:
            now, process = line["try"], str(line["process"])
            last = before.get(process, 0)
            is_next = now in (1, last + 1) and (self.call["effect"] != "once" or now == 1)
            self._holds("T6", is_next, f"try {last + 1} comes next in {process}; found {now}")
            before[process] = now

    def _holds(self, invariant: str, holds: bool, expected: str) -> None:
        self.report.checked[invariant] += 1
        if not holds:
            where = f"{self.session} seq {self.call['seq']}: {self.call['name']} ({self.call['effect']}) {self.name}"
            self.report.object(invariant, f"{where}, {self.result.get('status')}: {expected}")
