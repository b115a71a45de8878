"""A true history: a session of the memory stage with calls of every effect, a crash, a cancel and a close.

Its log is what the product wrote. What users, viewers and tools say of it is laid out beside it, event by event.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import cache
from itertools import count
from typing import Any

from playhead.accept import Record
from playhead.agents import Agent
from playhead.commands import CancelRun, CloseSession
from playhead.ids import SessionId
from playhead.session import empty, fold
from playhead.tools import tool
from playhead_gateway.projections.sse import Projection
from playhead_gateway.views import rendered, session_view
from playhead_orchestrator.model import Finished, ModelRequest, Said, TextSaid, ToolInputSaid, Usage

from tests.history.check import check
from tests.history.lines import History as Writer
from tests.history.lines import Line
from tests.orchestrator.stage import Actor, Hand, Stage, answer, use

__all__ = ["History", "broken", "place", "true_history"]

History = list[Line]

GIVEN = {"city": "Rome"}
VIEWERS = ("ann", "bob")
AGAIN = use(("look", GIVEN), ("pay", GIVEN))
BACK = (3, 9)
"""After so many events a viewer loses its connection and comes back."""


@tool
async def look(city: str) -> str:
    """Look."""
    return city


@tool(effect="once")
async def pay(city: str) -> str:
    """Pay."""
    return city


@tool(effect="write", approval=True)
async def guarded(city: str) -> str:
    """Do what a person must have approved."""
    return city


async def ask(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
    """Say something in pieces, and ask for three calls."""
    yield (TextSaid("I will "), TextSaid("look."))
    yield (ToolInputSaid(0, '{"city":'), ToolInputSaid(0, ' "Rome"}'))
    uses = ({"type": "tool_use", "name": name, "input": GIVEN} for name in ("look", "pay", "guarded"))
    yield (Finished(({"type": "text", "text": "I will look."}, *uses), Usage(10, 5), "tool_use"),)


async def hang(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
    """Say the half of it."""
    yield (TextSaid("Half of "),)
    await asyncio.Event().wait()


def true_history() -> History:
    """Give the history; whoever corrupts it has one of its own."""
    return json.loads(_recorded())


def broken(lines: History) -> set[str]:
    """Name the invariants that the checker finds broken."""
    return {invariant for invariant, _ in check(lines).violations}


def place(lines: History, op: str, which: int = 0, **fields: object) -> int:
    """Find the line of an op that has these fields."""
    return [number for number, line in enumerate(lines) if line["op"] == op and fields.items() <= line.items()][which]


@cache
def _recorded() -> str:
    return json.dumps(_laid_out(*asyncio.run(_played())))


async def _played() -> tuple[SessionId, list[Record]]:
    scripts = [ask, hang, answer("All ", "done."), use(("look", GIVEN)), AGAIN, answer("Yes.")]
    stage = Stage(Actor(scripts), [Agent("helper", model="stage:one", tools=[look, pay, guarded])])
    known = set[str]()
    async with stage.orchestrator("first"):
        session = await stage.start("first")
        looks, pays, guards = await _handed(stage, known, "look", "pay", "guarded")
        await stage.report(looks.begins("look begins"))
        await stage.report(pays.claims("pay claims"))
        await stage.told(1)
        await stage.report(guards.ends("guarded ends", "denied"))
        await stage.report(looks.ends("look ends"))
        await stage.report(pays.ends("pay ends"))
        await stage.until(session, "model_call_completed", "text_delta")
    async with stage.orchestrator("second"):
        await stage.until(session, "run_completed")
        say = stage.say(session, "second")
        await stage.ask(say)
        (looks,) = await _handed(stage, known, "look")
        await stage.report(looks.begins("look begins again"))
        await stage.until(session, "run_completed", "tool_started")
        await stage.ask(CancelRun("stop", session, say.run_id, "stop"))
        await stage.until(session, "run_cancelled")
        await stage.ask(stage.say(session, "third"))
        looks, pays = await _handed(stage, known, "look", "pay")
        await stage.report(looks.begins("look begins at last"))
        await stage.report(pays.claims("pay claims again"))
        await stage.report(pays.ends("pay ends again"))
        await stage.report(looks.ends("look ends again"))
        await stage.until(session, "run_completed", "run_completed")
        await stage.ask(CloseSession("close", session, "enough"))
        await stage.until(session, "session_closed")
    async with aclosing(stage.log.read(session)) as pages:
        return session, [record async for page in pages for record in page.records]


async def _handed(stage: Stage, known: set[str], *tools: str) -> list[Hand]:
    """Wait until calls of these tools, one of each, have been handed out beside those that are known."""
    calls = [call for call in await stage.dispatched(len(known) + len(tools)) if call.call_id not in known]
    known.update(call.call_id for call in calls)
    return [Hand(call) for name in tools for call in calls if call.name == name]


def _laid_out(session: SessionId, records: Sequence[Record]) -> list[Line]:
    ticks = count()
    history = Writer(lambda: next(ticks) / 100)
    stage = Stage(Actor([]), [])
    show = Projection(stage.codec)
    events = [json.loads(show.event(record) or b"") for record in records]
    ids = [str(record.cursor) for record in records]
    for viewer in VIEWERS:
        history.note(viewer, "opened", session=session, after="")
    for place, event in enumerate(events):
        _before(history, session, event)
        for viewer in VIEWERS:
            history.note(viewer, "seen", session=session, id=ids[place], event=event)
        if place in BACK:
            history.note(VIEWERS[0], "opened", session=session, after=ids[place])
    for viewer in VIEWERS:
        history.note(viewer, "ended", session=session)
    history.note("nemesis", "healed")
    history.note("eve", "opened", session=session, after=ids[4])
    history.note("eve", "seen", session=session, id=ids[5], event=events[5])
    history.note("eve", "left", session=session)
    state = empty(session)
    for record in records:
        state = fold(state, stage.codec.event(record.value))
    view = json.loads(rendered(session_view(state, records[-1].cursor, {})))
    values = [b64encode(record.value).decode() for record in records]
    pairs = [list(pair) for pair in zip(ids, events, strict=True)]
    history.note("reader", "log", session=session, events=pairs, state=view, records=values)
    return history.lines


def _before(history: Writer, session: SessionId, event: dict[str, Any]) -> None:
    """Say what happened before an event came."""
    match event["type"]:
        case "user_message":
            content = event["content"]
            asked = {"key": content, "session": session, "content": content}
            history.note("user", "message", phase="invoke", **asked)
            for _ in range(2):
                history.note("user", "message", phase="ok", **asked, run=event["run_id"])
            for phase in ("fail", "info"):
                other = {"key": f"{content} {phase}", "session": session, "content": f"{content} {phase}"}
                history.note("user", "message", phase="invoke", **other)
                history.note("user", "message", phase=phase, **other)
        case "owner_changed" if event["epoch"] == 2:
            history.note("nemesis", "fault", kind="kill", target="first")
            history.note("first", "ready")
        case "tool_result" if event["status"] in ("ok", "cancelled"):
            _note_tool(history, event, "begun")
            if event["status"] == "ok":
                _note_tool(history, event, "done")
        case "run_cancelled":
            history.note("user", "cancel", phase="ok", key="stop", session=session, run=event["run_id"])
        case _:
            pass


def _note_tool(history: Writer, event: dict[str, Any], what: str) -> None:
    call = event["call_id"]
    history.note("tool", "tool", what=what, call=call, key=f"key {call}", process=1, given=GIVEN, **{"try": 1})
