"""What no log may say is found under the right id, by the log alone."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from playhead.accept import genesis
from playhead.codec import Codec, Context
from playhead.ids import SessionId

from tests.history.check import check
from tests.history.recorded import History, broken, true_history

Event = dict[str, Any]
Events = list[Event]


def with_log(change: Callable[[Events], object]) -> History:
    """Give a history that is nothing but the true log, changed, and numbered densely again."""
    log = true_history()[-1]
    events = [event for _, event in log["events"]]
    change(events)
    for seq, event in enumerate(events, 1):
        event["seq"] = seq
    pairs = [[f"{event['seq']}-00000000", event] for event in events]
    return [log | {"events": pairs, "state": None, "records": None}]


def find(events: Events, kind: str, which: int = 0, **fields: object) -> Event:
    return [event for event in events if event["type"] == kind and fields.items() <= event.items()][which]


def after(events: Events, event: Event, *more: Event) -> None:
    """Put copies of events behind an event."""
    spot = events.index(event) + 1
    events[spot:spot] = [dict(one) for one in more]


def again(kind: str, which: int = 0, **changes: object) -> Callable[[Events], object]:
    """Say an event twice in a row."""
    return lambda events: after(events, one := find(events, kind, which), one | changes)


def without(*kinds: str, which: int = 0, **fields: object) -> Callable[[Events], object]:
    """Leave one event of each of these types out."""

    def change(events: Events) -> None:
        for kind in kinds:
            events.remove(find(events, kind, which, **fields))

    return change


def changed(kind: str, which: int = 0, **changes: object) -> Callable[[Events], object]:
    """Have an event say something else."""
    return lambda events: find(events, kind, which).update(changes)


def moved(kind: str, by: int, which: int = 0) -> Callable[[Events], object]:
    """Move an event by so many places."""

    def change(events: Events) -> None:
        event = find(events, kind, which)
        spot = events.index(event)
        events.insert(spot + by, events.pop(spot))

    return change


def once_call(events: Events) -> Event:
    return find(events, "tool_call", effect="once")


def start_once_twice(events: Events) -> None:
    start = find(events, "tool_started", call_id=once_call(events)["call_id"])
    after(events, start, start)


def retry_once(events: Events) -> None:
    start = find(events, "tool_started", call_id=once_call(events)["call_id"])
    after(events, start, start | {"type": "tool_retry", "try": 1, "delay_ms": 1, "error": {}})


def deliver(times: int) -> Callable[[Events], object]:
    return again("tool_started", type="tool_retry", delivery=times)


def late(status: str) -> Callable[[Events], object]:
    def change(events: Events) -> None:
        ended = find(events, "tool_result", status=status)
        after(events, ended, ended | {"type": "tool_result_late", "status": "ok"})

    return change


def lose_a_call_of_three(events: Events) -> None:
    call = find(events, "tool_call", name="guarded")
    events[:] = [event for event in events if event.get("call_id") != call["call_id"]]


def answer_nothing(events: Events) -> None:
    start = find(events, "tool_started")
    asked = {"type": "question_answered", "question_id": "q", "content": 1, "by": "me"}
    after(events, start, {key: start[key] for key in ("at", "run_id", "step", "attempt")} | asked)


def close_before_the_end(events: Events) -> None:
    events.insert(-4, events.pop())


def budget(**limits: int) -> Callable[[Events], object]:
    return changed("session_started", budget=limits)


LOGS: dict[str, tuple[str, Callable[[Events], object]]] = {
    "a run ends twice": ("O1", again("run_completed")),
    "a run ends in two ways": ("O1", again("run_completed", type="run_failed", error={})),
    "a run does not end": ("LV1", without("run_completed", which=1)),
    "a message is there twice": ("O2", again("user_message")),
    "a session starts twice": ("O4", again("session_started")),
    "a session does not start": ("O4", without("session_started")),
    "something follows the close": ("O4", close_before_the_end),
    "something of a run follows its end": ("O4", moved("final_response", 1)),
    "a run starts twice": ("O4", again("run_started")),
    "a run starts before its message": ("O4", moved("run_started", -1)),
    "a run does not start": ("O4", without("run_started")),
    "the owner does not change": ("L6", again("owner_changed")),
    "an owner is missing": ("L6", without("owner_changed")),
    "a step has two messages": ("O3", again("model_call_completed")),
    "a delta is missing": ("O3", without("text_delta")),
    "a delta is there twice": ("O3", again("text_delta")),
    "deltas are swapped": ("O3", moved("text_delta", 1)),
    "a delta says something else": ("O3", changed("text_delta", text="?")),
    "a piece of an input says something else": ("O3", changed("tool_input_delta", json='{"city": 1,')),
    "a delta comes after its attempt": ("O3", moved("text_delta", 8)),
    "an attempt is never over": ("O3", without("model_call_abandoned")),
    "an attempt is left out": ("O3", changed("model_call_started", 2, attempt=3)),
    "a step is left out": ("O3", changed("model_call_started", 1, step=3)),
    "the answer is not what was said": ("O3", changed("final_response", text="?")),
    "a call is there twice": ("O4", again("tool_call")),
    "a call comes before its message": ("O4", moved("tool_call", -1)),
    "nobody asked for a call": ("O4", without("model_call_completed")),
    "one call of a message is missing": ("L9", lose_a_call_of_three),
    "a call has no result": ("O4", without("tool_result")),
    "a call has two results": ("T1", again("tool_result")),
    "a result comes before its call": ("O4", moved("tool_result", -10)),
    "a call starts after its result": ("O4", moved("tool_started", 4, which=1)),
    "a once call starts twice": ("T3", start_once_twice),
    "a once call is tried again": ("T6", retry_once),
    "a call is handed out too often": ("T6", deliver(7)),
    "what worked comes late": ("T1", late("ok")),
    "an answer to nothing": ("O4", answer_nothing),
    "the model is called while calls are open": ("O4", moved("model_call_started", -1, which=1)),
    "a run has too many steps": ("O6", budget(steps=1)),
    "a run has too many calls": ("O6", budget(calls=1)),
    "a run uses too many tokens": ("O6", budget(tokens=10)),
    "an event has no run": ("H", lambda events: find(events, "run_started").pop("run_id")),
    "an event has no type": ("H", lambda events: events[8].pop("type")),
    "a message is none": ("H", changed("model_call_completed", message="?")),
}


@pytest.mark.parametrize("case", LOGS)
def test_what_no_log_may_say_is_found(case: str) -> None:
    invariant, corrupt = LOGS[case]
    assert invariant in broken(with_log(corrupt))


GOOD: dict[str, Callable[[Events], object]] = {
    "nothing": lambda events: None,
    "a call that failed comes late": late("cancelled"),
    "a call is handed out as often as it may": deliver(6),
    "a budget that is just enough": budget(steps=2, calls=3, tokens=31),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_a_log_may_say_is_no_violation(case: str) -> None:
    assert broken(with_log(GOOD[case])) == set()


def test_a_message_that_overtakes_another_is_found() -> None:
    def overtake(events: Events) -> None:
        # The second message is said while the first run goes on, and the third too; the third is answered first.
        start = find(events, "run_started")
        after(events, start, find(events, "user_message", 1), find(events, "user_message", 2))
        del events[events.index(find(events, "run_started", 1)) - 1]
        events.remove(find(events, "user_message", -1))
        second = find(events, "user_message", 1)["run_id"]
        kept = [event for event in events if event.get("run_id") != second or event["type"] == "user_message"]
        events[:] = kept

    assert "O4" in broken(with_log(overtake))


def test_events_without_their_number_are_found() -> None:
    lines = with_log(lambda events: None)
    del lines[0]["events"][4]
    assert broken(lines) == {"L4"} | broken(with_log(lambda events: events.pop(4)))


def test_a_write_by_an_owner_of_another_epoch_is_found() -> None:
    lines, codec = true_history(), Codec()
    log = lines[-1]
    stamped = [codec.event(b64decode(text)) for text in log["records"]]
    head, session = genesis(SessionId(log["session"])), SessionId(log["session"])
    values, events = list[str](), list[object]()
    for one in stamped:
        epoch = 1 if one.stamp.seq == 30 else one.stamp.epoch
        (record,) = codec.seal(head, (one.event,), Context(session, epoch, one.stamp.cause, one.stamp.at))
        head = type(head)(record.seq, record.hash, record.seq)
        values.append(b64encode(record.value).decode())
        events.append([str(record.cursor), log["events"][record.seq - 1][1]])
    assert broken([log | {"records": values, "events": events, "state": None}]) == {"L6"}


def test_every_violation_is_one_line_that_says_where() -> None:
    for case in ("a run ends twice", "a delta is missing", "a call has two results"):
        for _, text in check(with_log(LOGS[case][1])).violations:
            assert "\n" not in text
            assert "ses_" in text
            assert "seq " in text
