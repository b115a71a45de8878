"""A tool worker on the memory queue, and the owner's side of it: calls are sent, reports are read."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from playhead.adapters.memory import MemoryQueue
from playhead.archive import Archive
from playhead.codec import Codec
from playhead.commands import (
    Command,
    DeadLetter,
    Grant,
    Heartbeat,
    Report,
    ReportResult,
    ReportStarted,
    RunTool,
    StopTool,
)
from playhead.errors import Unavailable
from playhead.events import Json
from playhead.ids import CallId, RunId, SessionId, digest
from playhead.lifespan import Lifespan
from playhead.queue import Delivery, Member, Message, Queue, Since, Topics, TopicSpec
from playhead.redaction import Redactor
from playhead.telemetry import Telemetry
from playhead.tools import Tool
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.retry import Backoff
from playhead_tool_workers.service import Worker

PATIENCE_SECONDS = 20.0
SESSION = SessionId(f"ses_{digest('a session for tests')}")

QUICK = WorkerLimits(
    heartbeat_seconds=0.05,
    progress_seconds=0.05,
    grace_seconds=5.0,
    cleanup_seconds=0.2,
    retry=Backoff(0.01, 0.05),
    reconnect=Backoff(0.01, 0.02),
)

T = TypeVar("T")

_numbers = itertools.count()


class Workshop:
    """The store, and what a test does with it."""

    def __init__(
        self,
        queue: Queue | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        archive: Archive | None = None,
        partitions: int = 4,
    ) -> None:
        self.queue: Queue = queue or MemoryQueue(grace_seconds=1.0)
        self.topics, self.codec, self.telemetry = Topics(pool_partitions=partitions), Codec(), Telemetry()
        self.redactor = Redactor()
        self.patience_seconds = PATIENCE_SECONDS
        self._environment = environment or {}
        self._archive = archive

    def parts(self) -> WorkerParts:
        """Give what workers here are made of."""
        return WorkerParts(
            queue=self.queue,
            topics=self.topics,
            codec=self.codec,
            telemetry=self.telemetry,
            clock=lambda: time.time_ns() // 1000,
            entropy=lambda: os.urandom(16),
            redactor=self.redactor,
            environment=self._environment,
            archive=self._archive,
        )

    @asynccontextmanager
    async def worker(
        self,
        *tools: Tool[..., object],
        pool: str = "default",
        concurrency: int = 8,
        limits: WorkerLimits = QUICK,
        name: str = "first",
        lifespan: Lifespan | None = None,
    ) -> AsyncGenerator[Worker]:
        """Run a worker; leaving the block tells it to stop and waits until it has."""
        worker = Worker(self.parts(), tools, pool, concurrency=concurrency, limits=limits, name=name, lifespan=lifespan)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(worker.serve(stop))
            async with asyncio.timeout(self.patience_seconds):
                await worker.ready.wait()
            try:
                yield worker
            finally:
                stop.set()
                async with asyncio.timeout(self.patience_seconds):
                    await serving

    def call(self, tool: str, arguments: Mapping[str, object], effect: str = "read", **more: Any) -> RunTool:
        """Make a call, without sending it. `more` are other fields of it."""
        number = next(_numbers)
        made = RunTool(
            session=SESSION,
            run_id=RunId(f"run_{digest('run')}"),
            call_id=CallId(f"call_{digest(str(number))}"),
            name=tool,
            input=Json(json.dumps(arguments)),
            effect=effect,
            pool="default",
            lease=f"lease-{number}",
            idempotency_key=f"key-{number}",
            dispatched_at=time.time_ns() // 1000,
        )
        return replace(made, **more)

    async def send(self, call: RunTool, pool: str = "default") -> RunTool:
        """Hand a call to a pool."""
        await self.queue.prepare(self.topics.tools(pool))
        await self.queue.publish(self.topics.tools(pool).name, call.key or call.call_id, self.codec.encode(call))
        return call

    async def ask(self, tool: str, **arguments: object) -> RunTool:
        """Make a call and hand it to the default pool."""
        return await self.send(self.call(tool, arguments))

    async def run(self, tool: str, **arguments: object) -> ReportResult:
        """Make a call and wait for its result."""
        return await self.result(await self.ask(tool, **arguments))

    async def stop(self, call: RunTool, reason: str = "nobody waits", pool: str = "default") -> None:
        """Say that nobody waits for a call any more."""
        command = self.codec.encode(StopTool(call.call_id, reason))
        await self.queue.publish(self.topics.control(pool).name, call.call_id, command)

    async def asked(self, call: RunTool, times: int = 1) -> ReportStarted:
        """Wait until a worker has asked so often whether it may run a call; give the last time."""

        def enough(seen: Sequence[Report]) -> bool:
            return len(claims(seen)) >= times

        return claims(await self.reports(call, enough))[times - 1]

    async def grant(self, call: RunTool, claim: str, pool: str = "default", asking: int | None = None) -> None:
        """Say who may run a call, in answer to what was asked last, or to the `asking`th time."""
        if asking is None:
            await self.asked(call)
            async with aclosing(self.queue.replay(self.topics.results.name)) as batches:
                said = [self.codec.command(message.value) async for messages in batches for message in messages]
            asking = max((one.asking for one in claims(reports_of(call, said)) if one.report_id == claim), default=1)
        granted = self.codec.encode(Grant(call.call_id, claim, asking))
        await self.queue.publish(self.topics.control(pool).name, call.call_id, granted)

    async def late(self, call: RunTool) -> ReportResult:
        """Wait for what comes of a call after its end."""
        seen = await self.reports(call, lambda seen: any(isinstance(one, ReportResult) and one.late for one in seen))
        return next(one for one in seen if isinstance(one, ReportResult) and one.late)

    async def letters(self, count: int) -> list[DeadLetter]:
        """Wait for so many dead letters."""
        name = self.topics.deadletter.name
        read = await self.read(name, lambda seen: sum(isinstance(one, DeadLetter) for one in seen) >= count)
        return [one for one in read if isinstance(one, DeadLetter)]

    async def result(self, call: RunTool) -> ReportResult:
        """Wait for a call's result."""
        seen = await self.reports(call, lambda seen: any(isinstance(one, ReportResult) for one in seen))
        return next(one for one in seen if isinstance(one, ReportResult))

    async def reports(self, call: RunTool, enough: Callable[[Sequence[Report]], bool]) -> list[Report]:
        """Read the reports of a call from the beginning until there are enough of them."""
        read = await self.read(self.topics.results.name, lambda seen: enough(reports_of(call, seen)))
        return reports_of(call, read)

    async def settled(self, call: RunTool, tool: str, **arguments: object) -> list[Report]:
        """Give all reports of a call, heartbeats aside: it is over, and a later call of `tool` has run its course."""
        await self.result(call)
        later = await self.run(tool, **arguments)
        read = await self.read(self.topics.results.name, lambda seen: later in seen)
        return [report for report in reports_of(call, read) if not isinstance(report, Heartbeat)]

    async def settled_without(self, call: RunTool, tool: str, **arguments: object) -> list[Report]:
        """Give all reports of a call that has no result, once a later call of `tool` has run its course."""
        later = await self.run(tool, **arguments)
        read = await self.read(self.topics.results.name, lambda seen: later in seen)
        return reports_of(call, read)

    async def read(self, topic: str, enough: Callable[[Sequence[Command]], bool]) -> list[Command]:
        """Read a topic from its beginning until there is enough."""
        seen: list[Command] = []
        async with (
            asyncio.timeout(self.patience_seconds),
            aclosing(self.queue.replay(topic, follow=True)) as batches,
        ):
            async for messages in batches:
                for message in messages:
                    seen.append(self.codec.command(message.value))
                    if enough(seen):
                        return seen
        raise AssertionError("the topic ended")


class WearyQueue:
    """A queue that can be told to fail: its next publishes to a topic, or the members that take part."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._failing: dict[str, int] = {}
        self._members: list[asyncio.Event] = []
        self.joined = 0
        self.shut = False

    def fail(self, topic: str, times: int) -> None:
        """Let the next publishes to a topic fail."""
        self._failing[topic] = times

    def lose_members(self) -> None:
        """Let every member find that the queue is gone."""
        for lost in self._members:
            lost.set()

    async def prepare(self, *topics: TopicSpec) -> None:
        await self._queue.prepare(*topics)

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        left = self._failing.get(topic, 0)
        if left:
            self._failing[topic] = left - 1
            raise Unavailable("the queue is weary")
        await self._queue.publish(topic, key, value)

    @asynccontextmanager
    async def join(self, group: str, *topics: str) -> AsyncGenerator[Member]:
        if self.shut:
            raise Unavailable("the queue is shut")
        self.joined += 1
        lost = asyncio.Event()
        self._members.append(lost)
        async with self._queue.join(group, *topics) as member:
            yield _WearyMember(member, lost)

    def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        return self._queue.replay(topic, since=since, follow=follow, partitions=partitions)

    async def partition_of(self, topic: str, key: str) -> int:
        return await self._queue.partition_of(topic, key)


class _WearyMember:
    def __init__(self, member: Member, lost: asyncio.Event) -> None:
        self._member = member
        self._lost = lost

    async def receive(self) -> Delivery:
        async with asyncio.TaskGroup() as group:
            receiving, losing = group.create_task(self._member.receive()), group.create_task(self._lost.wait())
            await asyncio.wait({receiving, losing}, return_when=asyncio.FIRST_COMPLETED)
            receiving.cancel()
            losing.cancel()
        if self._lost.is_set():
            raise Unavailable("the member is weary")
        return receiving.result()

    def acknowledge(self, *messages: Message) -> None:
        self._member.acknowledge(*messages)


def reports_of(call: RunTool, commands: Sequence[Command]) -> list[Report]:
    """Pick the reports of one call."""
    return [one for one in commands if isinstance(one, Report) and one.call_id == call.call_id]


def claims(reports: Sequence[Report]) -> list[ReportStarted]:
    """Pick the questions whether a call may be run."""
    return [one for one in reports if isinstance(one, ReportStarted) and one.claim]


def kinds(reports: Sequence[Command]) -> list[str]:
    """Name what is there, for comparing."""
    return [type(one).__name__ for one in reports]


async def within(work: Awaitable[T]) -> T:
    """Wait, but not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await work
