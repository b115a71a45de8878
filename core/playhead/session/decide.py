"""From an input to the facts that it makes true. An input that changes nothing any more gives none."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import assert_never

import orjson

from playhead.commands import AnswerQuestion, CallTool, CancelRun, CloseSession, Say, StartSession
from playhead.events import (
    Event,
    Failure,
    FinalResponse,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    OwnerChanged,
    QuestionAnswered,
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
    ToolResult,
    UserMessage,
)
from playhead.ids import MessageId, RunId, digest
from playhead.session.hearing import expired, fell_silent, gave_up, reported
from playhead.session.inputs import (
    Answered,
    Asked,
    Broke,
    Expired,
    FellSilent,
    GaveUp,
    Input,
    OutOfTime,
    PlannedCall,
    Reported,
    RetryDue,
    Spoke,
    TakeOver,
)
from playhead.session.plan import Plan
from playhead.session.state import BackingOff, Calling, Run, RunningTools, Session

__all__ = ["ABANDONED_MAX", "ATTEMPTS_MAX", "WAITING_MAX", "decide"]

ATTEMPTS_MAX = 5
"""How many attempts at a step's model call may fail before the run does."""

ABANDONED_MAX = 20
"""How many attempts at a step may be lost with their owners: past that the session itself may be what kills them."""

WAITING_MAX = 100
"""How many messages may wait for the run that is going: all of them can still be cancelled by one append."""

RETRY_MS_FIRST, RETRY_MS_MAX = 500, 60_000

RETRY_AFTER_MS_MAX = 3_600_000
"""The longest wait that a provider's `retry-after` is believed; the run's wall time ends it before that anyway."""


def decide(session: Session, given: Input, now: int) -> tuple[Event, ...]:  # noqa: C901, PLR0912 - one arm an input
    """Name the facts that an input makes true at `now` (microseconds since the epoch)."""
    if isinstance(given, Spoke):
        return _spoke(session, given.pieces)  # the path of every delta: nothing that follows is needed for it
    plan = Plan(session, now)
    match given:
        case Asked():
            _asked(plan, given)
        case TakeOver(owner):
            _taken_over(plan, owner)
        case Answered():
            _answered(plan, given)
        case Broke():
            _broke(plan, given)
        case RetryDue(run_id, step, attempt):
            _retry_due(plan, run_id, step, attempt)
        case OutOfTime(run_id):
            if plan.run is not None and plan.run.run_id == run_id:
                plan.fail("budget_wall_time", f"the run was still going after {session.budget.wall_seconds} seconds")
        case Reported(report):
            reported(plan, report)
        case FellSilent(call_id):
            fell_silent(plan, call_id)
        case Expired(call_id):
            expired(plan, call_id)
        case GaveUp(call_id, message):
            gave_up(plan, call_id, message)
        case _:
            assert_never(given)
    return tuple(plan.events)


def _spoke(session: Session, pieces: Sequence[TextDelta | Thinking | ToolInputDelta]) -> tuple[Event, ...]:
    run = session.run
    if run is None or not isinstance(run.phase, Calling):
        return ()
    run_id, step, attempt = run.run_id, run.step, run.attempt
    return tuple(
        [piece for piece in pieces if piece.attempt == attempt and piece.step == step and piece.run_id == run_id]
    )


def _asked(plan: Plan, asked: Asked) -> None:
    request = asked.request
    if request.request_id in plan.session.seen or plan.session.closed:
        return
    if not plan.session.started:
        _begin(plan, asked)
    match request:
        case StartSession():
            if request.message is not None:
                _say(plan, request.message, asked)
        case Say():
            _say(plan, request, asked)
        case CancelRun():
            _cancel(plan, request, asked)
        case CloseSession():
            _cancel_all(plan, f"closed: {request.reason}", asked)
            plan.add(SessionClosed(request.reason))
        case AnswerQuestion():
            _answer_question(plan, request)
        case CallTool():
            _call_tool(plan, request, asked.planned)
        case _:
            assert_never(request)


def _begin(plan: Plan, asked: Asked) -> None:
    request, agent = asked.request, asked.agent
    named = request.agent if isinstance(request, StartSession) else None
    metadata, tenant = Json("{}"), None
    if isinstance(request, StartSession | CallTool):
        metadata, tenant = request.metadata, request.tenant
    if agent is None or isinstance(request, CallTool):
        begun = SessionStarted(named or "", "", "", metadata, tenant=tenant)
    else:
        begun = SessionStarted(agent.name, agent.version, agent.model, metadata, None, agent.budget, tenant)
    plan.add(begun)
    plan.add(OwnerChanged(1, asked.owner))


def _say(plan: Plan, say: Say, asked: Asked) -> None:
    known = {one.run_id for one in plan.session.waiting} | plan.session.runs.keys()
    if say.run_id in known or (plan.run is not None and plan.run.run_id == say.run_id):
        return  # the same message, by another request
    message = UserMessage(say.run_id, say.message_id, say.content)
    if plan.run is None:
        plan.add(message)
    elif say.mode == "interrupt":
        _interrupt(plan, message, asked)
    elif say.mode == "reject":
        plan.add(message)
        plan.add(RunFailed(say.run_id, Failure("run_in_progress", "another run was going")))
    elif len(plan.session.waiting) >= WAITING_MAX:
        plan.add(message)
        plan.add(RunFailed(say.run_id, Failure("too_many_waiting", f"{WAITING_MAX} messages are waiting already")))
    else:
        plan.add(message)
    plan.start_next()


def _answer_question(plan: Plan, answer: AnswerQuestion) -> None:
    call = next((one for one in plan.session.open_calls if one.question == answer.question_id), None)
    if call is not None:
        place = (call.run_id, call.step, call.attempt)
        plan.add(QuestionAnswered(*place, answer.question_id, answer.content, answer.by))


def _call_tool(plan: Plan, asked: CallTool, planned: PlannedCall | None) -> None:
    if plan.run is not None or plan.session.runs or plan.session.model or planned is None:
        return  # it begins a session of its own, and here is another
    said = {"call": asked.name, "input": orjson.loads(asked.input)}
    content = Json(orjson.dumps([{"type": "text", "text": orjson.dumps(said).decode()}]).decode())
    plan.add(UserMessage(asked.run_id, asked.message_id, content), RunStarted(asked.run_id, asked.message_id))
    _make_call(plan, (asked.run_id, 0, 0), planned, planned.refusal, "error")
    if plan.run is not None and not plan.run.open_calls:
        plan.next_step()


def _interrupt(plan: Plan, message: UserMessage, asked: Asked) -> None:
    plan.stop("interrupted", asked.said)
    if plan.run is not None:
        plan.add(RunCancelled(plan.run.run_id, "interrupted"))
    plan.add(message)
    # What interrupts is answered at once, before anything that was already waiting.
    plan.add(RunStarted(message.run_id, message.message_id))
    if plan.run is not None and plan.session.model:
        plan.call_model(plan.run, step=1, attempt=1)


def _cancel(plan: Plan, cancel: CancelRun, asked: Asked) -> None:
    if cancel.run_id is None:
        _cancel_all(plan, cancel.reason, asked)
    elif plan.run is not None and plan.run.run_id == cancel.run_id:
        plan.stop("cancelled", asked.said)
        plan.add(RunCancelled(cancel.run_id, cancel.reason))
    elif any(one.run_id == cancel.run_id for one in plan.session.waiting):
        plan.add(RunCancelled(cancel.run_id, cancel.reason))
    plan.start_next()


def _cancel_all(plan: Plan, reason: str, asked: Asked) -> None:
    plan.stop("cancelled", asked.said)
    going = () if plan.run is None else (plan.run.run_id,)
    for run_id in (*going, *(one.run_id for one in plan.session.waiting)):
        plan.add(RunCancelled(run_id, reason))


def _taken_over(plan: Plan, owner: str) -> None:
    if plan.session.closed:
        return  # `session_closed` is the last event, also for an owner whom a late message woke
    plan.add(OwnerChanged(plan.session.epoch + 1, owner))
    run = plan.run
    if run is None:
        plan.start_next()
    elif isinstance(run.phase, Calling):
        # The call died with its owner, or goes on where nobody hears it: what it said is void from here on.
        plan.add(ModelCallAbandoned(run.run_id, run.step, run.attempt, "owner_lost"))
        if run.attempt >= ABANDONED_MAX:
            plan.fail("attempts_lost", f"{run.attempt} attempts at this step were lost with their owners")
        else:
            plan.call_model(run, step=run.step, attempt=run.attempt + 1)
    elif isinstance(run.phase, RunningTools) and not run.open_calls:
        plan.next_step()


def _in_flight(plan: Plan, run_id: RunId, step: int, attempt: int) -> Run | None:
    run = plan.run
    if (
        run is None
        or not isinstance(run.phase, Calling)
        or (run.run_id, run.step, run.attempt) != (run_id, step, attempt)
    ):
        return None
    return run


def _answered(plan: Plan, given: Answered) -> None:
    run = _in_flight(plan, given.run_id, given.step, given.attempt)
    if run is None:
        return
    place = (run.run_id, run.step, run.attempt)
    plan.add(ModelCallCompleted(*place, given.message, given.usage, given.stop_reason, given.elapsed_ms))
    if not given.calls:
        answer = MessageId(f"msg_{digest('answer', run.run_id)}")
        plan.add(FinalResponse(run.run_id, given.text, answer), RunCompleted(run.run_id, run.usage + given.usage))
        plan.start_next()
        return
    allowed = plan.session.budget.calls
    over = allowed is not None and run.calls + len(given.calls) > allowed
    for planned in given.calls:
        refusal = f"the run's budget of {allowed} calls is used up" if over else planned.refusal
        _make_call(plan, place, planned, refusal, "denied" if over else "error")
    if over:
        plan.fail("budget_calls", f"the run has used all of its {allowed} tool calls")
    elif plan.run is not None and not plan.run.open_calls:
        plan.next_step()


def _broke(plan: Plan, given: Broke) -> None:
    run = _in_flight(plan, given.run_id, given.step, given.attempt)
    if run is None:
        return
    place = (run.run_id, run.step, run.attempt)
    if not given.retryable or run.failures + 1 >= ATTEMPTS_MAX:
        plan.add(ModelCallFailed(*place, given.error))
        plan.fail(given.error.code, given.error.message)
    else:
        backoff = _backoff_ms(run.run_id, run.step, run.failures + 1)
        wait = max(backoff, min(given.retry_after_ms or 0, RETRY_AFTER_MS_MAX))
        plan.add(ModelCallFailed(*place, given.error, wait))


def _retry_due(plan: Plan, run_id: RunId, step: int, attempt: int) -> None:
    run = plan.run
    if (
        run is None
        or not isinstance(run.phase, BackingOff)
        or (run.run_id, run.step, run.attempt) != (run_id, step, attempt)
    ):
        return
    plan.call_model(run, step=step, attempt=attempt + 1)


def _make_call(plan: Plan, place: tuple[RunId, int, int], planned: PlannedCall, refusal: str | None, how: str) -> None:
    """Make a call; one that is refused has its result at once."""
    call = ToolCall(
        *place,
        call_id=planned.call_id,
        name=planned.name,
        input=planned.input,
        effect=planned.effect,
        pool=planned.pool,
        waits_for=planned.waits_for,
        key=planned.key,
        reconciles=planned.reconciles,
    )
    plan.add(call)
    if refusal is not None:
        plan.add(ToolResult(*place, planned.call_id, how, Json(orjson.dumps({"error": refusal}).decode()), 0))


def _backoff_ms(run_id: RunId, step: int, failures: int) -> int:
    """Double from half a second, with a jitter that is the same whoever computes it."""
    full = min(RETRY_MS_FIRST * 2 ** (failures - 1), RETRY_MS_MAX)
    jitter = sha256(f"{run_id}:{step}:{failures}".encode()).digest()[0] / 255
    return int(full * (0.5 + jitter / 2))
