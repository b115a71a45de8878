"""Drives the session machine as an owner does: decide, stamp, fold. Also builds inputs that fit a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from playhead.commands import (
    AnswerQuestion,
    CallTool,
    CancelRun,
    CloseSession,
    ReportPending,
    ReportQuestion,
    ReportResult,
    ReportStarted,
    Say,
    StartSession,
)
from playhead.events import Budget, Event, Failure, Json, Usage
from playhead.ids import CallId, SessionId, call_id, message_id, run_id
from playhead.session import (
    Answered,
    Asked,
    Broke,
    Input,
    PlannedCall,
    Reported,
    Run,
    Session,
    Snapshot,
    TakeOver,
    apply,
    decide,
    empty,
)

SESSION = SessionId("ses_drive222222222222222222222")
OWNER = "owner-1"
SECOND = 1_000_000
USAGE = Usage(10, 5, 2, 1)


def cause_of(given: Input) -> str | None:
    """Name the input, as an owner does: by the id of its request or report."""
    match given:
        case Asked(request):
            return request.request_id
        case Reported(report):
            return getattr(report, "report_id", None)
        case _:
            return None


@dataclass
class Driven:
    """A session and all that happened in it."""

    session: Session = field(default_factory=lambda: empty(SESSION))
    now: int = 1_760_000_000_000_000
    budget: Budget = Budget()
    log: list[tuple[Event, int, str | None]] = field(default_factory=list[tuple[Event, int, "str | None"]])

    def give(self, given: Input) -> tuple[Event, ...]:
        """Give an input at the present moment; return what it made true."""
        events = decide(self.session, given, self.now)
        for event in events:
            self.log.append((event, self.now, cause_of(given)))
            self.session = apply(self.session, event, at=self.now, cause=cause_of(given))
        return events

    @property
    def events(self) -> list[Event]:
        """All that happened."""
        return [event for event, _, _ in self.log]

    @property
    def run(self) -> Run:
        """The run that is going."""
        assert self.session.run is not None
        return self.session.run

    def snapshot(self) -> Snapshot:
        return Snapshot("helper", "v1", "scripted", self.budget)

    def start(
        self, text: str | None = None, *, agent: Snapshot | None = None, served: bool = True
    ) -> tuple[Event, ...]:
        """Begin the session, perhaps with a message."""
        message = None if text is None else say(text)
        request = StartSession("start", SESSION, None, Json("{}"), message)
        return self.give(Asked(request, OWNER, (agent or self.snapshot()) if served else None))

    def say(self, text: str, mode: str = "queue", said: str | None = None) -> tuple[Event, ...]:
        """Say something; `said` is what the attempt in flight had brought."""
        return self.give(Asked(say(text, mode), OWNER, self.snapshot(), blocks(said)))

    def cancel(self, which: str | None = None, *, said: str | None = None, key: str = "c") -> tuple[Event, ...]:
        """Cancel the run that answers the text `which`, or all."""
        request = CancelRun(f"cancel-{key}", SESSION, None if which is None else say(which).run_id, "user")
        return self.give(Asked(request, OWNER, self.snapshot(), blocks(said)))

    def close(self) -> tuple[Event, ...]:
        """Close the session."""
        return self.give(Asked(CloseSession("close", SESSION, "done"), OWNER, self.snapshot()))

    def answer(self, text: str = "", calls: Sequence[str] = (), refused: Sequence[str] = ()) -> tuple[Event, ...]:
        """Answer the model call in flight, asking for the tools named in `calls` and then those in `refused`."""
        return self.give(answered(self.run, text, calls, refused))

    def break_(
        self, code: str = "overloaded", *, retryable: bool = True, after: int | None = None
    ) -> tuple[Event, ...]:
        """Break the model call in flight."""
        run = self.run
        error = Failure(code, f"it said {code}")
        return self.give(Broke(run.run_id, run.step, run.attempt, error, retryable, after))

    def driven_by(self, owner: str) -> tuple[Event, ...]:
        """Let another owner take over."""
        return self.give(TakeOver(owner))

    def result(
        self, index: int = 0, *, status: str = "ok", output: str = '"done"', report: str = "r"
    ) -> tuple[Event, ...]:
        """Report the result of one of the open calls."""
        call = self.session.open_calls[index]
        return self.give(result(call.call_id, f"{report}-{call.call_id}", status, output))


def say(text: str, mode: str = "queue") -> Say:
    """Make the request to say something; one text is one message, however often it is sent."""
    message = message_id(SESSION, text)
    return Say(f"say-{text}", SESSION, message, run_id(SESSION, message), Json(orjson.dumps(text).decode()), mode)


def blocks(said: str | None) -> Json | None:
    return None if said is None else Json(orjson.dumps([{"type": "text", "text": said}]).decode())


def answered(run: Run, text: str = "", calls: Sequence[str] = (), refused: Sequence[str] = ()) -> Answered:
    """Make the answer of a run's model call in flight, its message and calls as the orchestrator makes them."""
    ids = [call_id(SESSION, run.run_id, run.step, index) for index in range(len(calls) + len(refused))]
    planned = tuple(
        PlannedCall(
            ids[index],
            name,
            Json("{}"),
            name if name in ("once", "write") else "once" if name == "reconciled" else "read",
            "pool",
            None if index < len(calls) else f"there is no tool named {name}",
            waits_for=tuple(ids[:index]) if name == "after" else (),
            reconciles=name == "reconciled",
        )
        for index, name in enumerate((*calls, *refused))
    )
    said: list[dict[str, object]] = [{"type": "text", "text": text}] if text else []
    uses: list[dict[str, object]] = [
        {"type": "tool_use", "id": one.call_id, "name": one.name, "input": {}} for one in planned
    ]
    message = Json(orjson.dumps({"role": "assistant", "content": said + uses}).decode())
    place = (run.run_id, run.step, run.attempt)
    return Answered(*place, message, text, planned, USAGE, "tool_use" if planned else "end_turn", 12)


def started(call: CallId, report: str, worker: str = "worker-1", *, claim: bool = False) -> Reported:
    return Reported(ReportStarted(report, SESSION, call, "lease", worker, claim))


def deferred(call: CallId, report: str, seconds: int = 60) -> Reported:
    return Reported(ReportPending(report, SESSION, call, "lease", seconds * 1000, "later"))


def asks(call: CallId, report: str, question: str = "q_1", state: str | None = '{"n":1}') -> Reported:
    kept = None if state is None else Json(state)
    return Reported(ReportQuestion(report, SESSION, call, "lease", question, Json('"really?"'), None, kept))


def answers(question: str, request: str = "answer", content: str = '"yes"') -> Asked:
    return Asked(AnswerQuestion(request, SESSION, question, Json(content), "somebody"), OWNER)


def by_hand(name: str = "read", *, refusal: str | None = None, request: str = "call") -> Asked:
    """Make the request for a call by hand, planned as the orchestrator plans it."""
    message = message_id(SESSION, request)
    run = run_id(SESSION, message)
    planned = PlannedCall(call_id(SESSION, run, 0, 0), name, Json('{"a":1}'), name, "pool", refusal)
    return Asked(CallTool(request, SESSION, message, run, name, Json('{"a":1}')), OWNER, planned=planned)


def result(call: CallId, report: str, status: str = "ok", output: str = '"done"') -> Reported:
    return Reported(ReportResult(report, SESSION, call, "lease", status, Json(output), 7))
