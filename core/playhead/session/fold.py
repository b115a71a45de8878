"""From facts to state. Total: what happened is never refused, whatever came before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

import orjson

from playhead.events import (
    ApprovalGiven,
    ApprovalRequested,
    Event,
    FinalResponse,
    GuardrailTripped,
    Json,
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
    Stamped,
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
from playhead.ids import CallId, RunId
from playhead.session.state import (
    BackingOff,
    Calling,
    Ended,
    Message,
    OpenCall,
    Run,
    RunEnd,
    RunningTools,
    Session,
    Waiting,
)

__all__ = ["SUCCEEDED", "apply", "fold"]

SUCCEEDED = frozenset({"ok", "fallback"})

Changing = (
    SessionStarted
    | OwnerChanged
    | UserMessage
    | RunStarted
    | RunCompleted
    | RunFailed
    | RunCancelled
    | ModelCallStarted
    | ModelCallCompleted
    | ModelCallFailed
    | ModelCallAbandoned
    | ToolCall
    | ApprovalRequested
    | ApprovalGiven
    | QuestionAsked
    | QuestionAnswered
    | GuardrailTripped
    | FinalResponse
    | SessionClosed
)
"""The events that are not about a call that runs: they count as activity of the session."""

UNHEARD_MAX = 256
"""How many calls that ended without having worked are remembered, for what comes of them late."""


def fold(session: Session, stamped: Stamped) -> Session:
    """Advance the session by one event of its log."""
    return apply(session, stamped.event, at=stamped.stamp.at, cause=stamped.stamp.cause)


def apply(session: Session, event: Event, *, at: int, cause: str | None) -> Session:
    """Advance the session by an event that happened `at` (microseconds) because of the input `cause`."""
    match event:
        case TextDelta() | Thinking() | ToolInputDelta():
            # Superseded by the step's message: the state must not depend on them, and this is the hot path.
            return session
        case ToolStarted() | ToolProgress() | ToolResultChunk() | ToolRetry() | ToolPending():
            return _reported(session, event, cause)
        case ToolResult():
            return _tool_returned(session, event, cause)
        case ToolResultLate():
            return _came_late(session, event, cause)
        case _:
            session = _changed(session, event, at, cause)
    seen = session.seen if cause is None else session.seen | {cause}
    return replace(session, seen=seen, updated_at=at)


def _changed(session: Session, event: Changing, at: int, cause: str | None) -> Session:  # noqa: C901, PLR0912
    match event:
        case SessionStarted():
            return replace(
                session,
                agent=event.agent,
                agent_version=event.agent_version,
                model=event.model,
                metadata=event.metadata,
                tenant=event.tenant,
                budget=event.budget,
                created_at=at,
            )
        case OwnerChanged():
            return replace(session, epoch=event.epoch, owner=event.owner)
        case UserMessage():
            waiting = Waiting(event.run_id, event.message_id, event.content)
            return replace(session, waiting=(*session.waiting, waiting))
        case RunStarted():
            return _run_started(session, event, at)
        case RunCompleted():
            return _run_ended(session, event.run_id, RunEnd("completed", session.texts.get(event.run_id)))
        case RunFailed():
            return _run_ended(session, event.run_id, RunEnd("failed", error=event.error))
        case RunCancelled():
            return _run_ended(session, event.run_id, RunEnd("cancelled"))
        case ModelCallStarted() | ModelCallFailed() | ModelCallAbandoned() | ModelCallCompleted():
            return _model_call(session, event, at)
        case ToolCall():
            return _tool_called(session, event)
        case QuestionAsked():
            return _asked(session, event, cause)
        case QuestionAnswered():
            return _answered(session, event)
        case FinalResponse():
            return replace(session, texts=MappingProxyType({**session.texts, event.run_id: event.text}))
        case SessionClosed():
            return replace(session, closed=True)
        case ApprovalRequested() | ApprovalGiven() | GuardrailTripped():
            # Part of the vocabulary, so that logs which hold them can be read; nothing here waits on them yet.
            return session
        case _:
            assert_never(event)


def _run_started(session: Session, event: RunStarted, at: int) -> Session:
    asked = next((one for one in session.waiting if one.run_id == event.run_id), None)
    messages = session.messages
    if asked is not None:
        # A message joins the conversation when its run starts: while it waits, the model must not see it.
        messages = (*messages, Message("user", asked.run_id, asked.message_id, asked.content))
    return replace(
        session,
        messages=messages,
        waiting=tuple(one for one in session.waiting if one.run_id != event.run_id),
        run=Run(event.run_id, event.message_id, at),
    )


def _run_ended(session: Session, run_id: RunId, end: RunEnd) -> Session:
    return replace(
        session,
        run=None if session.run is not None and session.run.run_id == run_id else session.run,
        waiting=tuple(one for one in session.waiting if one.run_id != run_id),
        runs=MappingProxyType({**session.runs, run_id: end}),
        texts=MappingProxyType({run: text for run, text in session.texts.items() if run != run_id}),
    )


def _model_call(
    session: Session,
    event: ModelCallStarted | ModelCallFailed | ModelCallAbandoned | ModelCallCompleted,
    at: int,
) -> Session:
    run = session.run
    if run is None or run.run_id != event.run_id:
        return session
    match event:
        case ModelCallStarted():
            failures = run.failures if event.step == run.step else 0
            run = replace(run, step=event.step, attempt=event.attempt, phase=Calling(), failures=failures)
            return replace(session, run=run)
        case ModelCallFailed():
            longest = (event.retry_in_ms or 0) * 1000
            phase = BackingOff(at + longest, longest)
            return replace(session, run=replace(run, phase=phase, failures=run.failures + 1))
        case ModelCallAbandoned():
            return replace(session, run=replace(run, phase=BackingOff(at)))
        case ModelCallCompleted():
            return replace(
                session,
                messages=(*session.messages, Message("assistant", run.run_id, None, _content(event.message))),
                usage=session.usage + event.usage,
                run=replace(run, phase=RunningTools(), usage=run.usage + event.usage),
            )


def _tool_called(session: Session, event: ToolCall) -> Session:
    run = session.run
    if run is None or run.run_id != event.run_id:
        return session
    call = OpenCall(
        call_id=event.call_id,
        run_id=event.run_id,
        step=event.step,
        attempt=event.attempt,
        name=event.name,
        input=event.input,
        effect=event.effect,
        pool=event.pool,
        waits_for=event.waits_for,
        key=event.key,
        reconciles=event.reconciles,
    )
    return replace(session, run=replace(run, open_calls=(*run.open_calls, call), calls=run.calls + 1))


def _reported(
    session: Session, event: ToolStarted | ToolProgress | ToolResultChunk | ToolRetry | ToolPending, cause: str | None
) -> Session:
    def changed(call: OpenCall) -> OpenCall:
        call = _noted(call, cause)
        match event:
            case ToolStarted(worker=worker):
                claim = call.claim or (cause if call.effect == "once" else None)
                return replace(call, worker=worker, claim=claim, starts=call.starts + 1)
            case ToolRetry(delivery=int(delivery)):
                return replace(call, worker=None, deliveries=delivery, is_lost=call.effect == "once")
            case ToolPending(until=until):
                return replace(call, worker=None, pending=until)
            case _:
                return call

    return _with_call(session, event.call_id, changed)


def _asked(session: Session, event: QuestionAsked, cause: str | None) -> Session:
    if event.call_id is None:
        return session
    state = event.state or Json("null")

    def changed(call: OpenCall) -> OpenCall:
        # What the call left behind waits where the answer will be put. A `once` call that asks has come to an orderly
        # end, also one that was taken for lost: it may be begun once more, with the answer.
        call = _noted(call, cause)
        return replace(call, worker=None, claim=None, is_lost=False, question=event.question_id, answer=state)

    return _with_call(session, event.call_id, changed)


def _answered(session: Session, event: QuestionAnswered) -> Session:
    call = next((one for one in session.open_calls if one.question == event.question_id), None)
    if call is None:
        return session
    answer = Json(f'{{"content":{event.content},"state":{call.answer}}}')
    # A worker may have begun any number of times before it asked: from here on they are counted anew.
    return _with_call(
        session, call.call_id, lambda call: replace(call, question=None, answer=answer, starts=0, deliveries=1)
    )


def _with_call(session: Session, call_id: CallId, change: Callable[[OpenCall], OpenCall]) -> Session:
    run = session.run
    if run is None:
        return session
    calls = tuple(change(call) if call.call_id == call_id else call for call in run.open_calls)
    return replace(session, run=replace(run, open_calls=calls))


def _noted(call: OpenCall, cause: str | None) -> OpenCall:
    return call if cause is None else replace(call, reports=call.reports | {cause})


def _tool_returned(session: Session, event: ToolResult, cause: str | None) -> Session:
    run = session.run
    if run is None or all(call.call_id != event.call_id for call in run.open_calls):
        return session
    is_error = "false" if event.status in SUCCEEDED else "true"
    block = (
        f'{{"type":"tool_result","tool_use_id":{_quoted(event.call_id)},'
        f'"content":{event.output},"status":{_quoted(event.status)},"is_error":{is_error}}}'
    )
    if event.status not in SUCCEEDED:
        session = _unheard(session, event, cause)
    return replace(
        session,
        messages=(*session.messages, Message("tool", run.run_id, None, Json(block))),
        run=replace(run, open_calls=tuple(call for call in run.open_calls if call.call_id != event.call_id)),
    )


def _came_late(session: Session, event: ToolResultLate, cause: str | None) -> Session:
    if event.status not in SUCCEEDED:
        return _unheard(session, event, cause)
    rest = {call: ended for call, ended in session.unheard.items() if call != event.call_id}
    return replace(session, unheard=MappingProxyType(rest))


def _unheard(session: Session, event: ToolResult | ToolResultLate, cause: str | None) -> Session:
    rest = [(call, ended) for call, ended in session.unheard.items() if call != event.call_id]
    known = session.unheard.get(event.call_id)
    causes = frozenset[str]() if known is None else known.causes
    ended = Ended(event.run_id, event.step, event.attempt, causes if cause is None else causes | {cause})
    unheard = dict([*rest, (event.call_id, ended)][-UNHEARD_MAX:])
    return replace(session, unheard=MappingProxyType(unheard))


def _quoted(text: str) -> str:
    # A worker's status is a stranger's text: unquoted, it could end the block and begin another.
    return orjson.dumps(text).decode()


def _content(message: Json) -> Json:
    try:
        content = orjson.loads(message)["content"]
        return Json(orjson.dumps(content).decode() if isinstance(content, list) else "[]")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Json("[]")  # a message of no shape of ours, or too deep to be written again, says nothing
