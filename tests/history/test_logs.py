"""What no log may say is found under the right id, by the log alone."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playhead.accept import Head, genesis
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


def begin_another(events: Events) -> None:
    start = find(events, "run_started")
    after(events, start, find(events, "user_message") | {"run_id": "run_x"}, start | {"run_id": "run_x"})


def budget(**limits: int) -> Callable[[Events], object]:
    return changed("session_started", budget=limits)


LOGS: dict[str, tuple[str, str, Callable[[Events], object]]] = {
    "a run starts while another goes on": ("O4", "ends first", begin_another),
    "another run ends": ("O4", "the run that is going is None", again("run_completed", run_id="run_x")),
    "a run ends before its calls": ("O4", "before the run ends", without("tool_result", status="cancelled")),
    "a run ends within an attempt": ("O3", "before its end", without("model_call_completed", which=-1)),
    "a session closes within a run": ("O4", "all runs have ended before", close_before_the_end),
    "a delta is of another run": ("O4", "the run that is going is run_", changed("text_delta", run_id="run_x")),
    "a run ends twice": ("O1", "a run ends once", again("run_completed")),
    "a run ends in two ways": ("O1", "a run ends once", again("run_completed", type="run_failed", error={})),
    "a run does not end": ("LV1", "ends after the faults do", without("run_completed", which=1)),
    "a message is there twice": ("O2", "a message is in the log once", again("user_message")),
    "a session starts twice": ("O4", "session_started is first", again("session_started")),
    "a session does not start": ("O4", "session_started is first", without("session_started")),
    "something follows the close": ("O4", "nothing follows session_closed", close_before_the_end),
    "something of a run follows its end": ("O4", "nothing of a run follows its end", moved("final_response", 1)),
    "a run starts twice": ("O4", "its message is said first", again("run_started")),
    "a run starts before its message": ("O4", "its message is said first", moved("run_started", -1)),
    "a run does not start": ("O4", "the run that is going is None", without("run_started")),
    "the owner does not change": ("L6", "of epoch 2", again("owner_changed")),
    "an owner is missing": ("L6", "of epoch 1", without("owner_changed")),
    "a step has two messages": ("O3", "is open", again("model_call_completed")),
    "a delta is missing": ("O3", "what was said in pieces", without("text_delta")),
    "a delta is there twice": ("O3", "what was said in pieces", again("text_delta")),
    "deltas are swapped": ("O3", "what was said in pieces", moved("text_delta", 1)),
    "a delta says something else": ("O3", "what was said in pieces", changed("text_delta", text="?")),
    "a piece of an input says something else": ("O3", "the input of", changed("tool_input_delta", json='{"city": 1,')),
    "a delta comes after its attempt": ("O3", "is open", moved("text_delta", 8)),
    "an attempt is never over": ("O3", "the attempt before is over first", without("model_call_abandoned")),
    "an attempt is left out": ("O3", "step and attempt are (2, 2)", changed("model_call_started", 2, attempt=3)),
    "a step is left out": ("O3", "step and attempt are (2, 1)", changed("model_call_started", 1, step=3)),
    "the answer is not what was said": ("O3", "the answer is the text", changed("final_response", text="?")),
    "a call is there twice": ("O4", "asked for once", again("tool_call")),
    "a call comes before its message": ("O4", "a completed message asked for", moved("tool_call", -1)),
    "nobody asked for a call": ("O4", "a completed message asked for", without("model_call_completed")),
    "one call of a message is missing": ("L9", "asked for [", lose_a_call_of_three),
    "a call has no result": ("O4", "have results first", without("tool_result")),
    "a call has two results": ("T1", "a call has one result", again("tool_result")),
    "a result comes before its call": ("O4", "a result follows its call", moved("tool_result", -10)),
    "a call starts after its result": ("O4", "comes before its result", moved("tool_started", 4, which=1)),
    "a once call starts twice": ("T3", "a once call starts once", start_once_twice),
    "a once call is tried again": ("T6", "never tried again", retry_once),
    "a call is handed out too often": ("T6", "6 times at most", deliver(7)),
    "what worked comes late": ("T1", "only what ended without", late("ok")),
    "a call asks after its result": (
        "O4",
        "has no result yet",
        again("tool_result", type="question_asked", question_id="q"),
    ),
    "an answer to nothing": ("O4", "a question is asked first", answer_nothing),
    "the model is called while calls are open": ("O4", "have results first", moved("model_call_started", -1, which=1)),
    "a run has too many steps": ("O6", "at most 1 steps", budget(steps=1)),
    "a run has too many calls": ("O6", "at most 1 calls", budget(calls=1)),
    "a run uses too many tokens": ("O6", "of 10 tokens", budget(tokens=10)),
    "an event has no run": ("H", "KeyError: 'run_id'", lambda events: find(events, "run_started").pop("run_id")),
    "an event has no type": ("H", "KeyError: 'type'", lambda events: events[8].pop("type")),
    "a message is none": ("H", "TypeError", changed("model_call_completed", message="?")),
}


@pytest.mark.parametrize("case", LOGS)
def test_what_no_log_may_say_is_found(case: str) -> None:
    invariant, text, corrupt = LOGS[case]
    assert [said for of, said in check(with_log(corrupt)).violations if of == invariant and text in said]


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
        # Both wait for the first run, and the third message is answered after it.
        second, third = find(events, "user_message", 1), find(events, "user_message", 2)
        events[:] = [event for event in events if event is not third and event.get("run_id") != second["run_id"]]
        after(events, find(events, "run_started"), second, third)

    assert [text for _, text in check(with_log(overtake)).violations if "has waited longer" in text]


def test_events_without_their_number_are_found() -> None:
    lines = with_log(lambda events: None)
    del lines[0]["events"][4]
    assert [text for invariant, text in check(lines).violations if invariant == "L4" and "this is seq 5" in text]


def sealed(change: Callable[[int, Context], Context], first: int = 1) -> History:
    """Give a history that is nothing but the true log, stored anew on a good chain but with other stamps."""
    codec, log = Codec(), true_history()[-1]
    session = SessionId(log["session"])
    values, events, head = list[str](), list[object](), genesis(session)
    for text in log["records"][first - 1 :]:
        one = codec.event(b64decode(text))
        context = Context(session, one.stamp.epoch, one.stamp.cause, one.stamp.at)
        (record,) = codec.seal(head, (one.event,), change(one.stamp.seq, context))
        head = Head(record.seq, record.hash, record.seq)
        values.append(b64encode(record.value).decode())
        events.append([str(record.cursor), log["events"][one.stamp.seq - 1][1] | {"seq": record.seq}])
    return [log | {"records": values, "events": events, "state": None}]


def test_only_what_is_stamped_otherwise_is_found_in_a_log_that_is_stored_anew() -> None:
    other = SessionId("ses_" + "x" * 26)
    assert broken(sealed(lambda seq, context: context)) == set()
    assert broken(sealed(lambda seq, context: replace(context, epoch=1 if seq == 30 else context.epoch))) == {"L6"}
    assert broken(sealed(lambda seq, context: replace(context, session=other if seq == 30 else context.session))) == {
        "L3"
    }
    headless = check(sealed(lambda seq, context: context, first=2)).violations
    assert [text for invariant, text in headless if invariant == "O4" and "a session begins" in text]


def test_every_violation_is_one_line_that_says_where() -> None:
    for case in ("a run ends twice", "a delta is missing", "a call has two results"):
        for _, text in check(with_log(LOGS[case][2])).violations:
            assert "\n" not in text
            assert "ses_" in text
            assert "seq " in text
