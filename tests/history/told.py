"""A history sorted by what its lines are about, so that each rule finds its own. Judges nothing but the lines' form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.history.lines import TORN, Line
from tests.history.report import MALFORMED, Report

__all__ = ["Asked", "Event", "Log", "Told", "told"]

Event = dict[str, Any]

VIEWER_OPS = ("opened", "seen", "ended", "refused", "left")
USER_OPS = ("message", "cancel", "answer")
PHASES = ("invoke", "ok", "fail", "info")


@dataclass
class Asked:
    """What users asked with one key, however often: `invoked` and `first_ok` say where in the history."""

    op: str
    key: str
    contents: list[Any] = field(default_factory=list[Any])
    sessions: list[str] = field(default_factory=list[str])
    runs: list[str] = field(default_factory=list[str])
    questions: list[str] = field(default_factory=list[str])
    phases: list[str] = field(default_factory=list[str])
    invoked: int = -1
    invoked_at: float = 0.0
    first_ok: int = -1

    @property
    def is_ok(self) -> bool:
        """Whether it was accepted at least once."""
        return "ok" in self.phases

    @property
    def is_void(self) -> bool:
        """Whether it certainly did not happen: each time that it was asked, it failed."""
        return self.phases.count("fail") >= max(1, self.phases.count("invoke")) and not self.is_ok

    def add(self, place: int, line: Line) -> None:
        """Take one line on it."""
        self.phases.append(line["phase"])
        if line["phase"] == "invoke" and self.invoked < 0:
            self.invoked, self.invoked_at = place, line["at"]
        if line["phase"] == "ok" and self.first_ok < 0:
            self.first_ok = place
        for name, seen in (
            ("content", self.contents),
            ("session", self.sessions),
            ("run", self.runs),
            ("question", self.questions),
        ):
            if line.get(name) is not None and line[name] not in seen:
                seen.append(line[name])


@dataclass
class Log:
    """One complete read of a session, at the end."""

    session: str
    ids: list[str]
    events: list[Event]
    state: dict[str, Any] | None
    records: list[str] | None


@dataclass
class Told:
    """All lines of a history, by what they are about. `viewers` are by node and session."""

    asked: dict[tuple[str, str], Asked] = field(default_factory=dict[tuple[str, str], Asked])
    viewers: defaultdict[tuple[str, str], list[Line]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], list[Line]](list)
    )
    tools: list[Line] = field(default_factory=list[Line])
    faults: list[Line] = field(default_factory=list[Line])
    ready: list[Line] = field(default_factory=list[Line])
    logs: defaultdict[str, list[Log]] = field(default_factory=lambda: defaultdict[str, list[Log]](list))
    healed_at: float | None = None

    def has_fault(self, *kinds: str, session: str | None = None) -> bool:
        """Tell whether one of these faults was injected, into this session or into whatever."""
        return any(
            fault["kind"] in kinds and (session is None or fault.get("session", session) == session)
            for fault in self.faults
        )

    def of(self, op: str) -> list[Asked]:
        """Give what users asked of one kind, by key."""
        return [asked for asked in self.asked.values() if asked.op == op]

    def take(self, place: int, line: Line) -> None:
        """Take one line. Raises `KeyError`, `TypeError` or `ValueError` if it is not of the form of a history."""
        op = line["op"]
        if op in VIEWER_OPS:
            self.viewers[line["node"], line["session"]].append(line)
        elif op in USER_OPS:
            self._ask(place, line)
        elif op == "tool":
            _ = line["call"], line["key"], line["what"], line["try"], line["given"], line["process"]
            self.tools.append(line)
        elif op == "log":
            self.logs[line["session"]].append(_log(line))
        elif op == "fault":
            _ = line["kind"]
            self.faults.append(line)
        elif op == "ready":
            self.ready.append(line)
        elif op == "healed":
            self.healed_at = line["at"]
        else:
            raise ValueError(f"no such op: {op}")

    def _ask(self, place: int, line: Line) -> None:
        if line["phase"] not in PHASES:
            raise ValueError(f"no such phase: {line['phase']}")
        op, key = line["op"], line["key"]
        self.asked.setdefault((op, key), Asked(op, key)).add(place, line)


def told(lines: Iterable[Line], report: Report) -> Told:
    """Sort a history's lines. Those that are not of its form are objected to."""
    found = Told()
    for place, line in enumerate(lines):
        report.lines += 1
        with report.reading(f"line {place} of the history, {str(line)[:120]},"):
            if line["op"] == TORN:
                report.object(MALFORMED, f"line {line['number']} of the history is torn: {line['text']!r}")
            else:
                found.take(place, line)
    return found


def _log(line: Line) -> Log:
    pairs = [(str(name), event) for name, event in line["events"]]
    return Log(
        line["session"], [name for name, _ in pairs], [event for _, event in pairs], line["state"], line["records"]
    )
