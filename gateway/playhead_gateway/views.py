"""What JSON routes show of a session, a task and the catalogue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from playhead.commands import AnnounceAgent, AnnounceBreaker, AnnounceTool, ListSession
from playhead.events import Json, QuestionAsked
from playhead.ids import CallId, Cursor, RunId
from playhead.session import Message, OpenCall, Session

__all__ = [
    "agent_view",
    "first_run",
    "listed_view",
    "rendered",
    "session_view",
    "task_view",
    "tool_view",
    "without_none",
]

View = dict[str, Any]


def session_view(session: Session, cursor: Cursor, questions: Mapping[str, QuestionAsked]) -> View:
    """Show a folded session. `cursor` is where a stream that goes on from this state starts.

    `questions` are those that its calls wait for, by id.
    """
    return without_none(
        {
            "id": session.id,
            "agent": session.agent or None,
            "agent_version": session.agent_version or None,
            "model": session.model or None,
            "metadata": _spliced(session.metadata),
            "status": session.status,
            "run": _run(session),
            "messages": [_message(message) for message in session.messages],
            "pending": _pending(session, questions),
            "usage": {
                "input_tokens": session.usage.input_tokens,
                "output_tokens": session.usage.output_tokens,
                "cache_read_tokens": session.usage.cache_read_tokens,
                "cache_write_tokens": session.usage.cache_write_tokens,
            },
            "created_at": session.created_at or None,
            "updated_at": session.updated_at or None,
            "last_seq": cursor.seq,
            "cursor": str(cursor),
        }
    )


def first_run(session: Session) -> RunId | None:
    """Give the run that answers a session's first message."""
    first = next((message.run_id for message in session.messages if message.role == "user"), None)
    if first is None and session.runs:
        first = next(iter(session.runs))  # it ended before it began: cancelled while it waited
    if first is None and session.waiting:
        first = session.waiting[0].run_id
    return first


def task_view(session: Session) -> View:
    """Show a session as the task that its first message set."""
    run = first_run(session)
    end = None if run is None else session.runs.get(run)
    if end is not None:
        error = None if end.error is None else {"code": end.error.code, "message": end.error.message}
        shown = {"id": session.id, "status": end.status, "result": end.text, "error": error}
    else:
        started = session.run is not None and session.run.run_id == run
        shown = {"id": session.id, "status": "running" if started else "queued"}
    return without_none({**shown, "run_id": run})


def listed_view(line: ListSession) -> View:
    """Show the directory's line on a session."""
    return {
        "id": line.session,
        "agent": line.agent,
        "status": line.status,
        "created_at": line.created_at,
        "updated_at": line.updated_at,
        "last_seq": line.last_seq,
        "metadata": _spliced(line.metadata),
    }


def tool_view(tool: AnnounceTool, breaker: AnnounceBreaker | None, now: int) -> View:
    """Show an announced tool, and its breaker if it has one: open until its time has come, then half open."""
    output_schema = None if tool.output_schema is None else _spliced(tool.output_schema)
    shown = {
        "pool": tool.pool,
        "name": tool.name,
        "description": tool.description,
        "input_schema": _spliced(tool.input_schema),
        "schema_hash": tool.schema_hash,
        "effect": tool.effect,
        "timeout_ms": tool.timeout_ms,
        "retries": tool.retries,
        "at": tool.at,
        "output_schema": output_schema,
        "soft_timeout_ms": tool.soft_timeout_ms,
        "concurrency": tool.concurrency or None,
        "after": list(tool.after),
        "exclusive": tool.exclusive,
        "key": tool.key,
        "reconciles": tool.reconciles,
        "approval": tool.approval,
        "rate_limit": tool.rate_limit,
        "cache_seconds": tool.cache_seconds,
        "fallback": tool.fallback,
        "breaker": _breaker(breaker, now) if tool.breaker else None,
    }
    return without_none(shown)


def agent_view(agent: AnnounceAgent) -> View:
    """Show an announced agent."""
    return {
        "name": agent.name,
        "version": agent.version,
        "model": agent.model,
        "description": agent.description,
        "tools": list(agent.tools),
        "default": agent.default,
    }


def rendered(view: View) -> bytes:
    """Write a view as JSON."""
    return orjson.dumps(view)


def without_none(view: View) -> View:
    """Leave out what is absent."""
    return {name: value for name, value in view.items() if value is not None}


def _breaker(said: AnnounceBreaker | None, now: int) -> View:
    if said is None:
        return {"state": "closed"}
    if said.state == "open" and said.until > now:
        return {"state": "open", "until": said.until, "worker": said.worker}
    state = "half_open" if said.state == "open" else said.state
    return {"state": state, "worker": said.worker}


def _message(message: Message) -> View:
    return without_none(
        {
            "role": message.role,
            "run_id": message.run_id,
            "message_id": message.message_id,
            "content": _spliced(message.content),
        }
    )


def _run(session: Session) -> View | None:
    run = session.run
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "message_id": run.message_id,
        "started_at": run.started_at,
        "step": run.step,
        "attempt": run.attempt,
    }


def _pending(session: Session, questions: Mapping[str, QuestionAsked]) -> list[View]:
    """List what the session waits for: calls without a result, then messages whose run has not begun."""
    still_open = {call.call_id for call in session.open_calls}
    calls = [_open_call(call, still_open, questions) for call in session.open_calls]
    messages: list[View] = [
        {"type": "message", "message_id": one.message_id, "run_id": one.run_id, "content": _spliced(one.content)}
        for one in session.waiting
    ]
    return calls + messages


def _open_call(call: OpenCall, still_open: set[CallId], questions: Mapping[str, QuestionAsked]) -> View:
    """Show a call without a result, with what it waits for: at most one of a worker, others, a time, and the user."""
    asked = None if call.question is None else questions.get(call.question)
    return without_none(
        {
            "type": "tool_call",
            "call_id": call.call_id,
            "run_id": call.run_id,
            "name": call.name,
            "input": _spliced(call.input),
            "effect": call.effect,
            "pool": call.pool,
            "worker": call.worker,
            "waits_for": [other for other in call.waits_for if other in still_open] or None,
            "until": call.pending,
            "question": None if asked is None else _question(asked),
        }
    )


def _question(asked: QuestionAsked) -> View:
    return without_none(
        {
            "question_id": asked.question_id,
            "content": _spliced(asked.content),
            "schema": None if asked.schema is None else _spliced(asked.schema),
        }
    )


def _spliced(text: Json) -> orjson.Fragment | str:
    """Pass logged JSON through; what a stranger logged as JSON and is not, is shown as the string that it is."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)
