"""Orchestrators that come and go while everything around them misbehaves, at random but by seed.

`PLAYHEAD_STRESS_SEEDS` (a number) runs more seeds than the slice of every build; a seed that fails is in the test's id.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from playhead import Agent, tool
from playhead.accept import Head, Record, genesis
from playhead.adapters.memory import MemoryQueue
from playhead.codec import Context
from playhead.commands import (
    CancelRun,
    Command,
    DeadLetter,
    Grant,
    Heartbeat,
    ReportProgress,
    ReportResult,
    ReportStarted,
    RunTool,
    StartSession,
    StopTool,
)
from playhead.errors import Unavailable
from playhead.events import (
    Budget,
    Json,
    OwnerChanged,
    RunCancelled,
    RunCompleted,
    RunFailed,
    Stamped,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolStarted,
)
from playhead.ids import RunId, SessionId
from playhead.log import SessionLog
from playhead.queue import Topics
from playhead.session import Session, empty, fold, pending
from playhead_orchestrator.model import Finished, ModelFailed, ModelRequest, Said, TextSaid, Usage
from playhead_orchestrator.parts import Waits
from playhead_orchestrator.service import Orchestrator

from tests.orchestrator.faults import FaultyLog, FaultyQueue
from tests.orchestrator.inquest import what_is_waited_for
from tests.orchestrator.stage import Actor, Stage
from tests.session.invariants import audit, place_of

SEEDS = range(int(os.environ.get("PLAYHEAD_STRESS_SEEDS", "3")))

SESSIONS = 8
ORCHESTRATORS_MAX = 3
STIRRING_SECONDS = 2.0
CALM_SECONDS = 30.0
WAITS = Waits(again=0.01, reacquire=0.05, handover=0.04, silence=0.3, lost=0.4, look=0.05, unassigned=0.2)
HANDOVER_SECONDS = 0.05
"""Less than an owner may need to let go: partitions are also taken from members that still work."""

ENDS = (RunCompleted, RunFailed, RunCancelled)


@tool
async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


@tool(effect="write", key="city")
async def visit(city: str) -> str:
    """Go to a city."""
    return city


@tool(effect="once", after=[weather])
async def send(city: str) -> str:
    """Send a letter to a city."""
    return city


@tool(effect="once", reconcile=lambda: "it was sent", exclusive=True)
async def post(city: str) -> str:
    """Send a letter that can be looked for."""
    return city


@dataclass
class World:
    """Everything around the orchestrators. `calm` ends all misbehaviour."""

    chance: random.Random
    stage: Stage = field(init=False)
    calm: bool = False
    asked: dict[SessionId, list[RunId]] = field(default_factory=dict[SessionId, list[RunId]])
    lives: int = 0
    attempts: Iterator[int] = field(default_factory=count)
    granted: dict[str, asyncio.Future[bool]] = field(default_factory=dict[str, "asyncio.Future[bool]"])
    executed: Counter[str] = field(default_factory=Counter[str])
    alive: dict[Orchestrator, str] = field(default_factory=dict[Orchestrator, str])

    def __post_init__(self) -> None:
        agent = Agent("helper", model="stage:one", tools=[weather, visit, send, post], budget=Budget(steps=6))
        self.stage = Stage(Actor([self.speak]), [agent])
        self.stage.topics = Topics(session_partitions=4, pool_partitions=2)
        self.stage.waits = replace(WAITS, idle=self.chance.choice((0.2, 60.0)))
        self.stage.log = _Shaky(self.stage.log, self)
        self.stage.queue = FaultyQueue(MemoryQueue(grace_seconds=HANDOVER_SECONDS), self.before_publish)

    def happens(self, likelihood: float) -> bool:
        return not self.calm and self.chance.random() < likelihood

    async def pause(self, seconds: float = 0.01) -> None:
        await asyncio.sleep(self.chance.random() * seconds)

    async def before_publish(self, topic: str) -> None:
        if self.happens(0.05):
            raise Unavailable("told to fail")
        if self.happens(0.1):
            await self.pause()

    async def speak(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Say something slowly; fail, break, or ask for tools."""
        for number in range(self.chance.randrange(6)):
            yield (TextSaid(f"{request.attempt}.{number} "),)
            await self.pause()
        if self.happens(0.1):
            raise ModelFailed("overloaded", "told to fail", retryable=True, retry_after_seconds=0.0)
        if self.happens(0.03):
            raise ModelFailed("refused", "told to fail", retryable=False)
        if self.happens(0.03):
            raise KeyError("told to break")
        if self.chance.random() < 0.5:
            uses = tuple(
                {
                    "type": "tool_use",
                    "name": self.chance.choice(("weather", "visit", "send", "post", "ghost")),
                    "input": {"city": "x"},
                }
                for _ in range(self.chance.randrange(1, 4))
            )
            yield (Finished(uses, Usage(1, 1), "tool_use"),)
        else:
            yield (Finished(({"type": "text", "text": "done"},), Usage(1, 1), "end_turn"),)

    async def live(self) -> None:
        """Serve as one orchestrator after another until calm; each is killed: cancelled, nothing drained."""
        while True:
            self.lives += 1
            name = self.chance.choice(("always the same", f"life {self.lives}"))
            service = Orchestrator(self.stage.parts(name), self.stage.agents, drain_seconds=0.0)
            task = asyncio.create_task(service.serve(asyncio.Event()))
            self.alive[service] = name
            try:
                while not self.happens(0.2):
                    await self.pause(0.1)
                    assert not task.done(), "an orchestrator ended by itself"
                    if self.calm:
                        await task
            finally:
                del self.alive[service]
                task.cancel()
                await asyncio.wait((task,))
            assert task.cancelled() or task.exception() is None, task.exception()
            await self.pause(0.05)

    async def work(self) -> None:
        """Be the pool's workers: late, twice, or silent until asked again."""
        queue, codec, topics = self.stage.queue, self.stage.codec, self.stage.topics
        await queue.prepare(topics.tools("default"))
        async with asyncio.TaskGroup() as tasks, queue.join("workers", topics.tools("default").name) as member:
            while True:
                delivery = await member.receive()
                if isinstance(delivery, tuple):
                    for message in delivery:
                        call = codec.command(message.value)
                        assert isinstance(call, RunTool)
                        tasks.create_task(self.run(call))
                    member.acknowledge(*delivery)

    async def listen(self) -> None:
        """Hear what the pool's workers are told, for all of them."""
        control = self.stage.topics.control("default")
        await self.stage.queue.prepare(control)
        async with aclosing(self.stage.queue.replay(control.name, follow=True)) as batches:
            async for messages in batches:
                for message in messages:
                    command = self.stage.codec.command(message.value)
                    assert isinstance(command, Grant | StopTool)
                    for claim, verdict in self.granted.items():
                        if claim.startswith(f"{command.call_id}:") and not verdict.done():
                            verdict.set_result(isinstance(command, Grant) and command.claim == claim)

    async def may_run(self, call: RunTool, worker: str) -> bool:
        """Ask for a call until there is an answer."""
        claim = f"{call.call_id}:{worker}"
        verdict = self.granted[claim] = asyncio.get_running_loop().create_future()
        asked = ReportStarted(claim, call.session, call.call_id, call.lease, worker, claim=True, pool=call.pool)
        while not verdict.done():
            await self.report(call, asked)
            await asyncio.wait((verdict,), timeout=0.1)
        return verdict.result()

    async def run(self, call: RunTool) -> None:
        worker = f"w{next(self.attempts)}"  # a worker names each of its reports anew
        place = (call.session, call.call_id, call.lease)
        if call.effect == "once" and not call.reconcile:
            if not await self.may_run(call, worker):
                return
            if self.happens(0.1):
                return  # dies before it has begun
            self.executed[call.call_id] += 1
        elif not call.reconcile:
            await self.report(call, ReportStarted(f"started:{worker}", *place, worker))
        if not call.reconcile and self.happens(0.2):
            return  # falls silent; who only looks into a call is not watched: the queue delivers it again
        for number in range(self.chance.randrange(3)):
            await self.pause(0.05)
            await self.report(call, Heartbeat(*place, worker))
            await self.report(call, ReportProgress(f"p{number}:{worker}", *place, 0.5))
        status = "unknown" if call.reconcile and self.happens(0.5) else "ok"
        result = ReportResult(f"result:{worker}", *place, status, Json('"x"'), 1)
        await self.report(call, result)
        if self.happens(0.3):
            await self.pause()
            await self.report(call, result)

    async def report(self, call: RunTool, report: ReportStarted | Heartbeat | ReportProgress | ReportResult) -> None:
        await self.stage.parts("worker").publish(self.stage.topics.results.name, call.session, report)

    async def begin(self) -> SessionId:
        """Start a session by its first message."""
        stage = self.stage
        session = await stage.log.create()
        say = stage.say(session, "first")
        self.asked[session] = [say.run_id]
        start = StartSession(f"start:{session}", session, None, Json("{}"), say)
        await stage.parts("gateway").publish(stage.topics.requests.name, session, start)
        return session

    async def talk(self, session: SessionId) -> None:
        """Say things, interrupt, cancel; now and then a request comes twice."""
        stage, requests = self.stage, self.stage.topics.requests.name
        publish = stage.parts("gateway").publish
        for number in range(1000):
            if self.calm:
                return
            say = stage.say(session, f"{number}", self.chance.choice(("queue", "queue", "interrupt", "reject")))
            self.asked[session].append(say.run_id)
            for _ in range(self.chance.choice((1, 1, 2))):
                await publish(requests, session, say)
            if self.happens(0.2):
                run = self.chance.choice((None, say.run_id))
                await publish(requests, session, CancelRun(f"cancel:{session}:{number}", session, run, "stop"))
            await self.pause(0.4)


class _Shaky(FaultyLog):
    """A log whose appends fail while the world is not calm."""

    def __init__(self, log: SessionLog, world: World) -> None:
        super().__init__(log)
        self._world = world

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        world = self._world
        if world.happens(0.02):
            self.faults.append(world.chance.choice(("before", "after")))
        if world.happens(0.1):
            await world.pause()
        if head.seq and world.happens(0.01):
            await self._usurp(session)
        return await super().append(session, head, records)

    async def _usurp(self, session: SessionId) -> None:
        """Write as an owner that nobody knows of would, who then falls silent."""
        codec, (*_, last) = self._world.stage.codec, await read(self._world.stage, session)
        head, epoch = await self.end(session), last.stamp.epoch + 1
        usurped = codec.seal(head, (OwnerChanged(epoch, "a stranger"),), Context(session, epoch, None, last.stamp.at))
        await super().append(session, head, usurped)


async def read(stage: Stage, session: SessionId) -> list[Stamped]:
    """Read a log, checking the chain."""
    events, head = list[Stamped](), genesis(session)
    async with aclosing(stage.log.read(session)) as pages:
        async for page in pages:
            for record in page.records:
                assert (record.seq, record.prev) == (head.seq + 1, head.hash)
                head = Head(record.seq, record.hash, record.seq)
                events.append(stage.codec.event(record.value))
    return events


async def all_answered(world: World) -> None:
    while True:
        unanswered = 0
        for session, runs in world.asked.items():
            ended = {one.event.run_id for one in await read(world.stage, session) if isinstance(one.event, ENDS)}
            unanswered += len(set(runs) - ended)
        if not unanswered:
            return
        await asyncio.sleep(0.1)


async def all_idle(world: World) -> None:
    def busy(service: Orchestrator) -> bool:
        return service.under_way > 0 or any(map(pending, service.held.values()))

    while any(map(busy, world.alive)):  # noqa: ASYNC110 - nobody is told when all is done with
        await asyncio.sleep(0.05)


async def all_agreed(world: World) -> None:
    """Wait until whoever holds a session holds what its log says: who lost it lets go of it a little later."""

    async def disagrees(session: SessionId, held: Session) -> bool:
        state = empty(session)
        for one in await read(world.stage, session):
            state = fold(state, one)
        return held != state

    while True:
        held = [one for service in world.alive for one in service.held.items()]
        if not [session for session, state in held if await disagrees(session, state)]:
            return
        await asyncio.sleep(0.05)


async def everything_sent(stage: Stage, topic: str) -> list[Command]:
    sent = list[Command]()
    async with aclosing(stage.queue.replay(topic)) as batches:
        async for messages in batches:
            sent.extend(stage.codec.command(message.value) for message in messages)
    return sent


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_every_request_ends_once_and_the_log_says_why(seed: int) -> None:
    world = World(random.Random(seed))
    stage, before = world.stage, asyncio.all_tasks()
    await stage.queue.prepare(*stage.topics.fixed)
    async with asyncio.TaskGroup() as tasks:
        working, listening = tasks.create_task(world.work()), tasks.create_task(world.listen())
        living = [tasks.create_task(world.live()) for _ in range(ORCHESTRATORS_MAX)]
        for _ in range(SESSIONS):
            session = await world.begin()
            tasks.create_task(world.talk(session))
        await asyncio.sleep(STIRRING_SECONDS)
        world.calm = True
        try:
            async with asyncio.timeout(CALM_SECONDS):
                await all_answered(world)
                await all_idle(world)
                await all_agreed(world)
        except TimeoutError:
            pytest.fail(await what_is_waited_for(stage, world.asked, world.alive), pytrace=False)
        for task in (working, listening, *living):
            task.cancel()
    assert asyncio.all_tasks() == before, "a task was left behind"
    calls, hopeless = set[str](), set[str]()
    for session, runs in world.asked.items():
        events = await read(stage, session)
        state = empty(session)
        for one in events:
            state = fold(state, one)
        audit([one.event for one in events], state, Budget(steps=6))
        ended = Counter(one.event.run_id for one in events if isinstance(one.event, ENDS))
        assert ended == Counter(set(runs)), "every accepted request ends exactly once"
        assert pending(state) == ()
        told = Counter((*place_of(one.event), one.event.text) for one in events if isinstance(one.event, TextDelta))
        assert set(told.values()) <= {1}, "an attempt said something twice"
        made = {one.event.call_id: one.event for one in events if isinstance(one.event, ToolCall)}
        calls |= made.keys()
        ends = {one.event.call_id: one.event.status for one in events if isinstance(one.event, ToolResult)}
        hopeless |= {call for call, status in ends.items() if status in ("unknown", "error")}
        begun = Counter(one.event.call_id for one in events if isinstance(one.event, ToolStarted))
        for call in [call for call in made.values() if call.effect == "once"]:
            assert world.executed[call.call_id] <= begun[call.call_id] <= 1, "a call that starts once started again"
    tools = stage.topics.tools("default").name
    dispatched = {one.call_id for one in await everything_sent(stage, tools) if isinstance(one, RunTool)}
    assert dispatched <= calls, "something was dispatched that is not in the log"
    for letter in await everything_sent(stage, stage.topics.deadletter.name):
        assert isinstance(letter, DeadLetter)
        told_of = stage.codec.command(letter.value)
        assert isinstance(told_of, RunTool), "nobody sent anything that cannot be handled"
        assert told_of.call_id in hopeless, "people are told of a call that came to its end"
