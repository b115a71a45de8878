"""What the gateway is made of, and the questions that its routes ask. It speaks only to the ports."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from playhead.accept import genesis
from playhead.archive import Archive
from playhead.codec import Codec
from playhead.commands import Access, AnnounceAgent, AnnounceTool
from playhead.errors import UnknownSession
from playhead.ids import SessionId, is_session_id, parse_session_id
from playhead.log import SessionLog
from playhead.queue import Queue, Topics
from playhead.session import empty
from playhead.telemetry import Telemetry
from starlette.requests import HTTPConnection

from playhead_gateway.allowances import Allowances
from playhead_gateway.catalog import Catalog
from playhead_gateway.deliveries import Deliveries
from playhead_gateway.entry import Authenticate, Entry, Tenants, principal_of
from playhead_gateway.fanout import Fanout, Opening
from playhead_gateway.intake import Intake, Publisher
from playhead_gateway.limits import Limits
from playhead_gateway.principal import Principal
from playhead_gateway.problems import Problem
from playhead_gateway.projections.sse import Projection
from playhead_gateway.questions import Questions
from playhead_gateway.redrive import Redrive
from playhead_gateway.states import Folded, States

__all__ = ["Gateway", "GatewayParts"]


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the composition root hands down. `clock` gives microseconds since the epoch, `entropy` 16 random bytes.

    `lease_key` is that of the orchestrators; without it no result is taken from outside. `archive` has the outputs that
    were too large for events. `authenticate` finds out who asks; without it nobody is asked.
    """

    log: SessionLog
    queue: Queue
    topics: Topics
    codec: Codec
    telemetry: Telemetry
    clock: Callable[[], int]
    entropy: Callable[[], bytes]
    limits: Limits = field(default_factory=Limits)
    lease_key: bytes | None = None
    archive: Archive | None = None
    authenticate: Authenticate | None = None


class Gateway:
    """One gateway: what is open, what is known, and what can be asked."""

    def __init__(self, parts: GatewayParts) -> None:
        self.parts = parts
        self.limits = parts.limits
        self.telemetry = parts.telemetry
        self.projection = Projection(parts.codec)
        self.catalog = Catalog(parts.queue, parts.topics, parts.codec, parts.limits)
        self.fanout = Fanout(parts.log, parts.codec, self.projection.frame, parts.limits)
        self.states = States(parts.log, parts.codec, parts.limits)
        self.questions = Questions(parts.log, parts.codec, parts.limits)
        publish = Publisher(parts.queue, parts.topics.requests.name, parts.codec)
        self.deliveries = Deliveries(parts.queue, parts.topics.results.name, parts.codec, parts.lease_key)
        self.redrive = Redrive(parts.queue, parts.topics, parts.codec, parts.clock, parts.limits)
        self.tenants = Tenants(parts.log, self.fanout, self.catalog, parts.limits)
        quotas = None if parts.authenticate is None else parts.authenticate.quotas
        self.allowances = Allowances(quotas, self.catalog)
        self.entry = Entry(self.tenants, parts.authenticate, self.allowances, self._record, parts.clock)
        self.intake = Intake(parts.log, publish, self.allowances.begin, parts.entropy, parts.limits)
        self._agents: OrderedDict[SessionId, str | None] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Follow what must be followed while this is open; close every stream at its end."""
        async with self.fanout, asyncio.TaskGroup() as group:
            following = group.create_task(self.catalog.follow(), name="catalogue and directory")
            # Who answers before it knows what others have announced answers wrongly; who waits for ever, not at all.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.settle_seconds):
                    await self.catalog.caught_up.wait()
            try:
                yield
            finally:
                following.cancel()

    def drain(self) -> None:
        """Stop being ready and send every viewer away, with its cursor and a time to come back."""
        self.fanout.drain()

    def checks(self) -> Mapping[str, str | None]:
        """Name what readiness depends on."""
        return {
            "serving": "draining" if self.fanout.draining else None,
            "catalog": self.catalog.behind(),
        }

    async def folded(self, session: SessionId) -> Folded:
        """Give a session's state: as its open tail has it, else as its log says now."""
        tail = self.fanout.known(session)
        if tail is not None and tail.state is not None and tail.head is not None:
            return Folded(tail.state, tail.head, 0)
        return await self.states.at_end(session)

    async def began(self, session: SessionId) -> Folded:
        """Give the state of a session that `create` has just returned: nothing, unless a retry names an older one."""
        try:
            return await self.folded(session)
        except UnknownSession:
            return Folded(empty(session), genesis(session), 0)

    async def status(self, opening: Opening) -> str:
        """Say what a session is doing, for a viewer that is about to see for itself.

        Exact where its tail was read from the start; else as the directory has it, which may be a moment behind, since
        folding a long session again for every reconnect would cost more than the reconnect.
        """
        tail = opening.tail
        if tail.closed:
            return "closed"
        if tail.state is not None:
            return tail.state.status
        line = self.catalog.listed(tail.session)
        if line is not None:
            return line.status
        return (await self.states.at_end(tail.session)).state.status

    def agents_for(self, principal: Principal) -> list[AnnounceAgent]:
        """List the agents that somebody may use."""
        return [agent for agent in self.catalog.agents if principal.may_use_agent(agent.name)]

    def tools_for(self, principal: Principal) -> list[AnnounceTool]:
        """List the tools that somebody may use."""
        return [tool for tool in self.catalog.tools if principal.may_use_pool(tool.pool)]

    def check_agent(self, principal: Principal, agent: str | None) -> None:
        """Refuse an agent that nobody serves, as far as is known, or that is not for who asks. Raises `Problem`."""
        known = [one.name for one in self.agents_for(principal)]
        named = self.catalog.default_agent if agent is None else agent
        if named is None or named in known:
            return
        if (agent is not None and self.catalog.agents) or not principal.may_use_agent(named):
            detail = f"no agent is named {named!r}; there are: {', '.join(known) or 'none'}"
            raise Problem(422, "unknown-agent", detail, agents=known)

    async def new_session(self, principal: Principal, key: str | None) -> SessionId:
        """Make the session that an idempotency key of somebody's tenant names, or a new one. Raises `Unavailable`."""
        session = await self.intake.create(key, principal.tenant)
        self.tenants.note(session, principal.tenant)
        return session

    async def named_session(self, connection: HTTPConnection, kind: str, name: str) -> SessionId:
        """Give the session that a client of another protocol calls by a name of its own, made if there is none.

        The id of a session is its own name. Raises `UnknownSession`, `Unavailable`.
        """
        if is_session_id(name):
            session = parse_session_id(name)
            await self.entry.enter(connection, session)
            await self.parts.log.end(session)
            return session
        session = await self.new_session(principal_of(connection), f"{kind} {name}")
        await self.entry.enter(connection, session)
        return session

    async def find_session(self, connection: HTTPConnection, kind: str, name: str) -> SessionId:
        """Give the session that `named_session` gives, and make none. Raises `UnknownSession`, `Unavailable`."""
        if is_session_id(name):
            return await self.named_session(connection, kind, name)
        session = self.intake.named(f"{kind} {name}", principal_of(connection).tenant)
        await self.entry.enter(connection, session)
        await self.parts.log.end(session)
        return session

    def remember_agent(self, session: SessionId, agent: str | None) -> str | None:
        """Note which agent a new session is to have, until its log says so, and give its name if it is known."""
        self._agents[session] = agent or self.catalog.default_agent
        if len(self._agents) > self.limits.recent_max:
            self._agents.popitem(last=False)
        return self._agents[session]

    async def _record(self, access: Access) -> None:
        value = self.parts.codec.encode(access)
        await self.parts.queue.publish(self.parts.topics.audit.name, access.session or "", value)

    def agent_of(self, session: SessionId) -> str | None:
        """Give the agent of a session that was begun here and whose log is still empty."""
        return self._agents.get(session)
