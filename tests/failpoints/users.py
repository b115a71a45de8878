"""Who uses a system in a trial, so that every point of a role is reached, the first time and later ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from playhead.commands import Say, StartSession
from playhead.events import Event, Json, RunCancelled, RunCompleted, RunFailed, Stamped, ToolPending
from playhead.ids import SessionId, message_id, run_id

from tests.failpoints.system import System

__all__ = ["GARBAGE", "asks_through_the_gateway", "asks_through_the_queue", "read"]

GARBAGE = (b"no", b"not", b"nothing")
"""What can be read by nobody, and is set aside."""
TALKERS = ("one", "two", "three")
ENDS = (RunCompleted, RunFailed, RunCancelled)
POLL_SECONDS = 0.02


async def asks_through_the_queue(system: System) -> dict[SessionId, int]:
    """Talk with one session as a gateway would have it; give how many runs each session was asked for."""
    topics, queue, codec = system.topics, system.queue, system.codec
    await queue.prepare(*topics.fixed, topics.tools("default"))
    for value in GARBAGE:
        await queue.publish(topics.requests.name, "garbage", value)
        await queue.publish(topics.tools("default").name, "garbage", value)
    session = await system.log.create()
    start = StartSession(f"start:{session}", session, None, Json("{}"), _say(session, "work"))
    await queue.publish(topics.requests.name, session, codec.encode(start))
    await until(system, session, lambda events: len(_of(events, *ENDS)) == 1)
    await queue.publish(topics.requests.name, session, codec.encode(_say(session, "more")))
    await until(system, session, lambda events: len(_of(events, *ENDS)) == 2)
    return {session: 2}


async def asks_through_the_gateway(system: System) -> dict[SessionId, int]:
    """Talk with three sessions; bring the results that tools promised; run again what they set aside."""
    async with asyncio.TaskGroup() as tasks:
        talks = [tasks.create_task(_talk(system, name)) for name in TALKERS]
    while len(letters := (await system.ask("GET", "/v1/deadletters"))["letters"]) < len(TALKERS):  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)  # a call is set aside after its end is reported
    for letter in letters:
        await system.ask("POST", f"/v1/deadletters/{letter['id']}/retry", json={})
    while any(len(system.journal.of(letter["call_id"])) == 1 for letter in letters):  # noqa: ASYNC110 - tools tell nobody
        await asyncio.sleep(POLL_SECONDS)
    return {talk.result(): 2 for talk in talks}


async def _talk(system: System, name: str) -> SessionId:
    begun = await system.ask("POST", "/v1/sessions", json={"input": "promise"}, headers={"Idempotency-Key": name})
    session = SessionId(begun["id"])
    events = await until(system, session, lambda events: bool(_of(events, ToolPending)))
    (promised,) = (one for one in _of(events, ToolPending) if isinstance(one, ToolPending))
    ticket = {"Authorization": f"Bearer {system.journal.tickets[promised.call_id]}"}
    await system.ask("POST", f"/v1/calls/{promised.call_id}/result", json={"output": name}, headers=ticket)
    await until(system, session, lambda events: len(_of(events, *ENDS)) == 1)
    key = {"Idempotency-Key": f"{name} fails"}
    await system.ask("POST", f"/v1/sessions/{session}/messages", json={"content": "fail"}, headers=key)
    await until(system, session, lambda events: len(_of(events, *ENDS)) == 2)
    return session


async def read(system: System, session: SessionId) -> list[Stamped]:
    """Read a log."""
    async with aclosing(system.log.read(session)) as pages:
        return [system.codec.event(record.value) async for page in pages for record in page.records]


async def until(system: System, session: SessionId, enough: Callable[[Sequence[Event]], bool]) -> list[Event]:
    """Follow a session until there is enough of it."""
    events = list[Event]()
    async with aclosing(system.log.read(session, follow=True)) as pages:
        async for page in pages:
            events += [system.codec.event(record.value).event for record in page.records]
            if enough(events):
                return events
    raise AssertionError("the log ended")


def _of(events: Sequence[Event], *kinds: type[Event]) -> list[Event]:
    return [one for one in events if isinstance(one, kinds)]


def _say(session: SessionId, text: str) -> Say:
    message = message_id(session, text)
    return Say(message, session, message, run_id(session, message), Json(f'"{text}"'))
