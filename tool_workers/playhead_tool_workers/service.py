"""The tool worker: takes a pool's calls from the queue, runs them, and reports to the sessions' owners.

A message is acknowledged once its call's result is safe. So a worker that dies, or is stopped before a call has ended,
leaves the call to another worker; results that come twice are the owner's to tell apart. It knows the queue by its
port, and of sessions only what the calls say.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from typing import NoReturn

from playhead.commands import DeadLetter, Grant, RunTool, StopTool
from playhead.errors import Misconfigured, Unavailable, Undecodable
from playhead.lifespan import Lifespan
from playhead.queue import Assigned, Member, Message, Revoked
from playhead.telemetry import logger
from playhead.tools import Tool, check_name, distinct

from playhead_tool_workers.announcing import announcement
from playhead_tool_workers.conduct import Conductor, Crew
from playhead_tool_workers.lifetimes import opened, until
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.reports import Sender
from playhead_tool_workers.running import Call, Calls, is_another
from playhead_tool_workers.turns import Turns

__all__ = ["Worker"]

CONCURRENCY = 32
DEAD_VALUE_BYTES_MAX = 800_000
"""How much of a record that cannot be handled is kept: with the rest of the dead letter it must be a record itself."""

DEAD_KEY_CHARS_MAX = 1_000

log = logger(__name__)


class Worker:
    """One worker of a pool. `ready` is set once it has announced its tools and takes part in the pool's group."""

    def __init__(  # noqa: PLR0913 - the last three are options by name
        self,
        parts: WorkerParts,
        tools: Sequence[Tool[..., object]],
        pool: str,
        *,
        concurrency: int = CONCURRENCY,
        name: str | None = None,
        limits: WorkerLimits | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        """Take the tools of `pool` among `tools`. Raises `Misconfigured` if there are none, or a secret is missing.

        What `lifespan` yields is open from before the first call until after the last.
        """
        check_name("pool", pool)
        own = tuple(tool for tool in distinct(tools) if tool.pool == pool)
        if not own:
            pools = ", ".join(sorted({tool.pool for tool in tools})) or "none"
            raise Misconfigured(f"no tool is in pool {pool!r}; the tools found are in: {pools}")
        if concurrency < 1:
            raise Misconfigured(f"a worker runs at least 1 call at a time, not {concurrency}")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{parts.entropy()[:3].hex()}"
        self.ready = asyncio.Event()
        self._parts = parts
        self._limits = limits or WorkerLimits()
        self._crew = Crew(self.name, pool, concurrency, self._limits)
        self._tools = own
        self._offered: dict[str, Tool[..., object]] = {}
        self._lifespan = lifespan
        self._partitions: frozenset[int] = frozenset()
        self._turns = Turns()
        self._sender = Sender(parts, self._limits.reconnect)
        self._conductor = Conductor(parts, self._crew, self._sender)
        self._conductor.offer(own)
        self._calls = Calls(self._limits)
        self._member: Member | None = None
        self._grace_ends_at: float | None = None
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._announcing = asyncio.Lock()

    async def serve(self, stop: asyncio.Event) -> None:
        """Take calls until `stop`; then let those that run finish, for the grace that the limits give them.

        A call that has not ended by then, or when this is cancelled, is neither reported nor acknowledged, so that
        another worker gets it.
        """
        async with AsyncExitStack() as stack:
            if self._lifespan is not None:
                self._conductor.resources = await stack.enter_async_context(opened(self._lifespan))
            await self._serve(stop)

    async def offer(self, tools: Sequence[Tool[..., object]]) -> None:
        """Offer these tools of the pool instead of those so far. Calls that run go on. Raises `Misconfigured`."""
        own = tuple(tool for tool in distinct(tools) if tool.pool == self._crew.pool)
        self._conductor.offer(own)
        self._tools = own
        await self._announce()

    async def _serve(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await until(stop, self._announce())
                listening = group.create_task(self._listen())
                await until(stop, self._heard.wait())
                await self._consume(stop, group)
                await self._drain()
                listening.cancel()
        finally:
            self.ready.clear()
            await self._conductor.close()

    async def _announce(self) -> None:
        """Say which tools there are now, and which no longer."""
        async with self._announcing:  # in the order in which they were offered
            await self._say_offered()

    async def _say_offered(self) -> None:
        topic, pool, at = self._parts.topics.catalog.name, self._crew.pool, self._parts.clock()
        await self._prepare()
        before, self._offered = self._offered, {tool.name: tool for tool in self._tools}
        for name, tool in self._offered.items():
            if before.get(name) is not tool:
                await self._sender.surely(topic, f"{pool}/{name}", announcement(tool, at))
        for name, tool in before.items():
            if name not in self._offered:
                await self._sender.surely(topic, f"{pool}/{name}", replace(announcement(tool, at), withdrawn=True))
        log.info("tools announced", pool=pool, worker=self.name, tools=list(self._offered))

    async def _prepare(self) -> None:
        topics, pool = self._parts.topics, self._crew.pool
        failures = 0
        while True:
            try:
                await self._parts.queue.prepare(*topics.fixed, topics.tools(pool), topics.control(pool))
                return
            except Unavailable as error:
                failures += 1
                log.warning("the queue cannot be reached; trying again", failures=failures, error=str(error))
                await asyncio.sleep(self._sender.delay_seconds(failures))

    async def _listen(self) -> None:
        """Heed the pool's control topic. Stops sent while it cannot be reached are missed: those calls run on."""
        topic = self._parts.topics.control(self._crew.pool).name
        failures = 0
        while True:
            try:
                async with aclosing(self._parts.queue.replay(topic, since="end", follow=True)) as batches:
                    async for batch in batches:
                        failures = 0
                        self._heard.set()
                        for message in batch:
                            self._heed(message)
            except Unavailable as error:
                failures += 1
                log.warning("cannot hear what to stop; trying again", failures=failures, error=str(error))
            await asyncio.sleep(self._sender.delay_seconds(max(failures, 1)))

    def _heed(self, message: Message) -> None:
        try:
            command = self._parts.codec.command(message.value)
        except Undecodable as error:
            log.warning("a control message makes no sense", offset=message.offset, error=str(error))
            return
        if isinstance(command, StopTool):
            self._calls.stop(command.call_id, command.reason)
        elif isinstance(command, Grant):
            self._calls.grant(command)

    async def _consume(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        topic = self._parts.topics.tools(self._crew.pool).name
        failures = 0
        while not stop.is_set():
            try:
                async with self._parts.queue.join(topic, topic) as member:
                    failures = 0
                    await self._take_part(member, stop, group)
            except Unavailable as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError from None  # leaving the queue failed, and the error took its place
                failures += 1
                log.warning("lost the queue; joining again", failures=failures, error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._sender.delay_seconds(failures)):
                        await stop.wait()

    async def _take_part(self, member: Member, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        self._member = member
        try:
            async with asyncio.TaskGroup() as intake:
                receiving = intake.create_task(self._received(member, stop, group))
                stopped = intake.create_task(stop.wait())
                self.ready.set()
                await asyncio.wait({receiving, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    await self._drain()
                receiving.cancel()
                stopped.cancel()
            if not receiving.cancelled() and not stop.is_set():
                raise receiving.result()
        finally:
            self._member = None
            self._hold(frozenset())
            self._let_go(None)

    async def _received(self, member: Member, stop: asyncio.Event, group: asyncio.TaskGroup) -> Unavailable:
        """Receive until the queue is lost, and give the error.

        Raised in a task group that is cancelled just then, it would be all that is heard of (before Python 3.13).
        """
        try:
            await self._receive(member, stop, group)
        except Unavailable as error:
            return error

    async def _receive(self, member: Member, stop: asyncio.Event, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            while len(self._calls) >= self._crew.concurrency + self._limits.backlog_max:
                await self._change()
            match await member.receive():
                case Assigned(partitions):
                    log.debug("assigned", pool=self._crew.pool, partitions=len(partitions))
                    self._hold(self._partitions | partitions)
                case Revoked(partitions):
                    self._hold(self._partitions - partitions)
                    self._let_go(partitions)
                case messages:
                    for message in messages:
                        # While draining, messages are left to whoever has the partition next; coming here still lets
                        # go of partitions.
                        if not stop.is_set():
                            await self._take(message, group)

    async def _take(self, message: Message, group: asyncio.TaskGroup) -> None:
        try:
            command = self._parts.codec.command(message.value)
        except Undecodable as error:
            await self._set_aside(message, str(error))
            return
        if not isinstance(command, RunTool):
            await self._set_aside(message, f"a {type(command).__name__} is not a call")
            return
        known = self._calls.active(command.call_id)
        if known is not None:
            (known.then if is_another(command, known.command) else known.messages).append(message)
            return
        result = self._calls.finished(command)
        if result is not None:
            await self._sender.report(result)
            self._acknowledge(message)
            return
        call = self._calls.add(command, message)
        if command.key is not None:
            call.turn = self._turns.join(command.key)
        call.task = group.create_task(self._see_through(call, group))
        # Here as well as in the task: one that is cancelled before it begins runs nothing of itself.
        call.task.add_done_callback(lambda _: self._off(call))

    async def _see_through(self, call: Call, group: asyncio.TaskGroup) -> None:
        try:
            await self._parts.reach("worker.taken")
            end = await self._conductor.conduct(call)
            if end is not None:
                self._calls.remember(call.command, end)
            self._acknowledge(*call.messages)
        finally:
            self._off(call)
        await self._parts.reach("worker.acknowledged")
        for message in call.then:
            if self._grace_ends_at is None:
                await self._take(message, group)

    def _off(self, call: Call) -> None:
        """Take a call off the table. A second time it does nothing."""
        if call.turn is not None:
            call.turn.leave()
        self._calls.remove(call)
        self._changed.set()

    async def _set_aside(self, message: Message, error: str) -> None:
        """Move a record that cannot be handled out of the way, whole if it fits."""
        value = message.value[:DEAD_VALUE_BYTES_MAX]
        if len(value) < len(message.value):
            error = f"{error} (the first {len(value)} of {len(message.value)} bytes are kept)"
        letter = DeadLetter(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key[:DEAD_KEY_CHARS_MAX],
            value=value,
            error=error,
            at=self._parts.clock(),
        )
        log.warning("set aside a record", topic=message.topic, offset=message.offset, error=error)
        await self._sender.surely(self._parts.topics.deadletter.name, message.topic, letter)
        self._parts.telemetry.dead_letters.labels(message.topic).inc()
        self._acknowledge(message)

    def _hold(self, partitions: frozenset[int]) -> None:
        """Know what part of the pool's calls comes here: so much of its rates is ours."""
        self._partitions = partitions
        self._conductor.share = max(len(partitions), 1) / max(self._parts.topics.pool_partitions, len(partitions), 1)

    def _acknowledge(self, *messages: Message) -> None:
        if self._member is not None:
            self._member.acknowledge(*messages)

    def _let_go(self, partitions: frozenset[int] | None) -> None:
        self._calls.let_go(partitions)
        self._changed.set()

    async def _drain(self) -> None:
        """Let what runs finish, for as long as the grace lasts; what waits is left to others."""
        if self._grace_ends_at is None:
            self._grace_ends_at = asyncio.get_running_loop().time() + self._limits.grace_seconds
        self._calls.drop_waiting()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._grace_ends_at):
                while len(self._calls):
                    await self._change()
        if len(self._calls):
            log.warning("gave up on running calls; another worker gets them", calls=len(self._calls))
            for call in self._calls:
                call.drop()
            while len(self._calls):
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
