"""An orchestrator on the memory adapters, with a model that says what a test tells it to, and no tool worker."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.agents import Agent
from playhead.codec import Codec
from playhead.commands import (
    Command,
    Grant,
    Heartbeat,
    Report,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportStarted,
    Request,
    RunTool,
    Say,
    StartSession,
    StopTool,
)
from playhead.events import Event, Json, Stamped, wire_name
from playhead.ids import SessionId, digest, message_id, run_id
from playhead.log import SessionLog
from playhead.queue import Queue, Topics
from playhead.telemetry import Telemetry
from playhead_orchestrator.model import Finished, ModelRequest, Said, TextSaid, Usage
from playhead_orchestrator.parts import OrchestratorParts, Waits
from playhead_orchestrator.service import Orchestrator

__all__ = ["Actor", "Hand", "Script", "Stage", "answer", "names", "only", "use"]

PATIENCE_SECONDS = 20.0
LEASE_KEY = b"a key for tests"

Script = Callable[[ModelRequest], AsyncGenerator[Sequence[Said], None]]


def answer(*pieces: str) -> Script:
    """A script that says these pieces and is done."""

    async def play(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        for piece in pieces:
            yield (TextSaid(piece),)
        yield (Finished(({"type": "text", "text": "".join(pieces)},), Usage(10, len(pieces)), "end_turn"),)

    return play


def use(*uses: tuple[str, Mapping[str, object]]) -> Script:
    """A script that asks for tools."""

    async def play(request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        blocks = tuple({"type": "tool_use", "name": name, "input": given} for name, given in uses)
        yield (Finished(blocks, Usage(10, 5), "tool_use"),)

    return play


@dataclass
class Actor:
    """A model that plays one script a call, the last one for ever, and remembers what it was asked."""

    scripts: list[Script]
    provider: str = "stage"
    asked: list[ModelRequest] = field(default_factory=list[ModelRequest])
    closed: int = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        self.asked.append(request)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            async with aclosing(script(request)) as said:
                async for pieces in said:
                    yield pieces
        finally:
            self.closed += 1

    async def close(self) -> None:
        """Nothing is held."""


class Stage:
    """The store, and what a test does with it."""

    def __init__(self, actor: Actor, agents: Sequence[Agent]) -> None:
        self.log: SessionLog = MemorySessionLog()
        self.queue: Queue = MemoryQueue()
        self.topics, self.codec, self.telemetry = Topics(), Codec(), Telemetry()
        self.waits = Waits()
        self.actor, self.agents = actor, agents

    def parts(self, owner: str) -> OrchestratorParts:
        return OrchestratorParts(
            log=self.log,
            queue=self.queue,
            topics=self.topics,
            codec=self.codec,
            telemetry=self.telemetry,
            clock=lambda: time.time_ns() // 1000,
            owner=owner,
            lease_key=LEASE_KEY,
            models={"stage": self.actor},
            waits=self.waits,
        )

    @asynccontextmanager
    async def orchestrator(self, owner: str = "first", *, drain_seconds: float = 0.0) -> AsyncGenerator[Orchestrator]:
        parts = self.parts(owner)
        service, stop = Orchestrator(parts, self.agents, drain_seconds=drain_seconds), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(service.serve(stop))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await service.ready.wait()
            try:
                yield service
            finally:
                stop.set()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await serving

    async def ask(self, request: Request) -> None:
        await self.queue.publish(self.topics.requests.name, request.session, self.codec.encode(request))

    async def start(self, text: str, agent: str | None = None) -> SessionId:
        session = await self.log.create()
        say = self.say(session, text)
        await self.ask(StartSession(digest(os.urandom(8)), session, agent, Json("{}"), say))
        return session

    def say(self, session: SessionId, text: str, mode: str = "queue") -> Say:
        message = message_id(session, text)
        return Say(message, session, message, run_id(session, message), Json(f'"{text}"'), mode)

    async def until(self, session: SessionId, *kinds: str) -> list[Stamped]:
        """Read the session until events of these types have come, in this order; return all events until then."""
        seen, wanted = list[Stamped](), list(kinds)
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(self.log.read(session, follow=True)) as pages:
            async for page in pages:
                for record in page.records:
                    seen.append(self.codec.event(record.value))
                    if wanted and wire_name(type(seen[-1].event)) == wanted[0]:
                        del wanted[0]
                    if not wanted:
                        return seen
        raise AssertionError("the log ended")

    async def dispatched(self, count: int, pool: str = "default") -> list[RunTool]:
        """Wait until so many calls have been handed to a pool."""
        calls = list[RunTool]()
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            aclosing(self.queue.replay(self.topics.tools(pool).name, follow=True)) as batches,
        ):
            async for messages in batches:
                for message in messages:
                    command = self.codec.command(message.value)
                    assert isinstance(command, RunTool)
                    calls.append(command)
                if len(calls) >= count:
                    return calls
        raise AssertionError("the queue ended")

    async def dead_letter(self) -> Command:
        """Wait for the first record that is set aside."""
        letters = self.queue.replay(self.topics.deadletter.name, follow=True)
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(letters) as batches:
            async for messages in batches:
                for message in messages:
                    return self.codec.command(message.value)
        raise AssertionError("the queue ended")

    async def told(self, count: int, pool: str = "default") -> list[Grant | StopTool]:
        """Wait until a pool's workers have been told so many things about their calls."""
        found = list[Grant | StopTool]()
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            aclosing(self.queue.replay(self.topics.control(pool).name, follow=True)) as batches,
        ):
            async for messages in batches:
                for message in messages:
                    command = self.codec.command(message.value)
                    assert isinstance(command, Grant | StopTool)
                    found.append(command)
                if len(found) >= count:
                    return found
        raise AssertionError("the queue ended")

    async def report(self, report: Report) -> None:
        """Say what a worker says."""
        await self.queue.publish(self.topics.results.name, report.session, self.codec.encode(report))

    async def result(self, call: RunTool, output: str = '"done"', status: str = "ok", lease: str | None = None) -> None:
        report = ReportResult(
            f"result:{call.call_id}", call.session, call.call_id, lease or call.lease, status, Json(output), 5
        )
        await self.queue.publish(self.topics.results.name, call.session, self.codec.encode(report))


@dataclass(frozen=True)
class Hand:
    """A worker's word on one call. Each is said once: `report` names it."""

    call: RunTool
    worker: str = "w"

    def claims(self, report: str) -> ReportStarted:
        """Ask whether it may run the call."""
        call = self.call
        return ReportStarted(report, call.session, call.call_id, call.lease, self.worker, claim=True, pool=call.pool)

    def begins(self, report: str) -> ReportStarted:
        """Begin without asking."""
        return ReportStarted(report, self.call.session, self.call.call_id, self.call.lease, self.worker)

    def beats(self) -> Heartbeat:
        """Be heard."""
        return Heartbeat(self.call.session, self.call.call_id, self.call.lease, self.worker)

    def progresses(self, report: str) -> ReportProgress:
        """Say how far it is."""
        return ReportProgress(report, self.call.session, self.call.call_id, self.call.lease, 0.5)

    def defers(self, report: str, seconds: float) -> ReportPending:
        """Promise the result for later."""
        within = int(seconds * 1000)
        return ReportPending(report, self.call.session, self.call.call_id, self.call.lease, within, "later")

    def asks(self, report: str, question: str) -> ReportQuestion:
        """Ask the user."""
        call = self.call
        place = (report, call.session, call.call_id, call.lease, question)
        return ReportQuestion(*place, Json('"sure?"'), None, Json('{"n":1}'))

    def ends(self, report: str, status: str = "ok", output: str = '"done"') -> ReportResult:
        """Bring it to an end."""
        return ReportResult(report, self.call.session, self.call.call_id, self.call.lease, status, Json(output), 5)


def names(events: Sequence[Stamped]) -> list[str]:
    """The wire names of events."""
    return [wire_name(type(one.event)) for one in events]


def only(events: Sequence[Stamped], kind: type[Event]) -> list[Stamped]:
    """The events of one type."""
    return [one for one in events if isinstance(one.event, kind)]
