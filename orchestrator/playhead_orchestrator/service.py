"""The orchestrator: takes part in the group of those that own sessions, and gives each session it is given an owner.

Consumer-group assignment says who should own a session, the chain says who did. So nothing here needs to be exact about
ownership: an owner too many is superseded by the log, and one too few is found again through the directory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from playhead.agents import Agent
from playhead.commands import (
    AnnounceAgent,
    CallTool,
    Heartbeat,
    Report,
    ReportStarted,
    Request,
    StartSession,
)
from playhead.errors import Misconfigured, Superseded, Unavailable, Undecodable, UnknownSession
from playhead.events import Event, wire_name
from playhead.ids import SessionId
from playhead.leases import is_lease
from playhead.queue import Assigned, Member, Message, Revoked
from playhead.session import Session
from playhead.telemetry import logger
from prometheus_client import Counter

from playhead_orchestrator.acting import Setting
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.directory import OpenWork
from playhead_orchestrator.letters import DeadLetters
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

log = logger(__name__)


class Orchestrator:
    """One instance. `ready` is set once it takes part in the group and its recovered sessions go on."""

    def __init__(
        self,
        parts: OrchestratorParts,
        agents: Sequence[Agent],
        *,
        drain_seconds: float = 10.0,
    ) -> None:
        self._parts = parts
        self._agents = Agents(tuple(agents))
        self._catalogue = Catalogue(agents)
        self._drain_seconds = drain_seconds
        self._owners: dict[SessionId, tuple[SessionOwner, asyncio.Task[None]]] = {}
        self._partitions: dict[SessionId, int] = {}
        self._assigned: frozenset[int] = frozenset()
        self._leaving: frozenset[int] = frozenset()
        self._under_way = 0
        self._is_listening = False
        self._loading = asyncio.Semaphore(LOADING_MAX)
        self._room = asyncio.Event()
        self._counts = _counts(parts)
        self._letters = DeadLetters(parts)
        self._open_work = OpenWork(parts.queue, parts.topics.sessions.name, parts.codec)
        self.ready = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many queue messages wait for their sessions."""
        return self._under_way

    @property
    def held(self) -> dict[SessionId, Session]:
        """What it takes its sessions to be, to be held against their logs. Not those that it is only just reading."""
        states = {session: owner.state for session, (owner, _) in self._owners.items()}
        return {session: state for session, state in states.items() if state is not None}

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
            await self._open_work.read()
            group = f"{parts.topics.prefix}.{GROUP}"
            async with parts.queue.join(group, parts.topics.requests.name, parts.topics.results.name) as member:
                looking = background.create_task(self._look())
                taking = background.create_task(self._take(member))
                await stop.wait()
                await self._drain()  # inputs are still taken: the runs that are waited for need their results
                for task in (taking, looking, following):
                    task.cancel()
                await self._let_go(self._owners)
                await asyncio.wait((taking, looking))

    def _pools(self) -> frozenset[str]:
        return frozenset(tool.pool for agent in self._agents for tool in agent.own_tools)

    async def _announce(self) -> None:
        parts, now = self._parts, self._parts.clock()
        for agent in self._agents:
            is_default = agent is self._agents.default
            command = AnnounceAgent(
                agent.name, agent.version, agent.model, agent.description, agent.tool_names, is_default, now
            )
            await parts.publish(parts.topics.catalog.name, f"agent/{agent.name}", command)

    async def _take(self, member: Member) -> None:
        async with asyncio.TaskGroup() as owners:
            while True:
                self._is_listening = True
                delivery = await member.receive()
                self._is_listening = False
                match delivery:
                    case Assigned(partitions):
                        self._assigned |= partitions
                        for session, (owner, _) in self._owners.items():
                            owner.listen_anew()  # while the group changed, nobody was told anything
                            if self._partitions[session] in partitions:
                                owner.doubt()  # another may have had it, and left it to whoever has it now
                        self._leave(self._leaving)
                        await self._recover(partitions, member, owners)
                        self.ready.set()
                    case Revoked(partitions):
                        # Every change of the group revokes everything, and most of it comes back at once. Whoever has
                        # a session until then is superseded by the log, so runs need not be torn apart for that.
                        self._assigned -= partitions
                        self._leaving |= partitions
                        for session, (owner, _) in list(self._owners.items()):
                            if self._partitions[session] in partitions and owner.is_idle:
                                self._stop(session)
                        asyncio.get_running_loop().call_later(self._parts.waits.handover, self._leave, partitions)
                    case messages:
                        for message in messages:
                            await self._deliver(message, member, owners)
                        while self._under_way > MESSAGES_UNDER_WAY_MAX:
                            self._room.clear()
                            await self._room.wait()

    async def _recover(self, partitions: frozenset[int], member: Member, owners: asyncio.TaskGroup) -> None:
        """Find the sessions with open work in the directory, and own them."""
        await self._open_work.read(partitions)
        open_sessions = self._open_work.sessions(partitions)
        for session, partition in open_sessions:
            self._owner(session, partition, member=member, owners=owners, fresh=False)
        if open_sessions:
            log.info("sessions have open work", count=len(open_sessions))

    async def _deliver(self, message: Message, member: Member, owners: asyncio.TaskGroup) -> None:
        try:
            command = self._parts.codec.command(message.value)
        except Undecodable as error:
            await self._set_aside(message, str(error), member)
            return
        of_requests = message.topic == self._parts.topics.requests.name
        if not isinstance(command, Request if of_requests else Report):
            await self._set_aside(message, f"a {type(command).__name__} does not belong in {message.topic}", member)
        elif command.session != message.key:
            # It may be in another's partition: taking it would take the session from whom it belongs to.
            await self._set_aside(message, f"its key is not its session {command.session}", member)
        elif isinstance(command, Request):
            fresh = isinstance(command, StartSession | CallTool)
            owner = self._owner(command.session, message.partition, member=member, owners=owners, fresh=fresh)
            self._put(Item(command, message), owner)
        else:
            await self._hear(command, message, member, owners)

    async def _hear(self, report: Report, message: Message, member: Member, owners: asyncio.TaskGroup) -> None:
        if not is_lease(self._parts.lease_key, report.call_id, report.lease):
            await self._set_aside(message, f"the lease of call {report.call_id} is wrong", member)
            return
        known = self._owners.get(report.session)
        if known is not None and isinstance(report, Heartbeat | ReportStarted):
            known[0].heard(report)
        if isinstance(report, Heartbeat):
            member.acknowledge(message)
            return
        owner = self._owner(report.session, message.partition, member=member, owners=owners, fresh=False)
        self._put(Item(report, message), owner)

    def _put(self, item: Item, owner: SessionOwner) -> None:
        self._under_way += 1
        owner.put(item)

    async def _set_aside(self, message: Message, error: str, member: Member) -> None:
        await self._letters.bury(message, error)
        member.acknowledge(message)

    def _owner(
        self, session: SessionId, partition: int, *, member: Member, owners: asyncio.TaskGroup, fresh: bool
    ) -> SessionOwner:
        known = self._owners.get(session)
        if known is not None:
            return known[0]

        def acknowledge(messages: Sequence[Message]) -> None:
            self._under_way -= len(messages)
            self._room.set()
            member.acknowledge(*messages)

        setting = Setting(
            self._parts, self._agents, self._catalogue, session, self._loading, self._counts, self._letters.bury_call
        )
        owner = SessionOwner(setting, acknowledge, self._letters.bury, fresh=fresh)
        self._partitions[session] = partition
        self._owners[session] = (owner, owners.create_task(self._keep(owner, session, member)))
        self._parts.telemetry.sessions_owned.set(len(self._owners))
        return owner

    async def _keep(self, owner: SessionOwner, session: SessionId, member: Member) -> None:
        """Run an owner for as long as the session is ours."""
        try:
            while True:
                # The waits are not for something that we could be told. The first gives the group time to tell us
                # that the session is no longer ours, which cancels this.
                try:
                    await owner.run()
                except Superseded as error:
                    log.warning("superseded: letting go", session=session, error=str(error))
                    await asyncio.sleep(0 if owner.was_fresh else self._parts.waits.reacquire)
                except (Unavailable, Misconfigured) as error:
                    # A login that is refused for a while is the deployment's fault and not the session's.
                    log.warning("the log cannot be reached: trying again", session=session, error=str(error))
                    await asyncio.sleep(self._parts.waits.again)
        except Exception as error:
            # A session that breaks its owner must not take the others with it: its inputs are set aside, its log stays.
            if not isinstance(error, UnknownSession):
                log.exception("a session broke its owner", session=session)
            self._forget(session, owner)
            for message in owner.abandon():
                await self._set_aside(message, f"{type(error).__name__}: {error}", member)
        finally:
            self._forget(session, owner)

    def _forget(self, session: SessionId, owner: SessionOwner) -> None:
        """Take an owner off the list before it is stopped, so that nothing more is put to it or waits for it."""
        if session in self._owners and self._owners[session][0] is owner:
            del self._owners[session], self._partitions[session]
            self._under_way -= owner.waiting
            self._room.set()
            self._parts.telemetry.sessions_owned.set(len(self._owners))

    def _leave(self, partitions: frozenset[int]) -> None:
        """Let go of the sessions of partitions that were taken away and have not come back."""
        lost = partitions & self._leaving - self._assigned
        self._leaving -= partitions
        for session in [one for one in self._owners if self._partitions[one] in lost]:
            self._stop(session)

    def _stop(self, session: SessionId) -> asyncio.Task[None]:
        owner, task = self._owners[session]
        self._forget(session, owner)
        task.cancel()
        return task

    async def _let_go(self, sessions: Iterable[SessionId]) -> None:
        tasks = [self._stop(session) for session in list(sessions)]
        if tasks:
            await asyncio.wait(tasks)

    async def _look(self) -> None:
        """Look after every session now and then: silent calls, and memory held for nothing."""
        joined, waits = time.monotonic(), self._parts.waits
        looked_at = joined
        while True:
            await asyncio.sleep(waits.look)
            now = time.monotonic()
            # Who slept (a suspended process, a blocked loop) could hear nothing: that is no silence of others. Neither
            # is it while what was delivered is dealt with before any more is taken.
            passed, looked_at = min(now - looked_at, 2 * waits.look), now
            if not self._assigned and now - joined > waits.unassigned:
                self.ready.set()  # there are more members than partitions: nothing to do is no reason not to serve
            for session, (owner, _) in list(self._owners.items()):
                if self._is_listening and self._partitions[session] in self._assigned:
                    owner.look(passed)
                too_many = len(self._owners) > OWNERS_IDLE_MAX
                if owner.is_idle and (too_many or now - owner.busy_at > waits.idle):
                    self._stop(session)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                while any(not (owner.is_idle or owner.is_waiting) for owner, _ in self._owners.values()):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            log.warning("runs are still under way: the next owner will go on with them", sessions=len(self._owners))


def _counts(parts: OrchestratorParts) -> Callable[[type[Event]], Counter]:
    """Give the counter of an event type, looked up once: it is on the path of every delta."""

    def count(kind: type[Event]) -> Counter:
        return parts.telemetry.events_appended.labels(wire_name(kind))

    return cache(count)
