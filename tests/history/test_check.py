"""The checker finds nothing in what really happened, and each thing that is done to it under the right id."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest

from tests.history.check import check
from tests.history.lines import Line
from tests.history.recorded import History, broken, place, true_history


def seen(lines: History, node: str, which: int) -> int:
    return place(lines, "seen", which, node=node)


def test_what_really_happened_breaks_nothing_and_tests_everything() -> None:
    report = check(true_history())
    assert report.violations == []
    expected = "L1 L2 L3 L4 L6 L7 L8 L9 O1 O2 O3 O4 O5 O6 S3 T1 T2 T3 T4 T5 T6 V1 V5 V8 LV1 LV4 LV5"
    assert {invariant for invariant, times in report.checked.items() if times} == set(expected.split())
    assert len(report.recovery_seconds) == 1


# --- what viewers saw


def lose(lines: History, node: str, which: int) -> None:
    del lines[seen(lines, node, which)]


def swap(lines: History, node: str, which: int) -> None:
    one, two = seen(lines, node, which), seen(lines, node, which + 1)
    lines[one], lines[two] = lines[two], lines[one]


def repeat(lines: History, node: str, which: int) -> None:
    lines.insert(seen(lines, node, which) + 1, lines[seen(lines, node, which)])


def repeat_over_a_reconnect(lines: History) -> None:
    lines.insert(place(lines, "opened", 1, node="ann") + 1, lines[seen(lines, "ann", 3)])


def come_back_with(lines: History, after: str) -> None:
    lines[place(lines, "opened", 1, node="ann")]["after"] = after


def see(lines: History, **changes: object) -> None:
    line = lines[seen(lines, "bob", 7)]
    line.update(json.loads(json.dumps(line)) | changes)


def see_more(lines: History) -> None:
    last = lines[seen(lines, "bob", -1)]
    seq = last["event"]["seq"] + 1
    more = last | {"id": f"{seq}-00000000", "event": last["event"] | {"seq": seq}}
    lines.insert(seen(lines, "bob", -1) + 1, more)


def drop(lines: History, op: str, which: int = 0, **fields: object) -> None:
    del lines[place(lines, op, which, **fields)]


def stay_after_a_loss(lines: History) -> None:
    lose(lines, "bob", -1)
    drop(lines, "ended", node="bob")


def see_after_the_end(lines: History) -> None:
    end = place(lines, "ended", node="bob")
    lines[end - 2], lines[end] = lines[end], lines[end - 2]


def refuse(lines: History, status: int) -> None:
    back = place(lines, "opened", 1, node="ann")
    lines.insert(back, lines[back] | {"op": "refused", "status": status})


VIEWERS: dict[str, tuple[str, str, Callable[[History], None]]] = {
    "an event is lost": ("V5", "6 comes", lambda lines: lose(lines, "bob", 5)),
    "the first event is lost": ("V5", "1 comes", lambda lines: lose(lines, "bob", 0)),
    "two events are swapped": ("V5", "comes next on one connection", lambda lines: swap(lines, "bob", 8)),
    "an event is repeated": ("V5", "comes next on one", lambda lines: repeat(lines, "bob", 8)),
    "an event is lost over a reconnect": ("V1", "after it came back", lambda lines: lose(lines, "ann", 4)),
    "an event is repeated over a reconnect": ("V1", "after it came back", repeat_over_a_reconnect),
    "it comes back with an id of long ago": (
        "V1",
        "comes back with the id",
        lambda lines: come_back_with(lines, "1-00000000"),
    ),
    "it comes back with no id": ("V1", "comes back with the id", lambda lines: come_back_with(lines, "")),
    "another event is seen": (
        "L3",
        "as bob saw it seq 8",
        lambda lines: see(lines, event={"seq": 8, "type": "text_delta", "text": "?"}),
    ),
    "another id is seen": ("L3", "as bob saw it seq 8", lambda lines: see(lines, id="8-00000000")),
    "an id names another event": ("L3", "has that seq", lambda lines: see(lines, event={"seq": 9})),
    "something is seen that no log has": ("L1", "what was seen is in the log", see_more),
    "it ends before all is seen": ("V8", "nothing more comes", lambda lines: lose(lines, "bob", -1)),
    "it stays and does not see all": ("V8", "stayed to the end", stay_after_a_loss),
    "it goes on after the end": ("V8", "nothing comes after the end", see_after_the_end),
    "it is not said that it left": ("V8", "stayed to the end", lambda lines: drop(lines, "left")),
    "going on is refused as a conflict": ("V1", "refused with 409", lambda lines: refuse(lines, 409)),
    "going on is refused as erased": ("V3", "refused with 410", lambda lines: refuse(lines, 410)),
}


@pytest.mark.parametrize("case", VIEWERS)
def test_what_a_viewer_must_not_see_is_found(case: str) -> None:
    lines = true_history()
    invariant, text, corrupt = VIEWERS[case]
    corrupt(lines)
    assert [said for of, said in check(lines).violations if of == invariant and text in said]


def test_after_a_truncation_a_viewer_may_be_refused_and_begin_anew() -> None:
    lines = true_history()
    refuse(lines, 409)
    lines.insert(0, {"at": 0.0, "node": "nemesis", "op": "fault", "kind": "truncate", "target": "broker"})
    come_back_with(lines, "")
    again = [line for line in lines[: place(lines, "refused")] if line["op"] == "seen" and line["node"] == "ann"]
    back = place(lines, "opened", 1, node="ann")
    lines[back + 1 : back + 1] = again
    report = check(lines)
    assert report.violations == []
    assert report.checked["L10"] == 1


def test_a_viewer_may_begin_where_it_likes() -> None:
    lines = true_history()
    late = [line | {"node": "zoe"} for line in lines if line["op"] == "seen" and line["node"] == "bob"][20:]
    opened = lines[0] | {"op": "opened", "node": "zoe", "after": lines[seen(lines, "bob", 19)]["id"]}
    assert broken([*lines, opened, *late]) == set()
    assert broken([*lines, opened, *late[1:]]) == {"V1"}


def test_an_earlier_read_of_the_log_is_a_reader_too() -> None:
    lines = true_history()
    earlier = json.loads(json.dumps(lines[-1]))
    del earlier["events"][10:]
    lines.insert(0, earlier)
    assert broken(lines) == set()
    earlier["events"][4][1]["attempt"] = 2
    assert broken(lines) == {"L3"}


# --- what users were told


def messages(lines: History, key: str, phase: str = "ok") -> list[Line]:
    return [line for line in lines if line["op"] == "message" and line["key"] == key and line["phase"] == phase]


def accept_what_is_not_there(lines: History) -> None:
    for line in (lines[place(lines, "message", phase=phase, key="first")] for phase in ("invoke", "ok")):
        lines.append(line | {"key": "fourth", "content": "fourth", "run": "run_fourth"})


def fail_what_is_there(lines: History) -> None:
    for line in messages(lines, "first"):
        line["phase"] = "fail"
        del line["run"]


def say_something_else(lines: History) -> None:
    for line in (*messages(lines, "second"), *messages(lines, "second", "invoke")):
        line["content"] = "else"


def not_say_it(lines: History) -> None:
    lines[:] = [line for line in lines if line.get("key") != "third"]


def give_another_run(lines: History) -> None:
    messages(lines, "first")[1]["run"] = "run_other"


def share_a_run(lines: History) -> None:
    lines.append(messages(lines, "first")[0] | {"key": "fourth"})


def say_the_last_first(lines: History) -> None:
    said = [*messages(lines, "third", "invoke"), *messages(lines, "third")]
    lines[:] = said + [line for line in lines if line not in said]


def read_nothing(lines: History) -> None:
    other = json.loads(json.dumps(messages(lines, "first")[0])) | {"session": "ses_other", "run": "run_other"}
    lines.append(other | {"key": "fourth"})


def not_say_which_run(lines: History) -> None:
    for line in messages(lines, "first"):
        del line["run"]


USERS: dict[str, tuple[str, Callable[[History], None]]] = {
    "an accepted message is not in the log": ("L1", accept_what_is_not_there),
    "an accepted message has no end": ("O1", accept_what_is_not_there),
    "an accepted message says something else": ("L1", say_something_else),
    "a failed message is in the log": ("L2", fail_what_is_there),
    "a message is in the log that nobody said": ("L2", not_say_it),
    "a key has two runs": ("O2", give_another_run),
    "two keys have one run": ("O2", share_a_run),
    "a message overtakes one that was accepted before": ("L4", say_the_last_first),
    "a session with an accepted message is not read": ("H", read_nothing),
    "it is not said as which run it was accepted": ("H", not_say_which_run),
}


@pytest.mark.parametrize("case", USERS)
def test_what_a_user_must_not_be_told_is_found(case: str) -> None:
    lines = true_history()
    invariant, corrupt = USERS[case]
    corrupt(lines)
    assert invariant in broken(lines)


def test_a_message_of_which_nobody_knows_may_be_there_or_not() -> None:
    lines = true_history()
    for line in messages(lines, "first"):
        line["phase"] = "info"
        del line["run"]
    assert broken(lines) == set()


def test_a_run_that_does_not_end_is_found_by_all_that_it_was_promised_to() -> None:
    lines = true_history()
    log = lines[-1]
    log["events"] = [pair for pair in log["events"] if pair[1]["type"] != "run_cancelled"]
    log.update(state=None, records=None)
    assert {"O1", "O5", "LV1", "LV4"} <= broken(lines)


def test_a_run_that_takes_too_long_after_the_faults_is_found() -> None:
    lines = true_history()
    assert check(lines, heal_seconds=0).violations == []
    fault, healed = place(lines, "fault"), place(lines, "healed")
    lines.insert(fault + 1, lines.pop(healed) | {"at": lines[fault]["at"]})
    assert check(lines, heal_seconds=60).violations == []
    assert {invariant for invariant, _ in check(lines, heal_seconds=0.01).violations} == {"LV1"}


def answered(**fields: object) -> History:
    """Give a history in which the first call of `look` asks, and is answered yes; and what a user says of that."""
    lines: History = [true_history()[-1] | {"state": None, "records": None}]
    events = [event for _, event in lines[0]["events"]]
    (start,) = [one for one in events if one["type"] == "tool_started" and one["call_id"] == events[10]["call_id"]]
    place = {key: start[key] for key in ("at", "run_id", "step", "attempt")} | {"question_id": "q"}
    asked = place | {"type": "question_asked", "content": "Sure?", "call_id": start["call_id"]}
    spot = events.index(start) + 1
    events[spot:spot] = [asked, place | {"type": "question_answered", "content": True, "by": "user"}]
    for seq, event in enumerate(events, 1):
        event["seq"] = seq
    lines[0]["events"] = [[f"{event['seq']}-00000000", event] for event in events]
    said = {"at": 0.0, "node": "user", "op": "answer", "key": "a", "session": lines[0]["session"], "question": "q"}
    return [*lines, said | {"phase": "invoke"} | fields, said | fields]


def test_answers_are_held_against_the_log() -> None:
    assert broken(answered(phase="ok", content=True)) == set()
    assert broken(answered(phase="info", content=True)) == set()
    assert broken(answered(phase="fail", content=True)) == {"L2"}
    assert broken(answered(phase="fail", content=False)) == set()
    lines = answered(phase="ok", content=True)
    log = lines[0]
    log["events"] = [pair for pair in log["events"] if pair[1]["type"] not in ("question_answered", "tool_result")]
    assert "L1" in broken(lines)


# --- what is stored, and what the state says


def records(change: Callable[[list[str]], object]) -> Callable[[Line], object]:
    return lambda log: change(log["records"])


def flip(log: Line) -> None:
    value = bytearray(b64decode(log["records"][20]))
    value[-1] ^= 1
    log["records"][20] = b64encode(value).decode()


def state(**changes: object) -> Callable[[Line], object]:
    return lambda log: log["state"].update(changes)


def keep(role: str) -> Callable[[Line], object]:
    def change(log: Line) -> None:
        log["state"]["messages"] = [one for one in log["state"]["messages"] if one["role"] == role]

    return change


STORED: dict[str, tuple[str, Callable[[Line], object]]] = {
    "a bit is flipped": ("S3", flip),
    "a record is gone": ("S3", records(lambda values: values.pop(9))),
    "the last record is gone": ("S3", records(list[str].pop)),
    "two records are swapped": ("S3", records(lambda values: values.insert(9, values.pop(10)))),
    "a record cannot be read": ("S3", records(lambda values: values.__setitem__(9, "AAAA"))),
    "the state ends elsewhere": ("L8", state(last_seq=3)),
    "the state lacks what was asked": ("L8", keep("assistant")),
    "the state lacks what was said": ("L8", keep("user")),
    "the state has another status": ("L8", state(status="running")),
    "the state has open calls": ("L8", state(pending=[{"call_id": "call_x"}])),
    "the state counts other tokens": ("L8", state(usage={"input_tokens": 1})),
    "the state has another cursor": ("L8", state(cursor="3-00000000")),
}


@pytest.mark.parametrize("case", STORED)
def test_what_is_stored_and_folded_otherwise_is_found(case: str) -> None:
    lines = true_history()
    invariant, corrupt = STORED[case]
    corrupt(lines[-1])
    assert broken(lines) == {invariant}


def test_readers_who_are_shown_something_else_than_is_stored_are_found() -> None:
    log = true_history()[-1]
    log["events"][30][0] = "31-00000000"
    assert broken([log]) == {"S3"}
    log["events"][30][0] = "32-00000000"
    assert broken([log]) == {"S3", "L4"}
    log = true_history()[-1]
    ended = next(event for _, event in log["events"] if event["type"] == "run_completed")
    ended["type"] = "run_failed"
    assert broken([log]) == {"L3", "L7"}


def test_what_was_stored_and_not_accepted_is_void_and_no_violation() -> None:
    lines = true_history()
    values = lines[-1]["records"]
    values[5:5] = [values[2], values[9], "AAAA"]
    assert broken(lines) == set()
