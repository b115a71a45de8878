"""What the compacted topics say: which tools and agents there are, and which sessions. Followed, bounded, in memory.

It is a cache of what others announced: it may be behind, and it decides nothing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from heapq import nsmallest

from playhead.codec import Codec
from playhead.commands import AnnounceAgent, AnnounceBreaker, AnnounceTool, Command, ListSession
from playhead.errors import Unavailable, Undecodable
from playhead.ids import SessionId
from playhead.queue import Message, Queue, Topics
from playhead.telemetry import logger

from playhead_gateway.limits import Limits

__all__ = ["Catalog", "DirectoryPage"]

RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 0.2, 5.0

_log = logger("playhead.gateway")


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Some sessions, newest first, and where the next page starts, if there is one."""

    sessions: tuple[ListSession, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many sessions of a tenant are not closed, and in how many of those a run is going, or waits for somebody."""

    open: int = 0
    running: int = 0


class Catalog:
    """The tables, and the coroutine that keeps them up to date."""

    def __init__(self, queue: Queue, topics: Topics, codec: Codec, limits: Limits) -> None:
        self._queue = queue
        self._topics = topics
        self._codec = codec
        self._limits = limits
        self._tools: dict[str, AnnounceTool] = {}
        self._agents: dict[str, AnnounceAgent] = {}
        self._breakers: dict[str, AnnounceBreaker] = {}
        self._sessions: dict[str, ListSession] = {}
        self._ordered: list[ListSession] | None = None
        self._counts: defaultdict[str, Counted] = defaultdict(Counted)
        self._behind = {topics.catalog.name, topics.sessions.name}
        self.caught_up = asyncio.Event()

    async def follow(self) -> None:
        """Follow both topics until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_following(self._topics.catalog.name, self._announced), name="catalogue")
            group.create_task(self._keep_following(self._topics.sessions.name, self._listed), name="directory")

    def behind(self) -> str | None:
        """Say what has not been read to its end yet, or None."""
        return f"reading {', '.join(sorted(self._behind))}" if self._behind else None

    @property
    def tools(self) -> tuple[AnnounceTool, ...]:
        """Every announced tool, by pool and name."""
        return tuple(sorted(self._tools.values(), key=lambda tool: (tool.pool, tool.name)))

    @property
    def agents(self) -> tuple[AnnounceAgent, ...]:
        """Every announced agent, by name."""
        return tuple(sorted(self._agents.values(), key=lambda agent: agent.name))

    def breaker(self, pool: str, tool: str) -> AnnounceBreaker | None:
        """Give what was last said of a tool's circuit breaker, by whichever worker."""
        return self._breakers.get(f"breaker/{pool}/{tool}")

    @property
    def default_agent(self) -> str | None:
        """The name of the agent for sessions that name none, as far as it is known."""
        return next((agent.name for agent in self.agents if agent.default), None)

    def listed(self, session: SessionId) -> ListSession | None:
        """Give the directory's line on a session."""
        return self._sessions.get(session)

    def count(self, tenant: str) -> Counted:
        """Count a tenant's sessions."""
        return self._counts.get(tenant, Counted())

    def page(
        self,
        *,
        status: str | None,
        agent: str | None,
        limit: int,
        after: str | None,
        sees: Callable[[str | None], bool] = lambda _: True,
    ) -> DirectoryPage:
        """List sessions, newest first, past the cursor that an earlier page gave: `<created_at>-<session>`.

        `sees` tells whether the sessions of a tenant are to be listed.
        """
        if self._ordered is None:
            self._ordered = sorted(self._sessions.values(), key=_age)
        start = 0 if after is None else bisect_right(self._ordered, _age_of(after), key=_age)
        found: list[ListSession] = []
        for line in self._ordered[start:]:
            if status in (None, line.status) and agent in (None, line.agent) and sees(line.tenant):
                if len(found) == limit:
                    return DirectoryPage(tuple(found), f"{found[-1].created_at}-{found[-1].session}")
                found.append(line)
        return DirectoryPage(tuple(found), None)

    async def _keep_following(self, topic: str, take: Callable[[Message, Command | None], None]) -> None:
        pause = RETRY_SECONDS_FIRST
        while True:
            try:
                async with aclosing(self._queue.replay(topic, follow=True)) as batches:
                    async for batch in batches:
                        for message in batch:
                            self._take(message, take)
                        if not batch:
                            self._behind.discard(topic)
                            if not self._behind:
                                self.caught_up.set()
                        pause = RETRY_SECONDS_FIRST
            except Unavailable as error:
                _log.warning("following a topic failed; trying again", topic=topic, error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS_MAX)

    def _take(self, message: Message, take: Callable[[Message, Command | None], None]) -> None:
        try:
            take(message, self._codec.command(message.value) if message.value else None)
        except Undecodable as error:
            where = f"{message.topic}/{message.partition}/{message.offset}"
            _log.warning("skipped what is no announcement", where=where, error=str(error))

    def _announced(self, message: Message, said: Command | None) -> None:
        if isinstance(said, AnnounceTool) and said.withdrawn:
            self._tools.pop(message.key, None)
        elif isinstance(said, AnnounceTool):
            self._tools[message.key] = said
        elif isinstance(said, AnnounceBreaker):
            self._breakers[message.key] = said
        elif isinstance(said, AnnounceAgent):
            self._agents[message.key] = said
        elif said is None:
            self._tools.pop(message.key, None)
            self._agents.pop(message.key, None)
            self._breakers.pop(message.key, None)
        for table in (self._tools, self._agents, self._breakers):
            while len(table) > self._limits.catalog_max:
                table.pop(next(iter(table)))

    def _listed(self, message: Message, said: Command | None) -> None:
        known = self._sessions.get(message.key)
        if said is None:
            self._sessions.pop(message.key, None)
            self._count(known, None)
        elif isinstance(said, ListSession) and (known is None or said.version >= known.version):
            self._sessions[message.key] = said
            self._count(known, said)
        if len(self._sessions) > self._limits.directory_max:
            self._forget_some()
        self._ordered = None

    def _count(self, before: ListSession | None, after: ListSession | None) -> None:
        for line, by in ((before, -1), (after, 1)):
            if line is not None and line.tenant is not None:
                counted = self._counts[line.tenant]
                is_open, runs = line.status != "closed", line.status in ("running", "waiting")
                counted = Counted(counted.open + by * is_open, counted.running + by * runs)
                self._counts[line.tenant] = counted
                if counted == Counted():
                    del self._counts[line.tenant]

    def _forget_some(self) -> None:
        """Forget the sessions longest untouched, several at once: finding them costs a look at all."""
        count = max(1, self._limits.directory_max // 10)
        oldest = nsmallest(count, self._sessions.items(), key=lambda item: item[1].updated_at)
        for key, _ in oldest:
            self._count(self._sessions.pop(key), None)


def _age(line: ListSession) -> tuple[int, str]:
    return -line.created_at, line.session


def _age_of(cursor: str) -> tuple[int, str]:
    created_at, _, session = cursor.rpartition("-")
    return -int(created_at), session
