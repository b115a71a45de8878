"""What workers say of calls, and what their silence means: from a report to the facts that it makes true. Pure."""

from __future__ import annotations

from typing import assert_never

import orjson

from playhead.commands import (
    Heartbeat,
    Report,
    ReportChunk,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportRetry,
    ReportStarted,
)
from playhead.events import (
    Failure,
    Json,
    QuestionAsked,
    ToolPending,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    ToolResultLate,
    ToolRetry,
    ToolStarted,
)
from playhead.ids import CallId
from playhead.session.pending import STARTS_MAX
from playhead.session.plan import Plan, result_of
from playhead.session.state import OpenCall

__all__ = ["expired", "fell_silent", "gave_up", "may_start", "reported"]

PENDING_MS_MAX = 30 * 86_400_000
"""How long a result may be waited for, as `playhead.content` has it: a worker may have another number in mind."""

UNKNOWN = (
    "the worker was lost while it ran this call: it may or may not have happened, and it will not be run again. "
    "Find out what happened before you ask for it once more."
)
"""What the model is told of a `once` call that nobody can say anything about."""


def may_start(call: OpenCall | None, claim: str) -> bool:
    """Tell whether the worker that asked with `claim` may run a call now."""
    if call is None or call.is_lost or _is_out(call) or call.starts > STARTS_MAX:
        return False
    return call.effect != "once" or call.claim == claim


def reported(plan: Plan, report: Report) -> None:  # noqa: C901, PLR0912 - one arm a report
    """Make true what a worker reports, unless the log has it already or the call is over."""
    if isinstance(report, Heartbeat):
        return
    call = _open_call(plan, report.call_id)
    if call is None:
        if isinstance(report, ReportResult):
            _came_late(plan, report)
        return
    if report.report_id in call.reports:
        return
    place = (call.run_id, call.step, call.attempt, call.call_id)
    match report:
        case ReportStarted():
            if not _is_out(call) and call.claim is None:  # a `once` call is given away once
                plan.add(ToolStarted(*place, report.worker))
        case ReportProgress():
            plan.add(ToolProgress(*place, report.progress, report.total, report.message))
        case ReportChunk():
            plan.add(ToolResultChunk(*place, report.output))
        case ReportRetry():
            plan.add(ToolRetry(*place, report.try_, report.delay_ms, report.error))
        case ReportResult():
            _settle(plan, ToolResult(*place, report.status, report.output, report.elapsed_ms, report.cached))
        case ReportPending():
            if not _is_out(call):  # one thing is waited for: what another worker left behind is not
                within_ms = max(0, min(report.within_ms, PENDING_MS_MAX))
                plan.add(ToolPending(*place, plan.now + within_ms * 1000, report.message))
        case ReportQuestion():
            if not _is_out(call):
                plan.add(_question(call, report))
        case _:
            assert_never(report)


def fell_silent(plan: Plan, call_id: CallId) -> None:
    """Have a call delivered again whose worker is lost; a `once` call only to be looked into, if that is possible."""
    call = _open_call(plan, call_id)
    if call is None or call.worker is None or _is_out(call):
        return
    if call.effect == "once" and not call.reconciles:
        _end(plan, call, "unknown", UNKNOWN)
        return
    place = (call.run_id, call.step, call.attempt, call.call_id)
    error = Failure("worker_lost", f"{call.worker} was not heard of any more")
    plan.add(ToolRetry(*place, call.deliveries, 0, error, delivery=call.deliveries + 1))


def expired(plan: Plan, call_id: CallId) -> None:
    """End a call whose result did not come from outside in time."""
    call = _open_call(plan, call_id)
    if call is not None and call.pending is not None and plan.now >= call.pending:
        _end(plan, call, "timeout", "its result was to come later, and did not come in time")


def gave_up(plan: Plan, call_id: CallId, message: str) -> None:
    """End a call that no worker brings to an end."""
    call = _open_call(plan, call_id)
    if call is not None:
        lost = call.effect == "once" and call.claim is not None
        _end(plan, call, "unknown" if lost else "error", message)


def _is_out(call: OpenCall) -> bool:
    """Tell whether a call waits for somebody outside: no worker has anything to do with it meanwhile."""
    return call.pending is not None or call.question is not None


def _question(call: OpenCall, report: ReportQuestion) -> QuestionAsked:
    place = (call.run_id, call.step, call.attempt)
    return QuestionAsked(*place, report.question_id, report.content, report.schema, call.call_id, report.state)


def _came_late(plan: Plan, report: ReportResult) -> None:
    """Record what came of a call that had ended without: for people, since the model was told otherwise."""
    ended = plan.session.unheard.get(report.call_id)
    if ended is None or report.report_id in ended.causes or report.status == "cancelled" or plan.session.closed:
        return
    place = (ended.run_id, ended.step, ended.attempt, report.call_id)
    plan.add(ToolResultLate(*place, report.status, report.output, report.elapsed_ms))


def _open_call(plan: Plan, call_id: CallId) -> OpenCall | None:
    return next((one for one in plan.session.open_calls if one.call_id == call_id), None)


def _end(plan: Plan, call: OpenCall, status: str, message: str) -> None:
    _settle(plan, result_of(call, status, Json(orjson.dumps({"error": message}).decode()), 0))


def _settle(plan: Plan, result: ToolResult) -> None:
    plan.add(result)
    if plan.run is not None and not plan.run.open_calls:
        plan.next_step()
