"""What must hold of every log that the session machine writes, and of the state that it leads to (DESIGN, section 8).

Written from the rules, not from the machine: nothing here calls `decide`, and `fold` is only compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from playhead.events import (
    Budget,
    Event,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    OwnerChanged,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SessionClosed,
    SessionStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolInputDelta,
    ToolPending,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    ToolResultLate,
    ToolRetry,
    ToolStarted,
    UserMessage,
)
from playhead.session import AwaitResult, Dispatch, GiveUp, OpenCall, Session, WatchCall, may_start, pending

Place = tuple[str, int, int]


@dataclass
class Audit:
    """Reads a log event by event and objects to the first that may not be where it is."""

    budget: Budget
    waiting: list[str] = field(default_factory=list[str])
    going: str | None = None
    ended: dict[str, str] = field(default_factory=dict[str, str])
    attempt: Place | None = None
    calling: bool = False
    completed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    open_calls: dict[str, Place] = field(default_factory=dict[str, Place])
    effects: dict[str, str] = field(default_factory=dict[str, str])
    blocked: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    begun: set[str] = field(default_factory=set[str])
    outside: set[str] = field(default_factory=set[str])
    asking: dict[str, str] = field(default_factory=dict[str, str])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    lost: set[str] = field(default_factory=set[str])
    causes: set[tuple[str, str | None, str]] = field(default_factory=set[tuple[str, "str | None", str]])
    by_hand: set[str] = field(default_factory=set[str])
    failed: dict[str, Place] = field(default_factory=dict[str, Place])
    settled: set[str] = field(default_factory=set[str])
    calls_run: int = 0
    tokens: int = 0
    epoch: int = 0
    last: Event | None = None

    def read(self, event: Event, cause: str | None = None) -> None:  # noqa: C901, PLR0912 - one arm an event
        """Check one event, and the input that it came of. Raises `AssertionError`."""
        self._check_cause(event, cause)
        assert not isinstance(self.last, SessionClosed), f"{event} after the session was closed"
        assert (self.last is None) == isinstance(event, SessionStarted), "a log begins with its session, once"
        run = getattr(event, "run_id", None)
        assert run not in self.ended or isinstance(event, ToolResultLate), f"{event} after its run has ended"
        match event:
            case SessionStarted():
                pass
            case OwnerChanged():
                assert event.epoch == self.epoch + 1
                self.epoch = event.epoch
            case UserMessage():
                assert run not in self.waiting and run != self.going, "a message is said once"
                self.waiting.append(event.run_id)
            case SessionClosed():
                assert self.going is None and not self.waiting, "a closed session left something unended"
            case RunStarted():
                self._run_started(event)
            case RunCompleted() | RunFailed() | RunCancelled():
                self._run_ended(event)
            case ModelCallStarted() | ModelCallCompleted() | ModelCallFailed() | ModelCallAbandoned():
                self._model_call(event)
            case TextDelta() | Thinking() | ToolInputDelta():
                assert self.calling and self.attempt == place_of(event), "a piece of an attempt that is not in flight"
            case ToolCall():
                self._tool_called(event)
            case ToolResult():
                assert event.call_id in self.open_calls, "a result without a call, or a second one"
                assert self.open_calls.pop(event.call_id) == place_of(event)
                self.settled.add(event.call_id)
                self.outside.discard(event.call_id)
                self.asking.pop(event.call_id, None)
                if event.status not in ("ok", "fallback"):
                    self.failed[event.call_id] = place_of(event)
                self.calls_run += event.status != "denied" and event.call_id not in self.by_hand
                self._check_calls()
            case ToolResultLate():
                assert self.failed[event.call_id] == place_of(event), "something came late of a call that had worked"
                if event.status in ("ok", "fallback"):
                    del self.failed[event.call_id]
            case ToolStarted() | ToolProgress() | ToolResultChunk() | ToolRetry() | ToolPending():
                assert self.open_calls[event.call_id] == place_of(event), "a report about a call that is not open"
                self._reported(event)
            case QuestionAsked(call_id=str(call)):
                assert self.open_calls[call] == place_of(event) and call not in self.asking, "two questions at once"
                assert call not in self.outside, "a question while the result comes from outside"
                self.asking[call] = event.question_id
                self.begun.discard(call)
                self.lost.discard(call)
            case QuestionAnswered():
                calls = [call for call, question in self.asking.items() if question == event.question_id]
                assert len(calls) == 1, "an answer to nothing that was asked"
                del self.asking[calls[0]]
                self.answers[calls[0]] = event.content
            case _:
                assert run is None or run == self.going
        self.last = event

    def _reported(self, event: ToolStarted | ToolProgress | ToolResultChunk | ToolRetry | ToolPending) -> None:
        call = event.call_id
        match event:
            case ToolStarted():
                assert call not in self.asking and call not in self.outside, "nobody was to run it"
                assert self.effects[call] != "once" or call not in self.begun, "a call that starts once started again"
                self.begun.add(call)
            case ToolRetry(delivery=int()):
                assert call in self.begun and call not in self.outside, "a call was lost that nobody had"
                if self.effects[call] == "once":
                    self.lost.add(call)  # from here on it is only looked into
                else:
                    self.begun.discard(call)
            case ToolPending():
                assert call not in self.asking and call not in self.outside, "it is waited for already"
                self.outside.add(call)
            case _:
                pass

    def _check_cause(self, event: Event, cause: str | None) -> None:
        """Check that what a worker says is in the log once, however often it says it."""
        call = getattr(event, "call_id", None)
        if cause is None or not isinstance(call, str) or isinstance(event, ToolCall | ToolInputDelta):
            return
        kind = "result" if isinstance(event, ToolResult | ToolResultLate) else type(event).__name__
        assert (call, cause, kind) not in self.causes, f"{event} came of {cause} before"
        self.causes.add((call, cause, kind))

    def _run_started(self, event: RunStarted) -> None:
        assert self.going is None, "two runs at once"
        assert event.run_id in self.waiting, "a run that nobody asked for"
        just_said = isinstance(self.last, UserMessage) and self.last.run_id == event.run_id
        assert just_said or self.waiting[0] == event.run_id, "a run overtook an earlier message"
        self.waiting.remove(event.run_id)
        self.going, self.attempt, self.calls_run, self.tokens = event.run_id, None, 0, 0

    def _run_ended(self, event: RunCompleted | RunFailed | RunCancelled) -> None:
        assert event.run_id == self.going or event.run_id in self.waiting
        self.ended[event.run_id] = type(event).__name__
        if event.run_id != self.going:
            self.waiting.remove(event.run_id)
            return
        assert not self.open_calls, "a run ended with a call that has no result"
        assert not self.calling, "a run ended with a model call in flight"
        self.going = None

    def _model_call(self, event: ModelCallStarted | ModelCallCompleted | ModelCallFailed | ModelCallAbandoned) -> None:
        assert event.run_id == self.going
        if not isinstance(event, ModelCallStarted):
            assert self.calling and self.attempt == place_of(event), "the end of an attempt that is not in flight"
            self.calling = False
            if isinstance(event, ModelCallCompleted):
                assert (event.run_id, event.step) not in self.completed, "a step has one accepted message"
                self.completed.add((event.run_id, event.step))
                self.tokens += event.usage.tokens
            return
        assert not self.calling and not self.open_calls, "a model call while something else is under way"
        before = self.attempt
        if before is None:
            assert (event.step, event.attempt) == (1, 1)
        elif (event.run_id, before[1]) in self.completed:
            assert (event.step, event.attempt) == (before[1] + 1, 1)
            assert self.budget.tokens is None or self.tokens < self.budget.tokens, "past the budget of tokens"
        else:
            assert (event.step, event.attempt) == (before[1], before[2] + 1)
        assert self.budget.steps is None or event.step <= self.budget.steps, "past the budget of steps"
        self.attempt, self.calling = place_of(event), True

    def _tool_called(self, event: ToolCall) -> None:
        if event.step == 0:
            assert self.attempt is None and event.run_id == self.going, "a call by hand in the middle of a run"
            self.by_hand.add(event.call_id)
        else:
            assert self.attempt == place_of(event) and not self.calling
            assert (event.run_id, event.step) in self.completed, "a call before its message"
        assert event.call_id not in self.settled and event.call_id not in self.open_calls, "a call happens once"
        self.open_calls[event.call_id] = place_of(event)
        self.effects[event.call_id] = event.effect
        self.blocked[event.call_id] = set(event.waits_for)

    def _check_calls(self) -> None:
        assert self.budget.calls is None or self.calls_run <= self.budget.calls, "past the budget of calls"


def place_of(event: Any) -> Place:
    return (event.run_id, event.step, event.attempt)


def audit(
    events: Sequence[Event], session: Session, budget: Budget, causes: Sequence[str | None] | None = None
) -> Audit:
    """Check a whole log, of events and their `causes`, and that the state agrees with it. Raises `AssertionError`."""
    found = Audit(budget)
    for event, cause in zip(events, causes or [None] * len(events), strict=True):
        found.read(event, cause)
    run = session.run
    assert (None if run is None else run.run_id) == found.going
    assert [one.run_id for one in session.waiting] == found.waiting
    assert set(session.runs) == set(found.ended)
    assert {call.call_id for call in session.open_calls} == set(found.open_calls)
    made = len(found.open_calls.keys() - found.by_hand) + found.calls_run
    assert budget.calls is None or made <= budget.calls or run is None
    check_effects(found, session)
    assert run is not None or not session.waiting, "a message waits and nothing goes on"
    assert session.epoch == found.epoch
    assert session.closed == isinstance(found.last, SessionClosed)
    check_conversation(session, found.by_hand)
    return found


def check_effects(found: Audit, session: Session) -> None:
    """Check what is to be done, and what the session says that it is doing. Raises `AssertionError`."""
    effects = pending(session)
    free = {call for call in found.open_calls if not found.blocked[call] & found.open_calls.keys()}
    about = {
        effect.call.call_id for effect in effects if isinstance(effect, Dispatch | WatchCall | AwaitResult | GiveUp)
    }
    assert about == free - found.asking.keys(), "every call that nothing holds up is seen to, and no other"
    for call in session.open_calls:
        check_call(found, call)
    waits = bool(free) and free <= found.asking.keys() | found.outside
    going = found.going is not None
    only_users = bool(found.open_calls) and free <= found.asking.keys() and session.budget.wall_seconds is None
    assert bool(effects) == (going and not only_users), "something is pending exactly while a run is going"
    status = "closed" if session.closed else "waiting" if waits else "running" if going else "idle"
    assert session.status == status


def check_call(found: Audit, call: OpenCall) -> None:
    """Check what a call brings to whoever is handed it, and who may begin with it. Raises `AssertionError`."""
    name = call.call_id
    if name not in found.asking:
        answered = None if call.answer is None else orjson.loads(call.answer)["content"]
        assert answered == (orjson.loads(found.answers[name]) if name in found.answers else None)
    assert call.is_lost == (name in found.lost)
    nobody = name in found.lost or name in found.asking or name in found.outside
    assert not (nobody and call.claim is not None and may_start(call, call.claim)), "nobody is to run it"
    assert not may_start(call, "stranger") or (call.effect != "once" and not nobody)


def check_conversation(session: Session, by_hand: set[str]) -> None:
    """Check that a provider would take the conversation: every tool use is answered before anything else is said."""
    owed: list[str] = []
    for message in session.messages:
        content = orjson.loads(message.content)
        if message.role == "tool":
            assert content["type"] == "tool_result"
            if content["tool_use_id"] in by_hand:
                continue  # no model asked for it, and none is told
            assert content["tool_use_id"] in owed, "a result that nothing asked for, or a second one"
            owed.remove(content["tool_use_id"])
            continue
        assert not owed, f"{message.role} speaks while {owed} have no result"
        if message.role == "assistant":
            owed = [block["id"] for block in content if block["type"] == "tool_use"]
            assert len(owed) == len(set(owed))
    assert sorted(owed) == sorted(call.call_id for call in session.open_calls if call.call_id not in by_hand)
