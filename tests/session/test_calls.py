"""What becomes of a call: who may start it, who is lost with it, who answers for it, and what comes too late."""

from __future__ import annotations

import orjson
import pytest
from playhead.events import (
    Budget,
    Event,
    FinalResponse,
    QuestionAnswered,
    QuestionAsked,
    RunFailed,
    ToolCall,
    ToolPending,
    ToolResult,
    ToolResultLate,
    ToolRetry,
    ToolStarted,
)
from playhead.ids import CallId
from playhead.session import (
    DELIVERIES_MAX,
    STARTS_MAX,
    AwaitResult,
    Dispatch,
    Expired,
    FellSilent,
    GaveUp,
    GiveUp,
    OpenCall,
    WatchCall,
    WatchTime,
    may_start,
    pending,
)

from tests.session.driving import SECOND, Driven, answers, asks, by_hand, deferred, result, started
from tests.session.invariants import audit


def calling(*names: str, budget: Budget | None = None) -> Driven:
    driven = Driven(budget=budget or Budget())
    driven.start("one")
    driven.answer(calls=names)
    return driven


def the_call(driven: Driven, index: int = 0) -> OpenCall:
    return driven.session.open_calls[index]


def effects(driven: Driven) -> list[object]:
    return [effect for effect in pending(driven.session) if not isinstance(effect, WatchTime)]


def last(driven: Driven, kind: type[Event]) -> Event:
    return next(event for event in reversed(driven.events) if isinstance(event, kind))


# --- `once` ---


def test_a_once_call_is_given_to_the_first_that_asks_and_to_nobody_after():
    """protocol:P15"""
    driven = calling("once")
    call = the_call(driven).call_id
    assert [type(event) for event in driven.give(started(call, "first", "worker-1", claim=True))] == [ToolStarted]
    assert driven.give(started(call, "second", "worker-2", claim=True)) == ()
    assert may_start(the_call(driven), "first") and not may_start(the_call(driven), "second")
    assert the_call(driven).worker == "worker-1"


def test_the_same_question_again_gets_the_same_answer():
    driven = calling("once")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    assert driven.give(started(call, "first", claim=True)) == ()
    assert may_start(the_call(driven), "first")


def test_a_lost_once_call_ends_unknown_and_the_model_is_told_not_to_repeat_it():
    driven = calling("once")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    driven.give(FellSilent(call))
    ended = last(driven, ToolResult)
    assert isinstance(ended, ToolResult) and ended.status == "unknown"
    assert "may or may not have happened" in orjson.loads(ended.output)["error"]
    assert orjson.loads(driven.session.messages[-1].content)["is_error"] is True
    assert not may_start(None, "first")


def test_a_lost_once_call_that_can_be_looked_into_is_handed_out_for_that_alone():
    """protocol:P72"""
    driven = calling("reconciled")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    (retry,) = driven.give(FellSilent(call))
    assert isinstance(retry, ToolRetry) and retry.delivery == 2 and retry.error.code == "worker_lost"
    assert effects(driven) == [Dispatch(the_call(driven))]
    assert the_call(driven).is_lost and not may_start(the_call(driven), "first")
    driven.give(result(call, "looked", output='"it happened"'))
    assert driven.session.open_calls == ()


def test_a_once_call_that_nobody_has_begun_is_not_lost():
    driven = calling("once")
    assert driven.give(FellSilent(the_call(driven).call_id)) == ()


def test_a_new_owner_watches_a_call_that_runs_and_hands_out_one_that_does_not():
    driven = calling("read", "read")
    running, waiting = (call.call_id for call in driven.session.open_calls)
    driven.give(started(running, "s"))
    driven.driven_by("owner-2")
    assert effects(driven) == [WatchCall(the_call(driven)), Dispatch(the_call(driven, 1))]
    assert the_call(driven, 1).call_id == waiting


# --- lost workers ---


@pytest.mark.parametrize("name", ["read", "write"])
def test_a_silent_call_is_handed_out_again_and_the_log_says_so(name: str):
    """protocol:P72"""
    driven = calling(name)
    call = the_call(driven).call_id
    driven.give(started(call, "s"))
    assert effects(driven) == [WatchCall(the_call(driven))]
    driven.give(FellSilent(call))
    assert effects(driven) == [Dispatch(the_call(driven))] and the_call(driven).deliveries == 2


def test_a_call_that_no_delivery_brings_to_an_end_is_given_up_across_owners():
    driven = calling("read")
    call = the_call(driven).call_id
    for number in range(DELIVERIES_MAX):
        assert effects(driven) == [Dispatch(the_call(driven))]
        driven.driven_by(f"owner-{number}")
        driven.give(started(call, f"s-{number}"))
        driven.give(FellSilent(call))
    (effect,) = effects(driven)
    assert isinstance(effect, GiveUp) and str(DELIVERIES_MAX) in effect.message
    driven.give(GaveUp(call, effect.message))
    ended = last(driven, ToolResult)
    assert isinstance(ended, ToolResult) and ended.status == "error"


def test_a_call_that_kills_every_worker_that_begins_with_it_is_given_up():
    driven = calling("read")
    call = the_call(driven).call_id
    for number in range(STARTS_MAX):
        driven.give(started(call, f"s-{number}", f"worker-{number}"))
        assert effects(driven) == [WatchCall(the_call(driven))]
    assert may_start(the_call(driven), "s-last")
    driven.give(started(call, "s-last", "worker-last"))
    assert not may_start(the_call(driven), "s-last"), "one more would be killed"
    (effect,) = effects(driven)
    assert isinstance(effect, GiveUp)


@pytest.mark.parametrize(("name", "status"), [("once", "unknown"), ("write", "error")])
def test_a_once_call_that_somebody_began_is_given_up_as_unknown(name: str, status: str):
    driven = calling(name)
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    driven.give(GaveUp(call, "no such pool"))
    ended = last(driven, ToolResult)
    assert isinstance(ended, ToolResult) and ended.status == status


# --- results from outside ---


def test_a_pending_call_waits_for_its_result_and_for_no_worker():
    driven = calling("read")
    call = the_call(driven).call_id
    driven.give(started(call, "s"))
    (promised,) = driven.give(deferred(call, "p", seconds=60))
    assert isinstance(promised, ToolPending) and promised.until == driven.now + 60 * SECOND
    assert effects(driven) == [AwaitResult(the_call(driven), promised.until)]
    assert driven.session.status == "waiting"
    assert driven.give(FellSilent(call)) == ()
    driven.driven_by("owner-2")
    assert effects(driven) == [AwaitResult(the_call(driven), promised.until)]
    driven.give(result(call, "delivered"))
    assert driven.session.open_calls == () and driven.session.status == "running"


def test_a_result_that_does_not_come_in_time_is_a_timeout_and_not_before():
    """protocol:P71"""
    driven = calling("read")
    call = the_call(driven).call_id
    driven.give(deferred(call, "p", seconds=60))
    driven.now += 59 * SECOND
    assert driven.give(Expired(call)) == ()
    driven.now += SECOND
    driven.give(Expired(call))
    ended = last(driven, ToolResult)
    assert isinstance(ended, ToolResult) and ended.status == "timeout"


def test_a_pending_once_call_is_granted_to_nobody():
    driven = calling("once")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    driven.give(deferred(call, "p"))
    assert not may_start(the_call(driven), "first")


# --- questions ---


def test_a_question_is_asked_and_the_answer_has_the_call_made_again():
    """protocol:P70"""
    driven = calling("once")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    (asked,) = driven.give(asks(call, "q"))
    assert isinstance(asked, QuestionAsked) and asked.call_id == call
    assert effects(driven) == [] and driven.session.status == "waiting"
    (answered,) = driven.give(answers("q_1"))
    assert isinstance(answered, QuestionAnswered) and answered.by == "somebody"
    assert effects(driven) == [Dispatch(the_call(driven))]
    assert orjson.loads(the_call(driven).answer or "") == {"content": "yes", "state": {"n": 1}}
    driven.give(started(call, "second", "worker-2", claim=True))
    assert may_start(the_call(driven), "second"), "it came to an orderly end before: it may be begun once more"


def test_an_answer_to_nothing_that_was_asked_changes_nothing():
    driven = calling("read")
    assert driven.give(answers("q_1")) == ()
    driven.give(asks(the_call(driven).call_id, "q"))
    assert driven.give(answers("q_2")) == ()
    driven.give(answers("q_1"))
    assert driven.give(answers("q_1", "again")) == ()


def test_a_question_of_a_cancelled_run_is_not_waited_for():
    driven = calling("read")
    driven.give(asks(the_call(driven).call_id, "q"))
    driven.cancel("one")
    assert driven.session.status == "idle" and driven.give(answers("q_1")) == ()


@pytest.mark.parametrize("first", ["question", "promise"])
def test_a_call_waits_for_one_thing_at_a_time(first: str):
    """What a second worker leaves behind, to which a call was handed out as well, holds up nothing."""
    driven = calling("read")
    call = the_call(driven).call_id
    asking, promising = asks(call, "q"), deferred(call, "p", seconds=60)
    assert len(driven.give(asking if first == "question" else promising)) == 1
    assert driven.give(promising if first == "question" else asking) == ()
    if first == "question":
        driven.give(answers("q_1"))
        assert effects(driven) == [Dispatch(the_call(driven))], "with its answer"
    else:
        assert driven.give(deferred(call, "p2", seconds=600)) == ()
        driven.now += 60 * SECOND
        driven.give(Expired(call))
        assert driven.session.open_calls == ()
    audit(driven.events, driven.session, driven.budget)


def test_an_answered_call_has_all_its_deliveries_and_starts_before_it():
    driven = calling("read")
    call = the_call(driven).call_id
    for number in range(DELIVERIES_MAX):
        driven.give(started(call, f"s-{number}", f"worker-{number}"))
        driven.give(FellSilent(call))
    driven.give(asks(call, "q"))
    driven.give(answers("q_1"))
    assert effects(driven) == [Dispatch(the_call(driven))]


def test_a_lost_call_that_asks_after_all_is_lost_no_more_and_is_begun_with_the_answer():
    driven = calling("reconciled")
    call = the_call(driven).call_id
    driven.give(started(call, "first", claim=True))
    driven.give(FellSilent(call))
    driven.give(asks(call, "q"))
    driven.give(answers("q_1"))
    assert not the_call(driven).is_lost, "it is known how it ended"
    driven.give(started(call, "second", "worker-2", claim=True))
    assert may_start(the_call(driven), "second") and not may_start(the_call(driven), "first")
    audit(driven.events, driven.session, driven.budget)


# --- late results ---


def test_what_comes_after_a_result_that_worked_is_nothing():
    driven = calling("read")
    call = the_call(driven).call_id
    driven.give(result(call, "result"))
    assert driven.give(result(call, "other")) == ()


@pytest.mark.parametrize("status", ["timeout", "error"])
def test_what_comes_after_a_result_that_did_not_work_is_recorded_once_and_the_model_is_not_told(status: str):
    """protocol:P73"""
    driven = calling("read")
    call = the_call(driven).call_id
    driven.give(result(call, "result", status))
    messages = driven.session.messages
    assert driven.give(result(call, "result", status)) == (), "the same report again"
    (late,) = driven.give(result(call, "late"))
    assert isinstance(late, ToolResultLate) and late.status == "ok"
    assert driven.give(result(call, "later")) == ()
    assert driven.session.messages == messages
    audit(driven.events, driven.session, driven.budget)


def test_every_late_failure_is_recorded_once():
    driven = calling("read")
    call = the_call(driven).call_id
    driven.give(result(call, "result", "error"))
    for report in ("second", "third"):
        assert len(driven.give(result(call, report, "error"))) == 1
    for report in ("result", "second", "third"):
        assert driven.give(result(call, report, "error")) == ()


def test_nothing_comes_after_the_end_of_a_session():
    driven = calling("read")
    call = the_call(driven).call_id
    driven.close()
    assert driven.give(result(call, "late")) == ()


def test_a_report_of_a_call_that_never_was_is_nothing():
    driven = calling("read")
    assert driven.give(result(CallId("call_never"), "r")) == ()


# --- order ---


def test_a_call_is_handed_out_when_those_it_waits_for_have_ended_however_that_was():
    driven = calling("read", "write", "after")
    first, second, third = (call.call_id for call in driven.session.open_calls)
    assert [effect.call.call_id for effect in effects(driven) if isinstance(effect, Dispatch)] == [first, second]
    driven.give(result(second, "r2", "error"))
    assert [effect.call.call_id for effect in effects(driven) if isinstance(effect, Dispatch)] == [first]
    driven.give(result(first, "r1"))
    assert [effect.call.call_id for effect in effects(driven) if isinstance(effect, Dispatch)] == [third]


# --- by hand ---


def test_a_call_by_hand_is_a_session_that_ends_with_its_result():
    """protocol:P75"""
    driven = Driven()
    driven.give(by_hand("write"))
    call = the_call(driven)
    assert call.step == 0 and effects(driven) == [Dispatch(call)]
    driven.give(result(call.call_id, "r", output='{"deg":3}'))
    said = last(driven, FinalResponse)
    assert isinstance(said, FinalResponse) and said.text == '{"deg":3}'
    assert driven.session.status == "idle"
    audit(driven.events, driven.session, driven.budget)


@pytest.mark.parametrize("status", ["error", "denied", "unknown"])
def test_a_call_by_hand_that_does_not_work_fails_its_run(status: str):
    driven = Driven()
    driven.give(by_hand())
    driven.give(result(the_call(driven).call_id, "r", status, '"why"'))
    failed = last(driven, RunFailed)
    assert isinstance(failed, RunFailed) and failed.error.code == f"tool_{status}" and "why" in failed.error.message


def test_a_call_by_hand_of_no_tool_fails_at_once_with_what_there_is():
    driven = Driven()
    driven.give(by_hand(refusal="there is no tool named 'x'; there are: y"))
    failed = last(driven, RunFailed)
    assert isinstance(failed, RunFailed) and "there are: y" in failed.error.message
    assert isinstance(last(driven, ToolCall), ToolCall)


def test_a_call_by_hand_begins_a_session_and_joins_none():
    driven = calling("read")
    assert driven.give(by_hand()) == ()
    empty_one = Driven()
    empty_one.start()
    assert empty_one.give(by_hand()) == (), "a model's conversation has no room for a call that it did not ask for"
    alone = Driven()
    alone.give(by_hand())
    assert alone.give(by_hand()) == ()
