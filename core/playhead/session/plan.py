"""The facts that one decision makes true, gathered in order, each seeing the state that those before it lead to."""

from __future__ import annotations

from playhead.events import (
    Event,
    Failure,
    FinalResponse,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallStarted,
    RunCompleted,
    RunFailed,
    RunStarted,
    ToolResult,
    Usage,
)
from playhead.ids import MessageId, digest
from playhead.session.fold import SUCCEEDED, apply
from playhead.session.state import Calling, OpenCall, Run, Session

__all__ = ["Plan", "result_of"]

OUTPUT_CHARS_MAX = 2_000
"""How much of a result a failed run's message repeats."""


class Plan:
    """The facts so far and the state that they lead to. Local to one `decide`."""

    def __init__(self, session: Session, now: int) -> None:
        self.session = session
        self.now = now
        self.events: list[Event] = []

    @property
    def last_result(self) -> ToolResult | None:
        """The last result among the facts so far."""
        return next((event for event in reversed(self.events) if isinstance(event, ToolResult)), None)

    @property
    def run(self) -> Run | None:
        """The run that is going, as the facts so far leave it."""
        return self.session.run

    def add(self, *events: Event) -> None:
        """Make facts true."""
        for event in events:
            self.events.append(event)
            self.session = apply(self.session, event, at=self.now, cause=None)

    def call_model(self, run: Run, *, step: int, attempt: int) -> None:
        """Start an attempt at a step."""
        model = self.session.model
        self.add(ModelCallStarted(run.run_id, step, attempt, model, model.partition(":")[0]))

    def fail(self, code: str, message: str) -> None:
        """End the run that is going as failed, and go on with the next."""
        self.stop("cancelled", None)
        if self.run is not None:
            self.add(RunFailed(self.run.run_id, Failure(code, message)))
        self.start_next()

    def stop(self, stop_reason: str, said: Json | None) -> None:
        """Stop what the run is doing so that it can end: keep what was said, leave no call without a result."""
        run = self.run
        if run is None:
            return
        if isinstance(run.phase, Calling):
            place = (run.run_id, run.step, run.attempt)
            if said is None or said == "[]":
                self.add(ModelCallAbandoned(*place, stop_reason))
            else:
                message = Json(f'{{"role":"assistant","content":{said}}}')
                self.add(ModelCallCompleted(*place, message, Usage(), stop_reason, 0))
        for call in run.open_calls:
            self.add(result_of(call, "cancelled", Json('"cancelled before it finished"'), 0))

    def start_next(self) -> None:
        """Start the run of the message that has waited longest, if none is going."""
        while self.run is None and self.session.waiting and not self.session.closed:
            waiting = self.session.waiting[0]
            self.add(RunStarted(waiting.run_id, waiting.message_id))
            assert self.run is not None
            if self.session.model:
                self.call_model(self.run, step=1, attempt=1)
            else:
                agent = self.session.agent
                advice = f"no agent named {agent!r} is served here; GET /v1/agents lists those that are"
                self.add(RunFailed(waiting.run_id, Failure("unknown_agent", advice)))

    def next_step(self) -> None:
        """Call the model again, or end the run if its budget is used up."""
        run, budget = self.run, self.session.budget
        if run is None:
            return
        if run.step == 0:
            self.end_by_hand()
        elif budget.steps is not None and run.step >= budget.steps:
            self.fail("budget_steps", f"the run has used all of its {budget.steps} steps")
        elif budget.tokens is not None and run.usage.tokens >= budget.tokens:
            self.fail("budget_tokens", f"the run has used {run.usage.tokens} of its {budget.tokens} tokens")
        else:
            self.call_model(run, step=run.step + 1, attempt=1)

    def end_by_hand(self) -> None:
        """End a run that was one call, made by hand, with what came of it."""
        run, last = self.run, self.last_result
        if run is None:
            return
        if last is not None and last.status in SUCCEEDED:
            answer = MessageId(f"msg_{digest('answer', run.run_id)}")
            self.add(FinalResponse(run.run_id, last.output, answer), RunCompleted(run.run_id, run.usage))
        else:
            status, output = ("unknown", "") if last is None else (last.status, last.output[:OUTPUT_CHARS_MAX])
            self.add(RunFailed(run.run_id, Failure(f"tool_{status}", output)))
        self.start_next()


def result_of(call: OpenCall, status: str, output: Json, elapsed_ms: int) -> ToolResult:
    """End a call."""
    return ToolResult(call.run_id, call.step, call.attempt, call.call_id, status, output, elapsed_ms)
