"""What tools really did, read from the file that they note it in, and held against what a session's log says of it.

The rules T1 to T6, written down a second time: one end a call; `read` and `write` at least once with one key; `once` at
most once, and unknown where that was lost; nothing without its approval; the arguments of the log; no try too many.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.tool_app import TRIES
from tests.history.folding import Event, Folded

__all__ = ["Execution", "executions", "hold", "lates", "unreported"]

UNFINISHED = {"unknown", "error"}
"""How a `once` call may end that nobody can vouch for."""
DELIVERIES_MAX = 6
NEVER = "guarded"
FAILING = {"fails", "refuses"}


@dataclass(frozen=True, slots=True)
class Execution:
    """A line of the file: a tool began, or was done, in a process."""

    what: str
    call: str
    key: str
    try_number: int
    pid: int
    at: float
    given: Mapping[str, Any]
    ticket: str


def executions(journal: Path) -> list[Execution]:
    """Read what was noted, in order. A line that is torn fails here."""
    return [
        Execution(one["what"], one["call"], one["key"], one["try"], one["pid"], one["at"], one["given"], one["ticket"])
        for one in map(json.loads, journal.read_text().splitlines())
    ]


def hold(found: Folded, noted: Sequence[Execution]) -> Counter[str]:
    """Hold a session that has ended (so T1 has been checked) against what was noted; count its results by status."""
    begun: defaultdict[str, list[Execution]] = defaultdict(list)
    for one in noted:
        if one.what != "done":
            begun[one.call].append(one)
    for call_id, call in found.calls.items():
        status = found.results[call_id]["status"]
        runs = begun[call_id]
        what = (call["name"], status, runs)
        assert len({one.key for one in runs}) <= 1, what
        assert all(one.given == call["input"] for one in runs), what
        if call["name"] == NEVER:
            assert (len(runs), status) == (0, "denied"), what
        elif call["effect"] == "once":
            _hold_once(call, status, runs)
        else:
            assert runs, what
            assert status == ("error" if call["name"] in FAILING else "ok"), what
            _hold_tries(call["name"], runs)
    return Counter(result["status"] for result in found.results.values())


def _hold_once(call: Event, status: str, runs: Sequence[Execution]) -> None:
    what = (call["name"], status, runs)
    assert len(runs) <= 1, what
    if call["name"] not in FAILING and status == "ok":
        assert len(runs) == 1, what
    else:
        assert status in UNFINISHED, what


def _hold_tries(name: str, runs: Sequence[Execution]) -> None:
    """Each delivery to a process begins with try 1 and counts on, no further than the tool says."""
    of: defaultdict[int, list[int]] = defaultdict(list)
    for one in runs:
        of[one.pid].append(one.try_number)
    for tries in of.values():
        assert max(tries) <= (TRIES if name in FAILING else 1), (name, tries)
        assert all(now in (1, before + 1) for before, now in zip([0, *tries], tries, strict=False)), (name, tries)
    assert sum(one.try_number == 1 for one in runs) <= DELIVERIES_MAX, runs


def lates(events: Iterable[Event]) -> dict[str, Event]:
    """Give what came late, by call. Fails if anything came twice, or late although its call had worked."""
    found: dict[str, Event] = {}
    ended: dict[str, str] = {}
    for event in events:
        if event["type"] == "tool_result":
            ended[event["call_id"]] = event["status"]
        elif event["type"] == "tool_result_late":
            assert event["call_id"] not in found, "something came late twice"
            assert ended[event["call_id"]] != "ok", "a call that had worked has a late result"
            found[event["call_id"]] = event
    return found


def unreported(found: Folded, noted: Iterable[Execution], alive: Iterable[int]) -> set[str]:
    """Give the calls that were done by processes that live, and whose results are not theirs: something must come."""
    pids = set(alive)
    done = {one.call for one in noted if one.what == "done" and one.pid in pids}
    return {call for call in done & found.results.keys() if found.results[call]["status"] == "unknown"}
