"""A whole system in one process: an orchestrator, a worker and a gateway, one of which fails as a trial has it.

A node that is killed does nothing more from the point on at which it died: its task is cancelled, and until it is gone
it waits at each point that it comes to. Then another one takes its place, on what the memory adapters hold.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from playhead.adapters.archive import MemoryArchive
from playhead.adapters.failing import FailingArchive, FailingLog, FailingQueue
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.codec import Codec
from playhead.errors import Unavailable
from playhead.failpoints import Action, Faults
from playhead.queue import Topics
from playhead.telemetry import Telemetry
from playhead_gateway.app import GatewayParts, create_app
from playhead_gateway.limits import Limits
from playhead_gateway.principal import LOCAL, Principal
from playhead_gateway.quotas import UNBOUNDED, Quotas
from playhead_orchestrator.adapters.failing import FailingModel
from playhead_orchestrator.parts import OrchestratorParts, Waits
from playhead_orchestrator.service import GROUP, Orchestrator
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.retry import Backoff
from playhead_tool_workers.service import Worker
from starlette.requests import HTTPConnection

from tests.failpoints.plan import AGENTS, LARGE, TOOLS, Journal, Planned

__all__ = ["Decide", "Role", "System"]

Role = Literal["owner", "worker", "gateway"]
Decide = Callable[[str], Action | None]

DELAY_SECONDS = 0.45
"""Longer than a call is heard nothing of before it is lost."""
DEATH_SECONDS = 5.0
WAITS = Waits(again=0.01, reacquire=0.05, handover=0.04, silence=0.25, lost=0.35, look=0.05, unassigned=0.2)
LIMITS = WorkerLimits(
    heartbeat_seconds=0.06,
    progress_seconds=0.05,
    grace_seconds=2.0,
    cleanup_seconds=0.2,
    ask_seconds=0.1,
    grant_seconds=0.2,
    old_seconds=0.3,
    result_bytes_max=LARGE // 2,
    retry=Backoff(0.01, 0.02),
    reconnect=Backoff(0.01, 0.02),
)
LEASE_KEY = b"a key for tests"
CODEC = Codec()
"""One for all trials: to read the schemas takes longer than a session."""
HANDOVER_SECONDS = 0.05
OFFERS = 3
"""How often in its life a worker says what it offers."""


class Anybody:
    """Lets everybody in, as somebody of whom a record is kept."""

    async def __call__(self, connection: HTTPConnection) -> Principal:
        return LOCAL

    def quotas(self, key: str | None, tenant: str | None) -> Quotas:
        return UNBOUNDED


@dataclass(eq=False)
class Life:
    """One life of a node. `decision` is the trial's; once dead, every point is the end. `others` die with it."""

    number: int
    decision: Decide
    others: set[Life]
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def faults(self) -> Faults:
        return Faults(self.decide, self.halt, DELAY_SECONDS)

    def decide(self, point: str) -> Action | None:
        if self.dead.is_set():
            return Action.KILL
        return self.decision(point)

    def halt(self, action: Action) -> None:
        assert action is Action.KILL, "there is no other process here that could wake it up"
        for life in {self, *self.others}:
            life.dead.set()


@dataclass
class System:
    """The store, and the nodes on it. `decide` is asked at every point that a live node of any role reaches.

    `one_process`: no node dies alone.
    """

    decide: Decide
    one_process: bool = False
    log: MemorySessionLog = field(default_factory=MemorySessionLog)
    queue: MemoryQueue = field(default_factory=lambda: MemoryQueue(grace_seconds=HANDOVER_SECONDS))
    archive: MemoryArchive = field(default_factory=MemoryArchive)
    topics: Topics = field(default_factory=lambda: Topics(session_partitions=2, pool_partitions=2))
    codec: Codec = CODEC
    telemetry: Telemetry = field(default_factory=Telemetry)
    journal: Journal = field(default_factory=Journal)
    lives: Counter[str] = field(default_factory=Counter[str])
    orchestrator: Orchestrator | None = None
    _alive: set[Life] = field(default_factory=set[Life])
    _gateway: asyncio.Queue[tuple[httpx2.AsyncClient, Life]] = field(
        default_factory=lambda: asyncio.Queue[tuple[httpx2.AsyncClient, Life]](1)
    )
    _entropy: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def running(self, *roles: Role) -> AsyncGenerator[None, None]:
        """Have one node of each of these roles at any time; stop them in order at the end."""
        stop = asyncio.Event()
        serve: Mapping[Role, Callable[[Life, asyncio.Event], Coroutine[None, None, None]]] = {
            "owner": self._own,
            "worker": self._work,
            "gateway": self._answer,
        }
        async with asyncio.TaskGroup() as nodes:
            for role in roles:
                nodes.create_task(self._live(role, serve[role], stop))
            yield
            stop.set()

    async def _live(
        self, role: Role, serve: Callable[[Life, asyncio.Event], Coroutine[None, None, None]], stop: asyncio.Event
    ) -> None:
        """Live one life after another: a node that is killed, or that cannot go on without its store, is replaced."""
        while not stop.is_set():
            self.lives[role] += 1
            life = Life(self.lives[role], self.decide, self._alive if self.one_process else set())
            self._alive.add(life)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(_unless_unavailable(serve(life, stop)))
                dying = tasks.create_task(life.dead.wait())
                await asyncio.wait((serving, dying), return_when=asyncio.FIRST_COMPLETED)
                async with asyncio.timeout(DEATH_SECONDS):
                    while not serving.done():
                        # More than once: what it does when it is cancelled may wait at a point too.
                        serving.cancel()
                        await asyncio.wait((serving,), timeout=0.01)
                dying.cancel()
            self._alive.discard(life)

    async def _own(self, life: Life, stop: asyncio.Event) -> None:
        faults = life.faults
        parts = OrchestratorParts(
            log=FailingLog(self.log, "owner", faults),
            queue=FailingQueue(self.queue, self.topics, "owner", faults),
            topics=self.topics,
            codec=self.codec,
            telemetry=self.telemetry,
            clock=_clock,
            owner=f"owner {life.number}",
            lease_key=LEASE_KEY,
            models={"plan": FailingModel(Planned(), faults)},
            waits=WAITS,
            reach=faults.reach,
            archive=FailingArchive(self.archive, "owner", faults),
        )
        self.orchestrator = Orchestrator(parts, AGENTS, drain_seconds=0.5)
        await self.orchestrator.serve(stop)

    async def _work(self, life: Life, stop: asyncio.Event) -> None:
        faults = life.faults
        parts = WorkerParts(
            queue=FailingQueue(self.queue, self.topics, "worker", faults),
            topics=self.topics,
            codec=self.codec,
            telemetry=self.telemetry,
            clock=_clock,
            entropy=self._random,
            reach=faults.reach,
            archive=FailingArchive(self.archive, "worker", faults),
        )
        worker = Worker(
            parts,
            TOOLS,
            "default",
            name=f"worker {life.number}",
            limits=LIMITS,
            lifespan=self.journal.lifespan(life.number),
        )

        async def offer() -> None:
            await worker.ready.wait()
            for _ in range(OFFERS - 1):
                await worker.offer(TOOLS)

        async with asyncio.TaskGroup() as tasks:
            offering = tasks.create_task(_unless_unavailable(offer()))
            await worker.serve(stop)
            offering.cancel()

    async def _answer(self, life: Life, stop: asyncio.Event) -> None:
        faults = life.faults
        queue = FailingQueue(self.queue, self.topics, "gateway", faults)
        await queue.prepare(*self.topics.fixed)
        parts = GatewayParts(
            log=FailingLog(self.log, "gateway", faults),
            queue=queue,
            topics=self.topics,
            codec=self.codec,
            telemetry=self.telemetry,
            clock=_clock,
            entropy=self._random,
            limits=Limits(settle_seconds=0.5),
            lease_key=LEASE_KEY,
            archive=FailingArchive(self.archive, "gateway", faults),
            authenticate=Anybody(),
        )
        app = create_app(parts)
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            if not self._gateway.empty():
                self._gateway.get_nowait()
            self._gateway.put_nowait((client, life))
            await stop.wait()

    async def ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """Ask a gateway as a patient client does: again, with the same key, until one lives that can answer."""
        while True:
            client, life = await self._gateway.get()
            response = await _before(life.dead.wait(), client.request(method, path, **given))
            if not life.dead.is_set() and self._gateway.empty():
                self._gateway.put_nowait((client, life))
            if response is None or response.status_code == 503:
                await asyncio.sleep(0.01)
                continue
            assert response.is_success, (path, response.status_code, response.text)
            return response.json()

    async def behind(self) -> dict[str, int]:
        """Tell how many messages of each group's topics are not safely acknowledged, where there are any."""
        pool = self.topics.tools("default").name
        owners = f"{self.topics.prefix}.{GROUP}"
        groups = [(owners, self.topics.requests.name), (owners, self.topics.results.name), (pool, pool)]
        found = dict[str, int]()
        for group, topic in groups:
            ends, committed = await self.queue.ends(topic), await self.queue.committed(group, topic)
            lag = sum(end - committed.get(partition, (0, ""))[0] for partition, end in ends.items())
            if lag:
                found[topic] = lag
        return found

    def _random(self) -> bytes:
        return os.urandom(12) + next(self._entropy).to_bytes(4, "big")


async def _unless_unavailable(serving: Awaitable[None]) -> None:
    """Serve to the end, which may be that the store could not be reached: then the process is started again."""
    try:
        await serving
    except* Unavailable:
        pass


async def _before(
    end: Coroutine[None, None, Literal[True]], asked: Coroutine[None, None, httpx2.Response]
) -> httpx2.Response | None:
    """Give the answer, or `None` if the end comes first."""
    async with asyncio.TaskGroup() as tasks:
        asking, ending = tasks.create_task(asked), tasks.create_task(end)
        await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
        answered = asking.done()
        ending.cancel()
        while not asking.done():
            asking.cancel()
            with suppress(TimeoutError):
                await asyncio.wait((asking,), timeout=0.01)
    return asking.result() if answered else None


def _clock() -> int:
    return time.time_ns() // 1000
