"""What no tool may do is found under the right id, by the log and by what the tools noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.history.check import check
from tests.history.lines import Line
from tests.history.recorded import History, broken, place, true_history

Event = dict[str, Any]


def with_tools(change: Callable[[History], object]) -> History:
    """Give a history of the true log and of what the tools noted, changed."""
    true = true_history()
    lines = [
        line for line in true if line["op"] in ("tool", "seen", "opened", "ended", "log") and line["node"] != "eve"
    ]
    change(lines)
    return lines


def call_of(lines: History, name: str, which: int = 0, kind: str = "tool_call") -> Event:
    events = [event for _, event in lines[place(lines, "log")]["events"]]
    return [event for event in events if event["type"] == kind and event["name"] == name][which]


def noted(lines: History, name: str, which: int = 0, what: str = "begun") -> Line:
    return lines[place(lines, "tool", call=call_of(lines, name, which)["call_id"], what=what)]


def note_again(name: str, **changes: object) -> Callable[[History], object]:
    return lambda lines: lines.insert(lines.index(one := noted(lines, name)) + 1, one | changes)


def note_not(name: str, *whats: str) -> Callable[[History], object]:
    def change(lines: History) -> None:
        for what in whats:
            lines.remove(noted(lines, name, what=what))

    return change


def note(name: str, **changes: object) -> Callable[[History], object]:
    return lambda lines: noted(lines, name).update(changes)


def run_what_is_denied(lines: History) -> None:
    lines.insert(0, noted(lines, "look") | {"call": call_of(lines, "guarded")["call_id"], "key": "key"})


def share_a_key(lines: History) -> None:
    noted(lines, "look")["key"] = noted(lines, "pay")["key"]


def begin_long_after_the_cancel(lines: History) -> None:
    stopped = noted(lines, "look", 1)
    lines.remove(stopped)
    lines.append(stopped | {"at": lines[-1]["at"] + 60})


def not_say_that_it_starts(lines: History) -> None:
    log, call = lines[place(lines, "log")], call_of(lines, "pay")
    is_start = [pair[1]["type"] == "tool_started" and pair[1]["call_id"] == call["call_id"] for pair in log["events"]]
    log["events"] = [pair for pair, start in zip(log["events"], is_start, strict=True) if not start]


def ask_for_leave(lines: History) -> None:
    """Have the log say that a call that ran was asked for and never allowed."""
    log = lines[place(lines, "log")]
    call = call_of(lines, "look")
    asked = {key: call[key] for key in ("at", "run_id", "step", "attempt", "call_id")}
    log["events"].insert(13, ["14-00000000", {"seq": 14, "type": "approval_requested", "reason": "?", **asked}])


TOOLS: dict[str, tuple[str, str, Callable[[History], object]]] = {
    "a once call runs before the log says so": ("T3", "the log says that it starts", not_say_that_it_starts),
    "a once call begins twice": ("T3", "starts 1 time", note_again("pay")),
    "a once call begins in two processes": ("T3", "starts 1 time", note_again("pay", process=2)),
    "a once call is ok and never ran": ("T3", "no start", note_not("pay", "begun")),
    "a once call was lost and is ok": ("T3", "no end of it", note_not("pay", "done")),
    "a read is ok and never ran": ("T2", "no start", note_not("look", "begun")),
    "a read is ok and was never done": ("T2", "no end of it", note_not("look", "done")),
    "a second run has another key": ("T2", "one key", note_again("look", key="other", process=2)),
    "two calls have one key": ("T2", "a key each", share_a_key),
    "the arguments are others": ("T5", "given what is logged", note("look", given={"city": "Oslo"})),
    "a denied call runs": ("T4", "without its approval", run_what_is_denied),
    "a call runs without its approval": ("T4", "without its approval", ask_for_leave),
    "a try is left out": ("T6", "try 2 comes next", note_again("look", **{"try": 3})),
    "a once call is tried again": ("T6", "try 2 comes next", note_again("pay", **{"try": 2})),
    "a call runs that is in no log": ("O4", "is in a log before", note_again("look", call="call_x", key="key_x")),
    "a call begins long after the cancel": ("O5", "after the run was cancelled", begin_long_after_the_cancel),
    "a note has no key": ("H", "KeyError: 'key'", lambda lines: noted(lines, "look").pop("key")),
}


@pytest.mark.parametrize("case", TOOLS)
def test_what_no_tool_may_do_is_found(case: str) -> None:
    invariant, text, corrupt = TOOLS[case]
    assert [said for of, said in check(with_tools(corrupt)).violations if of == invariant and text in said]


@pytest.mark.parametrize("change", [note_again("look"), note_again("look", **{"try": 2})])
def test_what_a_tool_may_do_is_no_violation(change: Callable[[History], object]) -> None:
    report = check(with_tools(change))
    assert report.violations == []
    assert report.checked["O5"] == 1


@pytest.mark.parametrize("kind", ["stop", "clock_jump"])
def test_a_worker_that_was_suspended_or_whose_clock_is_wrong_may_begin_at_any_time(kind: str) -> None:
    lines = with_tools(begin_long_after_the_cancel)
    lines.insert(0, {"at": 0.0, "node": "nemesis", "op": "fault", "kind": kind, "target": "worker"})
    assert broken(lines) == set()
