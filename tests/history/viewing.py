"""What viewers saw: each the whole log, in order, across all its connections, and all of them the same.

Covers L1 (what was seen is in the log), L3, L4 (the ids), L10, V1, V3, V5 and V8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.history.judge import brief
from tests.history.lines import Line
from tests.history.report import Report
from tests.history.told import Log, Told

__all__ = ["TRUNCATE", "hold_viewers", "seq_of"]

TRUNCATE = "truncate"
"""The kind of fault that takes away what was acknowledged: only after one may a resume be refused."""
GONE = 410

Truth = dict[int, tuple[str, Any]]
"""What each seq of a session is: its id and its event, as the first who said it has it."""


def seq_of(cursor: str) -> int:
    """Give the seq of an id; 0 before the first event."""
    return int(cursor.partition("-")[0]) if cursor else 0


def hold_viewers(told: Told, report: Report) -> None:
    """Hold all readers of each session against each other."""
    truths: dict[str, Truth] = {}
    for session, logs in told.logs.items():
        truths[session] = _truth_of(session, logs, report)
    for (node, session), lines in told.viewers.items():
        truth = truths.setdefault(session, {})
        final = logs[-1] if (logs := told.logs.get(session)) else None
        viewer = _Viewer(report, f"{session} as {node} saw it", truth, final)
        viewer.may_be_refused = told.has_fault(TRUNCATE, session=session)
        for line in lines:
            with report.reading(f"{viewer.name}: {brief(line)}"):
                viewer.take(line)
        with report.reading(viewer.name):
            viewer.close()


def _truth_of(session: str, logs: Sequence[Log], report: Report) -> Truth:
    truth: Truth = {}
    final = logs[-1]
    for place, (cursor, event) in enumerate(zip(final.ids, final.events, strict=True), 1):
        with report.reading(f"{session} event {place} of its log"):
            report.checked["L4"] += 1
            if seq_of(cursor) != place:
                report.object("L4", f"{session} seq {place}: its id says so; found {cursor}")
            truth[place] = (cursor, event)
    for log in logs[:-1]:
        for place, said in enumerate(zip(log.ids, log.events, strict=True), 1):
            report.checked["L3"] += 1
            if truth.get(place) != said:
                expected = brief(truth.get(place))
                report.object("L3", f"{session} seq {place}: the last read has {expected}; found earlier {brief(said)}")
    return truth


@dataclass
class _Viewer:
    """One viewer of one session: `next` is the seq that comes next, `last` the id that it saw last."""

    report: Report
    name: str
    truth: Truth
    final: Log | None
    last: str = ""
    next: int = 1
    has_connected: bool = False
    is_resuming: bool = False
    is_refused: bool = False
    has_left: bool = False
    has_ended: bool = False
    may_be_refused: bool = False

    def take(self, line: Line) -> None:
        """Take the next thing that happened to it."""
        match line["op"]:
            case "seen":
                self._see(str(line["id"]), line["event"])
            case "opened":
                self._open(line["after"] or "")
            case "ended":
                self._check_all("V8", "it was told that nothing more comes")
                self.has_ended = True
            case "refused":
                self._refuse(line)
            case _:
                self.has_left = True

    def close(self) -> None:
        """Hold what it saw against the whole, if it stayed to the end."""
        if not self.has_left and not self.has_ended:
            self._check_all("V8", "it stayed to the end")

    def _open(self, after: str) -> None:
        if self.is_refused or (not self.has_connected and self.next == 1):
            # Where it begins, or begins anew after a refusal, is for the viewer to choose.
            self.next, self.last = seq_of(after) + 1, after
        else:
            text = (
                f"{self.name} seq {self.next}: it comes back with the id that it saw last, {self.last!r}, not {after!r}"
            )
            self.report.hold("V1", after == self.last, text)
        self.is_resuming = bool(after)
        self.has_connected, self.is_refused, self.has_left = True, False, False

    def _refuse(self, line: Line) -> None:
        self.is_refused = True
        if self.may_be_refused:
            self.report.checked["L10"] += 1
            return
        invariant = "V3" if line["status"] == GONE else "V1"
        text = f"{self.name}: going on after {line['after']!r} works; it was refused with {line['status']}"
        self.report.hold(invariant, False, text)

    def _see(self, cursor: str, event: Any) -> None:
        report, seq = self.report, seq_of(cursor)
        if seq != self.next:
            where = "after it came back" if self.is_resuming else "on one connection"
            text = f"{self.name} seq {seq}: {self.next} comes next {where}; found {brief(event)}"
            report.object("V1" if self.is_resuming else "V5", text)
        report.checked["V1" if self.is_resuming else "V5"] += 1
        report.checked["L3"] += 1
        said = (cursor, event)
        known = self.truth.get(seq)
        if known is None:
            if self.final is not None and not self.may_be_refused:
                report.object("L1", f"{self.name} seq {seq}: what was seen is in the log; found {brief(event)}")
            else:
                self.truth[seq] = said
        elif known != said and not self.may_be_refused:
            # After a truncation whoever saw what is gone is refused; what it saw before cannot be in the log.
            report.object("L3", f"{self.name} seq {seq}: {brief(known)}; found {brief(said)}")
        if event["seq"] != seq:
            report.object("L3", f"{self.name} seq {seq}: the event of id {cursor} has that seq; found {brief(event)}")
        if self.has_ended:
            report.object("V8", f"{self.name} seq {seq}: nothing comes after the end; found {brief(event)}")
        self.next, self.last, self.is_resuming = seq + 1, cursor, False

    def _check_all(self, invariant: str, why: str) -> None:
        if self.final is not None:
            text = f"{self.name} seq {self.next}: {why}, and saw all {len(self.final.events)} events"
            self.report.hold(invariant, self.next == len(self.final.events) + 1, text)
