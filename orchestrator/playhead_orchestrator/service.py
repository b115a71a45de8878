"""The orchestrator: takes part in the group of those that own sessions, and gives each session it is given an owner.

Consumer-group assignment says who should own a session, the chain says who did. So nothing here needs to be exact about
ownership: an owner too many is superseded by the log, and one too few is found again through the directory.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from playhead.agents import Agent
from playhead.commands import (
    AnnounceAgent,
    DeadLetter,
    Heartbeat,
    ListSession,
    Report,
    ReportStarted,
    Request,
    StartSession,
)
from playhead.errors import Superseded, Unavailable, Undecodable, UnknownSession
from playhead.ids import SessionId
from playhead.queue import Assigned, Member, Message, Revoked
from playhead.telemetry import logger

from playhead_orchestrator.acting import Setting
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.dispatch import lease_of
from playhead_orchestrator.owner import Item, SessionOwner
from playhead_orchestrator.parts import Agents, OrchestratorParts

__all__ = ["GROUP", "MESSAGES_UNDER_WAY_MAX", "Orchestrator"]

GROUP = "orchestrators"

MESSAGES_UNDER_WAY_MAX = 5_000
"""How many queue messages may wait for their sessions before no more are taken."""

OWNERS_IDLE_MAX = 2_000
"""How many sessions are kept in memory although nothing goes on in them."""

LOADING_MAX = 32
"""How many sessions' logs are read at the same time."""

IDLE_SECONDS = 60.0
LOOK_SECONDS = 1.0

REACQUIRE_SECONDS = 5.0
"""How long an owner that was superseded waits before it reads the log again: whoever has the session then is left alone
unless the group still says that it is ours."""

log = logger(__name__)


class Orchestrator:
    """One instance. `ready` is set once it takes part in the group and its recovered sessions go on."""

    def __init__(self, parts: OrchestratorParts, agents: Sequence[Agent], *, drain_seconds: float = 10.0) -> None:
        self._parts = parts
        self._agents = Agents(tuple(agents))
        self._catalogue = Catalogue(agents)
        self._drain_seconds = drain_seconds
        self._owners: dict[SessionId, tuple[SessionOwner, asyncio.Task[None]]] = {}
        self._partitions: dict[SessionId, int] = {}
        self._assigned: frozenset[int] = frozenset()
        self._under_way = 0
        self._loading = asyncio.Semaphore(LOADING_MAX)
        self._room = asyncio.Event()
        self.ready = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        """Take part until `stop`; then go on until no run is under way, at most `drain_seconds`."""
        parts = self._parts
        await parts.queue.prepare(*parts.topics.fixed, *(parts.topics.tools(pool) for pool in self._pools()))
        await parts.queue.prepare(*(parts.topics.control(pool) for pool in self._pools()))
        await self._announce()
        async with asyncio.TaskGroup() as background:
            following = background.create_task(
                self._catalogue.follow(parts.queue, parts.topics.catalog.name, parts.codec)
            )
            await self._catalogue.caught_up.wait()
            group = f"{parts.topics.prefix}.{GROUP}"
            async with parts.queue.join(group, parts.topics.requests.name, parts.topics.results.name) as member:
                looking = background.create_task(self._look())
                taking = background.create_task(self._take(member))
                await stop.wait()
                await self._drain()  # inputs are still taken: the runs that are waited for need their results
                for task in (taking, looking, following):
                    task.cancel()
                await self._let_go(self._owners)

    def _pools(self) -> frozenset[str]:
        return frozenset(tool.pool for agent in self._agents for tool in agent.own_tools)

    async def _announce(self) -> None:
        parts, now = self._parts, self._parts.clock()
        for agent in self._agents:
            is_default = agent is self._agents.default
            command = AnnounceAgent(
                agent.name, agent.version, agent.model, agent.description, agent.tool_names, is_default, now
            )
            await parts.queue.publish(parts.topics.catalog.name, f"agent/{agent.name}", parts.codec.encode(command))

    async def _take(self, member: Member) -> None:
        async with asyncio.TaskGroup() as owners:
            while True:
                delivery = await member.receive()
                match delivery:
                    case Assigned(partitions):
                        self._assigned |= partitions
                        await self._recover(partitions, member, owners)
                        self.ready.set()
                    case Revoked(partitions):
                        self._assigned -= partitions
                        lost = [one for one in self._owners if self._partitions[one] in partitions]
                        await self._let_go(lost)
                    case messages:
                        for message in messages:
                            await self._deliver(message, member, owners)
                        while self._under_way > MESSAGES_UNDER_WAY_MAX:
                            self._room.clear()
                            await self._room.wait()

    async def _recover(self, partitions: frozenset[int], member: Member, owners: asyncio.TaskGroup) -> None:
        """Find the sessions with open work in the directory, and own them."""
        parts = self._parts
        open_sessions: dict[SessionId, int] = {}
        async with aclosing(parts.queue.replay(parts.topics.sessions.name, partitions=partitions)) as batches:
            async for messages in batches:
                for message in messages:
                    listing = self._listing(message)
                    if listing is not None and listing.open:
                        open_sessions[listing.session] = message.partition
                    elif listing is not None:
                        open_sessions.pop(listing.session, None)
        for session, partition in open_sessions.items():
            self._owner(session, partition, member=member, owners=owners, fresh=False).put(Item(None))
        if open_sessions:
            log.info("recovered sessions with open work", count=len(open_sessions))

    def _listing(self, message: Message) -> ListSession | None:
        try:
            command = self._parts.codec.command(message.value)
        except Undecodable as error:
            log.warning("skipped a line of the directory", key=message.key, error=str(error))
            return None
        return command if isinstance(command, ListSession) else None

    async def _deliver(self, message: Message, member: Member, owners: asyncio.TaskGroup) -> None:
        try:
            command = self._parts.codec.command(message.value)
        except Undecodable as error:
            await self._set_aside(message, str(error), member)
            return
        is_request = message.topic == self._parts.topics.requests.name
        if is_request and isinstance(command, Request):
            fresh = isinstance(command, StartSession) and command.session not in self._owners
            owner = self._owner(command.session, message.partition, member=member, owners=owners, fresh=fresh)
            self._under_way += 1
            owner.put(Item(command, message))
        elif not is_request and isinstance(command, Report):
            await self._hear(command, message, member, owners)
        else:
            await self._set_aside(message, f"a {type(command).__name__} does not belong in {message.topic}", member)

    async def _hear(self, report: Report, message: Message, member: Member, owners: asyncio.TaskGroup) -> None:
        if not hmac.compare_digest(report.lease, lease_of(self._parts.lease_key, report.call_id)):
            await self._set_aside(message, f"the lease of call {report.call_id} is wrong", member)
            return
        known = self._owners.get(report.session)
        if known is not None and isinstance(report, Heartbeat | ReportStarted):
            known[0].heard(report)
        if isinstance(report, Heartbeat):
            member.acknowledge(message)
            return
        owner = self._owner(report.session, message.partition, member=member, owners=owners, fresh=False)
        self._under_way += 1
        owner.put(Item(report, message))

    async def _set_aside(self, message: Message, error: str, member: Member) -> None:
        parts = self._parts
        letter = DeadLetter(
            message.topic, message.partition, message.offset, message.key, message.value, error, parts.clock()
        )
        await parts.queue.publish(parts.topics.deadletter.name, message.topic, parts.codec.encode(letter))
        parts.telemetry.dead_letters.labels(message.topic).inc()
        log.error("set a record aside", topic=message.topic, offset=message.offset, error=error)
        member.acknowledge(message)

    def _owner(
        self, session: SessionId, partition: int, *, member: Member, owners: asyncio.TaskGroup, fresh: bool
    ) -> SessionOwner:
        known = self._owners.get(session)
        if known is not None:
            return known[0]

        def acknowledge(messages: Iterable[Message]) -> None:
            done = tuple(messages)
            self._under_way -= len(done)
            self._room.set()
            member.acknowledge(*done)

        setting = Setting(self._parts, self._agents, self._catalogue, session, self._loading)
        owner = SessionOwner(setting, acknowledge, fresh=fresh)
        self._partitions[session] = partition
        self._owners[session] = (owner, owners.create_task(self._keep(owner, session, member)))
        self._parts.telemetry.sessions_owned.set(len(self._owners))
        return owner

    async def _keep(self, owner: SessionOwner, session: SessionId, member: Member) -> None:
        """Run an owner for as long as the session is ours."""
        try:
            while True:
                try:
                    await owner.run()
                except Superseded as error:
                    log.warning("superseded: letting go", session=session, error=str(error))
                    if not owner.was_fresh:
                        # Not a wait for something that we could be told: it gives the group time to tell us that the
                        # session is no longer ours, which cancels this.
                        await asyncio.sleep(REACQUIRE_SECONDS)
        except UnknownSession as error:
            for message in owner.abandon():
                await self._set_aside(message, str(error), member)
        except Unavailable:
            raise
        except Exception as error:
            # A session that breaks its owner must not take the others with it: its inputs are set aside, its log stays.
            log.exception("a session broke its owner", session=session)
            for message in owner.abandon():
                await self._set_aside(message, f"{type(error).__name__}: {error}", member)
        finally:
            self._under_way -= owner.waiting
            self._room.set()
            self._forget(session, owner)

    def _forget(self, session: SessionId, owner: SessionOwner) -> None:
        """Take an owner off the list before it is stopped, so that nothing more is put to it."""
        if session in self._owners and self._owners[session][0] is owner:
            del self._owners[session], self._partitions[session]
            self._parts.telemetry.sessions_owned.set(len(self._owners))

    async def _let_go(self, sessions: Iterable[SessionId]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for session in list(sessions):
            owner, task = self._owners[session]
            self._forget(session, owner)
            task.cancel()
            tasks.append(task)
        if tasks:
            await asyncio.wait(tasks)

    async def _look(self) -> None:
        """Look after every session now and then: silent calls, and memory held for nothing."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for session, (owner, task) in list(self._owners.items()):
                owner.look()
                too_many = len(self._owners) > OWNERS_IDLE_MAX
                if owner.is_idle and (too_many or now - owner.busy_at > IDLE_SECONDS):
                    self._forget(session, owner)
                    task.cancel()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                while any(not owner.is_idle for owner, _ in self._owners.values()):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            log.warning("runs are still under way: the next owner will go on with them", sessions=len(self._owners))
