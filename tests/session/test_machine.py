"""Anything may happen to a session, in any order and more than once, and the invariants hold after every step."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from playhead.commands import (
    CancelRun,
    CloseSession,
    Heartbeat,
    Report,
    ReportChunk,
    ReportProgress,
    ReportRetry,
    StartSession,
)
from playhead.events import (
    Budget,
    Event,
    Failure,
    Json,
    RunCancelled,
    RunCompleted,
    RunFailed,
    Stamp,
    Stamped,
    TextDelta,
    Thinking,
    ToolCall,
    ToolInputDelta,
)
from playhead.ids import CallId, RunId, Seq
from playhead.session import (
    Answered,
    Asked,
    AwaitResult,
    Broke,
    Calling,
    CallModel,
    Dispatch,
    Expired,
    FellSilent,
    GaveUp,
    GiveUp,
    Input,
    OutOfTime,
    Reported,
    RetryDue,
    Session,
    Snapshot,
    Spoke,
    TakeOver,
    WaitForRetry,
    WatchCall,
    WatchTime,
    apply,
    decide,
    empty,
    fold,
    pending,
)

from tests.codec.strategies import ANY_EVENT
from tests.session.driving import (
    OWNER,
    SESSION,
    Driven,
    answered,
    answers,
    asks,
    blocks,
    by_hand,
    cause_of,
    deferred,
    result,
    say,
    started,
)
from tests.session.invariants import audit

Drawn = TypeVar("Drawn")

TEXTS = st.sampled_from(["one", "two", "three", "four", "five", "six"])
QUESTIONS = st.sampled_from(["q_1", "q_2", "q_3"])
WORKERS = st.sampled_from(["worker-1", "worker-2", "worker-3"])
MODES = st.sampled_from(["queue", "interrupt", "reject"])
SAID = st.sampled_from([None, None, "half a sentence"])
BUDGETS = st.builds(
    Budget,
    st.none() | st.integers(1, 4),
    st.none() | st.integers(0, 4),
    st.none() | st.integers(1, 60),
    st.none() | st.integers(1, 100),
)
TOOLS = st.sampled_from(["read", "write", "once", "reconciled", "after"])
AGENTS = ["helper", "helper", "helper", None]
SEVERAL = st.lists(TOOLS, min_size=1, max_size=4)
STEPS_TO_THE_END_MAX = 200


class Workers(RuleBasedStateMachine):
    """One session, and whatever workers and time tell it. `told` are inputs that made something true."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven()
        self.told: list[Input] = []
        self.reports = 0

    def give(self, given: Input) -> tuple[Event, ...]:
        """Give an input, checking that deciding has no memory of its own."""
        before = self.driven.session
        assert decide(before, given, self.driven.now) == decide(before, given, self.driven.now)
        events = self.driven.give(given)
        if events and not isinstance(given, Spoke | TakeOver):
            self.told.append(given)
        return events

    def one_of(self, data: st.DataObject, drawn: list[Drawn]) -> Drawn:
        return data.draw(st.sampled_from(drawn))

    def a_run(self, data: st.DataObject) -> RunId:
        session = self.driven.session
        known = [RunId("run_unknown"), *session.runs, *(one.run_id for one in session.waiting)]
        if session.run is not None:
            known += [session.run.run_id] * 4
        return self.one_of(data, known)

    def a_place(self, data: st.DataObject) -> tuple[RunId, int, int]:
        """A place that may be the current one, and may be stale or of no run at all."""
        run = self.driven.session.run
        if run is not None and data.draw(st.integers(0, 3)):
            return (run.run_id, run.step, run.attempt)
        return (self.a_run(data), data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)))

    def a_call(self, data: st.DataObject) -> CallId:
        ever = [event.call_id for event in self.driven.events if isinstance(event, ToolCall)]
        still = [call.call_id for call in self.driven.session.open_calls]
        return self.one_of(data, [CallId("call_unknown"), *ever, *still * 3])

    def asked(self, request: StartSession | CancelRun | CloseSession, *, said: str | None = None) -> Asked:
        return Asked(request, OWNER, self.driven.snapshot(), blocks(said))

    # --- what workers do ---

    @precondition(lambda self: self.driven.session.run is not None)
    @rule(data=st.data())
    def result(self, data: st.DataObject) -> None:
        self.reports += 1
        status = self.one_of(data, ["ok", "error", "timeout", "cancelled", 'a "strange" one'])
        self.give(result(self.a_call(data), f"report-{self.reports}", status))

    @precondition(lambda self: self.driven.session.open_calls)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        self.reports += 1
        place = (f"report-{self.reports}", SESSION, self.a_call(data), "lease")
        report: Report = self.one_of(
            data,
            [
                started(place[2], place[0]).report,
                Heartbeat(*place[1:], "worker-1"),
                ReportProgress(*place, 0.5),
                ReportChunk(*place, Json("[1]")),
                ReportRetry(*place, 1, 100, Failure("e", "m")),
                deferred(place[2], place[0], seconds=data.draw(st.integers(0, 60))).report,
                asks(place[2], place[0], f"{data.draw(QUESTIONS)}:{place[2]}").report,
                started(place[2], place[0], data.draw(WORKERS), claim=True).report,
            ],
        )
        self.give(Reported(report))

    @precondition(lambda self: self.driven.session.unheard)
    @rule(data=st.data(), status=st.sampled_from(["ok", "error", "cancelled"]))
    def come_late(self, data: st.DataObject, status: str) -> None:
        self.reports += 1
        call = self.one_of(data, sorted(self.driven.session.unheard))
        self.give(result(call, f"report-{self.reports}", status))

    @precondition(lambda self: any(call.worker for call in self.driven.session.open_calls))
    @rule(data=st.data())
    def fall_silent(self, data: st.DataObject) -> None:
        self.driven.give(FellSilent(self.a_call(data)))  # told again it may be of the next worker

    @precondition(lambda self: any(call.pending for call in self.driven.session.open_calls))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        self.give(Expired(self.a_call(data)))

    @precondition(lambda self: any(call.question for call in self.driven.session.open_calls))
    @rule(data=st.data(), number=st.integers(0, 10_000))
    def answer_question(self, data: st.DataObject, number: int) -> None:
        # A worker makes a question's id of the call's: no two calls ask under one.
        question = f"{data.draw(QUESTIONS)}:{self.a_call(data)}"
        self.driven.give(answers(question, f"answer-{number}"))  # the same answer may be one to the next question

    @precondition(lambda self: len(self.driven.events) % 3 == 0)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.give(GaveUp(self.a_call(data), "no worker"))

    # --- what time and chance do ---

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds: int) -> None:
        self.driven.now += seconds * 1_000_000

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def the_same_again(self, data: st.DataObject) -> None:
        """Every input may be delivered twice, however much later: what it made true, it made true once."""
        given = self.one_of(data, self.told)
        assert self.driven.give(given) == ()

    # --- what holds ---

    @invariant()
    def the_log_is_well_formed(self) -> None:
        causes = [cause for _, _, cause in self.driven.log]
        audit(self.driven.events, self.driven.session, self.driven.budget, causes)

    @invariant()
    def folding_the_log_gives_the_live_state(self) -> None:
        state = empty(SESSION)
        for event, at, cause in self.driven.log:
            state = apply(state, event, at=at, cause=cause)
        assert state == self.driven.session

    @invariant()
    def the_next_owner_can_bring_everything_to_an_end(self) -> None:
        if not self.driven.session.started:
            return
        next_one = Driven(self.driven.session, self.driven.now, self.driven.budget, list(self.driven.log))
        next_one.give(TakeOver("owner-next"))
        finish(next_one)
        found = audit(next_one.events, next_one.session, self.driven.budget)
        assert found.going is None and not found.waiting


class Sessions(Workers):
    """One session, and whatever can be told to it."""

    @initialize(budget=BUDGETS)
    def begin(self, budget: Budget) -> None:
        self.driven.budget = budget

    # --- what people do ---

    @rule(text=st.none() | TEXTS, agent=st.sampled_from(AGENTS))
    def start(self, text: str | None, agent: str | None) -> None:
        snapshot = None if agent is None else Snapshot(agent, "v1", "scripted", self.driven.budget)
        message = None if text is None else say(text)
        self.give(Asked(StartSession(f"start-{text}", SESSION, agent, Json("{}"), message), OWNER, snapshot))

    @rule(text=TEXTS, mode=MODES, said=SAID)
    def say(self, text: str, mode: str, said: str | None) -> None:
        self.give(Asked(say(text, mode), OWNER, self.driven.snapshot(), blocks(said)))

    @precondition(lambda self: len(self.driven.events) % 4 == 0)  # so that runs get somewhere between two of them
    @rule(data=st.data(), number=st.integers(0, 10_000), said=SAID)
    def cancel_one(self, data: st.DataObject, number: int, said: str | None) -> None:
        self.give(self.asked(CancelRun(f"cancel-{number}", SESSION, self.a_run(data), "user"), said=said))

    @precondition(lambda self: len(self.driven.events) % 4 == 1)
    @rule(number=st.integers(0, 10_000), said=SAID)
    def cancel_all(self, number: int, said: str | None) -> None:
        self.give(self.asked(CancelRun(f"cancel-{number}", SESSION, None, "user"), said=said))

    @precondition(lambda self: len(self.driven.events) < 6)
    @rule(name=st.sampled_from(["read", "write", "once"]), refusal=st.none() | st.just("no such tool"))
    def call_by_hand(self, name: str, refusal: str | None) -> None:
        self.give(by_hand(name, refusal=refusal))

    @rule(sure=st.integers(0, 9), said=SAID)
    def close(self, sure: int, said: str | None) -> None:
        if sure == 0:
            self.give(self.asked(CloseSession("close", SESSION, "done"), said=said))

    # --- what owners and the model do ---

    @precondition(lambda self: self.driven.session.started and len(self.driven.events) % 3 == 0)
    @rule(number=st.integers(2, 4))
    def take_over(self, number: int) -> None:
        self.give(TakeOver(f"owner-{number}"))

    @rule(data=st.data())
    def speak(self, data: st.DataObject) -> None:
        pieces: list[TextDelta | Thinking | ToolInputDelta] = []
        for _ in range(data.draw(st.integers(1, 3))):
            place = self.a_place(data)
            piece = self.one_of(
                data, [TextDelta(*place, "x"), Thinking(*place, "y"), ToolInputDelta(*place, CallId("c"), "{")]
            )
            pieces.append(piece)
        self.give(Spoke(tuple(pieces)))

    @precondition(lambda self: self.driven.session.run is not None)
    @rule(calls=st.lists(TOOLS, max_size=3), refused=st.integers(0, 2))
    def answer(self, calls: list[str], refused: int) -> None:
        self.give(answered(self.driven.run, "hello", calls, ["no_tool"] * refused))

    @rule(data=st.data(), retryable=st.booleans(), after=st.none() | st.integers(-5, 100_000))
    def break_(self, data: st.DataObject, retryable: bool, after: int | None) -> None:
        self.give(Broke(*self.a_place(data), Failure("overloaded", "busy"), retryable, after))

    @rule(data=st.data())
    def retry_due(self, data: st.DataObject) -> None:
        self.give(RetryDue(*self.a_place(data)))

    @rule(data=st.data(), sure=st.integers(0, 3))
    def out_of_time(self, data: st.DataObject, sure: int) -> None:
        if sure == 0:
            self.give(OutOfTime(self.a_run(data)))


class Calls(Workers):
    """A session whose model has just asked for calls, or that is a call by hand: most of what happens is about them."""

    @initialize(
        budget=st.just(Budget()) | st.just(Budget(wall_seconds=100)), calls=st.lists(TOOLS, min_size=1, max_size=4)
    )
    def begin(self, budget: Budget, calls: list[str]) -> None:
        self.driven.budget = budget
        if len(calls) == 1 and calls[0] in ("read", "write", "once"):
            self.give(by_hand(calls[0]))
        else:
            self.driven.start("one")
            self.give(answered(self.driven.run, "hello", calls))

    @rule(number=st.integers(2, 4))
    def take_over(self, number: int) -> None:
        self.give(TakeOver(f"owner-{number}"))

    @precondition(lambda self: len(self.driven.events) % 7 == 0)
    @rule(number=st.integers(0, 10_000))
    def cancel_all(self, number: int) -> None:
        self.give(self.asked(CancelRun(f"cancel-{number}", SESSION, None, "user")))


def finish(driven: Driven) -> None:  # noqa: C901 - one arm an effect
    """Do what is pending, without any fault, until nothing is."""
    for number in range(STEPS_TO_THE_END_MAX):
        effects = pending(driven.session)
        for question in [call.question for call in driven.session.open_calls if call.question]:
            assert driven.give(answers(question, f"last-{number}-{question}"))
            effects = pending(driven.session)
        if not effects:
            return
        for effect in effects:
            match effect:
                case CallModel():
                    assert driven.run.phase == Calling()
                    assert driven.give(answered(driven.run, "the end"))
                case WaitForRetry(run_id, step, attempt, until):
                    driven.now = max(driven.now, until)
                    assert driven.give(RetryDue(run_id, step, attempt))
                case Dispatch(call):
                    assert driven.give(result(call.call_id, f"last-{number}-{call.call_id}"))
                case WatchCall(call):
                    assert driven.give(FellSilent(call.call_id))
                case AwaitResult(call, until):
                    driven.now = max(driven.now, until)
                    assert driven.give(Expired(call.call_id))
                case GiveUp(call, message):
                    assert driven.give(GaveUp(call.call_id, message))
                case WatchTime(_, until):
                    assert until > 0
    raise AssertionError("it does not come to an end")


Sessions.TestCase.settings = settings(max_examples=80, stateful_step_count=35, deadline=None)
TestSessions = Sessions.TestCase
Calls.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestCalls = Calls.TestCase


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ANY_EVENT, st.integers(0, 2**50), st.none() | st.text(max_size=4)), max_size=25))
def test_folding_refuses_nothing_that_happened_whatever_came_before(log: list[tuple[Event, int, str | None]]):
    state = empty(SESSION)
    for event, at, cause in log:
        state = apply(state, event, at=at, cause=cause)
        pending(state)
        assert state.status in ("idle", "running", "waiting", "closed")


NAMES = st.sampled_from(["a", "b"])


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY_EVENT, max_size=25), st.data())
def test_deciding_on_top_of_any_log_at_all_refuses_nothing(events: list[Event], data: st.DataObject):
    # A log written by another version, or damaged and repaired by hand, must not kill whoever owns it.
    state = empty(SESSION)
    for event in events:
        # Few runs, so that events meet: chance alone would give each its own.
        near = replace(event, run_id=data.draw(NAMES)) if hasattr(event, "run_id") else event
        state = apply(state, near, at=1, cause=None)
    run = state.run
    inputs: list[Input] = [
        TakeOver("o"),
        Asked(say("x", "interrupt"), OWNER, None),
        Asked(CancelRun("c", SESSION, None, "r"), OWNER, None),
        Asked(CloseSession("d", SESSION, "r"), OWNER, None),
    ]
    if run is not None:
        place = (run.run_id, run.step, run.attempt)
        inputs += [
            answered(run, "t", ["tool"]),
            Broke(*place, Failure("c", "m"), retryable=True),
            RetryDue(*place),
            OutOfTime(run.run_id),
        ]
    for given_input in inputs:
        for event in decide(state, given_input, 5):
            state = apply(state, event, at=5, cause=cause_of(given_input))


def test_fold_is_apply_with_what_the_stamp_says():
    driven = Driven()
    driven.start("one")
    state: Session = empty(SESSION)
    for number, (event, at, cause) in enumerate(driven.log, start=1):
        state = fold(state, Stamped(Stamp(SESSION, Seq(number), 1, b"", cause, at, None), event))  # pyright: ignore[reportArgumentType] - a hash that nobody looks at
    assert state == driven.session


@pytest.mark.parametrize("kind", [RunCompleted, RunFailed, RunCancelled], ids=lambda kind: kind.__name__)
def test_the_machine_reaches_every_way_for_a_run_to_end(kind: type[Event]):
    driven = Driven(budget=Budget(steps=1))
    driven.start("one")
    if kind is RunCompleted:
        driven.answer("hello")
    elif kind is RunFailed:
        driven.break_("refused", retryable=False)
    else:
        driven.cancel()
    assert isinstance(driven.events[-1], kind)
    audit(driven.events, driven.session, driven.budget)


def test_an_answer_is_an_input_and_leaves_no_trace_twice():
    driven = Driven()
    driven.start("one")
    given_input: Answered = answered(driven.run, "hello")
    assert driven.give(given_input)
    assert driven.give(given_input) == ()
