"""What comes to a session from its topic: any command that the codec takes, whoever wrote it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast, get_args

import orjson
from playhead.accept import Head, genesis
from playhead.codec import Context
from playhead.commands import (
    AnswerQuestion,
    CallTool,
    CancelRun,
    CloseSession,
    Command,
    Heartbeat,
    Report,
    ReportChunk,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportRetry,
    ReportStarted,
    Request,
    Say,
    StartSession,
    command_types,
)
from playhead.errors import TooLarge, Undecodable
from playhead.events import Budget, Failure, Json
from playhead.ids import MessageId, RunId, call_id
from playhead.session import Asked, PlannedCall, Reported, Session, Snapshot, empty, fold, pending
from playhead_orchestrator.adapters import claude_wire, openai_wire
from playhead_orchestrator.dispatch import run_tool
from playhead_orchestrator.draft import Draft
from playhead_orchestrator.model import ModelRequest
from playhead_orchestrator.prompt import messages_of

from tests.fuzz.spoken import CODEC, SESSION
from tests.fuzz.target import Run, Target
from tests.gateway.support import NOW, OWNED, STARTED, a_turn

__all__ = ["TARGETS"]

AGENT = Snapshot("support", "1", "scripted", Budget())
TURN = a_turn(SESSION)
CALLED = TURN[4]
"""The call that is open."""
CALL = call_id(SESSION, cast("Any", CALLED).run_id, 1, 0)
KINDS = {kind.__name__: kind for kind in command_types()}


def states() -> list[tuple[Session, Head]]:
    """Give a session before its start, idle, and while a call is out."""
    found: list[tuple[Session, Head]] = []
    for events in ([], [STARTED, OWNED, *TURN], [STARTED, OWNED, *TURN[:5]]):
        records = CODEC.seal(genesis(SESSION), events, Context(SESSION, 1, None, NOW))
        state, head = empty(SESSION), genesis(SESSION)
        for record in records:
            state = fold(state, CODEC.event(record.value))
            head = Head(record.seq, record.hash, head.position + 1)
        found.append((state, head))
    return found


def read(data: bytes) -> Command | None:
    """Make a command of JSON, if it is one that the codec takes."""
    try:
        given = orjson.loads(data)
        kind = KINDS[given.pop("kind")]
        if isinstance(given.get("message"), dict):
            given["message"] = Say(**given["message"])
        if isinstance(given.get("error"), dict):
            given["error"] = Failure(**given["error"])
        return CODEC.command(CODEC.encode(kind(**given)))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, Undecodable, TooLarge):
        return None


def goes_on(state: Session, draft: Draft) -> None:
    """Have what was decided read back, and all that follows from it done as far as it can be here."""
    for batch in draft.batches:
        for record in batch:
            state = fold(state, CODEC.event(record.value))
    assert state == draft.state, "what is read from the log is not what was decided"
    pending(state)
    messages = messages_of(state)
    orjson.dumps(claude_wire.body_of(ModelRequest("m", "", messages)))
    orjson.dumps(openai_wire.body_of(ModelRequest("m", "", messages), "max_tokens"))
    for call in state.open_calls:
        CODEC.command(CODEC.encode(run_tool(state, call, key=b"k" * 32, now=NOW, trace=None)))


@contextmanager
def inbox() -> Generator[Run, None, None]:
    """Do what a command asks, or nothing; and the session goes on."""
    before = states()

    def run(data: bytes) -> None:
        command = read(data)
        if isinstance(command, get_args(Request)):
            request = cast("Request", command)
            planned = None
            if isinstance(request, CallTool):
                planned = PlannedCall(CALL, request.name, request.input, "read", "default")
            given: Asked | Reported = Asked(request, "owner", AGENT, None, planned)
        elif isinstance(command, get_args(Report)) and not isinstance(command, Heartbeat):
            given = Reported(cast("Report", command))
        else:
            return
        for state, head in before:
            draft = Draft(CODEC, state, head, NOW)
            try:
                draft.add(given, "cause", None)
            except TooLarge:
                assert (draft.state, draft.batches) == (state, []), "refused, and done all the same"
                continue
            goes_on(state, draft)

    yield run


def seeds() -> list[bytes]:
    message, run, hi = MessageId("msg_x"), RunId("run_x"), Json('[{"type":"text","text":"hi"}]')
    say = Say("req_1", SESSION, message, run, hi, "queue", None)
    call = (SESSION, CALL, "lease")
    commands: list[Command] = [
        say,
        replace(say, mode="interrupt"),
        replace(
            say,
            content=Json(
                '[{"type":"tool_result","tool_use_id":"x","content":[{"type":"image","source":{"type":"url"}}]}]'
            ),
        ),
        StartSession("req_2", SESSION, "support", Json('{"tenant":"acme"}'), say, None, "acme"),
        CancelRun("req_3", SESSION, cast("Any", CALLED).run_id, "requested"),
        CloseSession("req_4", SESSION, "requested"),
        AnswerQuestion("req_5", SESSION, "q_1", Json('{"a":1}'), "user"),
        CallTool("req_6", SESSION, message, run, "weather", Json('{"city":"Oslo"}'), Json("{}"), None, None),
        ReportResult(
            "rep_1",
            *call,
            "ok",
            Json('[{"type":"image","source":{"type":"base64","data":"AA","media_type":"image/png"}}]'),
            3,
        ),
        ReportResult("rep_2", *call, "error", Json('{"type":"x","message":"y"}'), 3),
        ReportQuestion("rep_3", *call, "q_1", Json('"Sure?"'), Json("{}"), Json("null")),
        ReportPending("rep_4", *call, 5000, "soon"),
        ReportProgress("rep_5", *call, 1.0, 2.0, "half"),
        ReportChunk("rep_6", *call, Json('"a"')),
        ReportRetry("rep_7", *call, 1, 10, Failure("error", "no")),
        ReportStarted("rep_8", *call, "worker-1"),
    ]
    return [orjson.dumps({"kind": type(one).__name__, **orjson.loads(orjson.dumps(one))}) for one in commands]


TARGETS = (Target("commands-to-a-session", inbox, seeds, 600),)
