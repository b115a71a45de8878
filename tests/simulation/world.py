"""A whole deployment in one process: what it is made of, how its processes begin and end, and who uses it.

The services are the real ones. Beneath them is a simulated store, above them simulated people, and the model and the
tools are played. A node is one process of the deployment; when it is killed nothing of it runs on, and what begins
again is a new process of the same name that knows only what the store tells it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import structlog
from playhead.codec import Codec
from playhead.errors import Superseded, Unavailable
from playhead.queue import Topics
from playhead.telemetry import Telemetry
from playhead_gateway.app import create_app
from playhead_gateway.gateway import Gateway, GatewayParts
from playhead_gateway.limits import Limits
from playhead_gateway.tail import Viewer as GatewayViewer
from playhead_orchestrator.parts import OrchestratorParts, Waits
from playhead_orchestrator.service import Orchestrator
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.service import Worker

from tests.history.lines import History
from tests.simulation.loop import Process, SimLoop, process_of
from tests.simulation.people import Known, User, Viewer
from tests.simulation.plans import HANDS, Hands, Moods, SimModel, agent, tools
from tests.simulation.queue import SimQueue
from tests.simulation.store import Network, Odds, SimLog
from tests.simulation.web import Web

__all__ = ["Node", "Size", "World", "codec", "patched"]

LEASE_KEY = b"a key for simulations"
DRAIN_SECONDS = 2.0
EPOCH_MICROSECONDS = 1_790_000_000_000_000
WORSE = ("a session broke its owner", "a session's tail failed")
"""What a service logs when it has a bug."""

Build = Callable[["Node"], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Node:
    """One process of the deployment, through all its lives. `clock_skew` is in microseconds."""

    world: World
    name: str
    build: Build
    lives: int = 0
    clock_skew: int = 0
    process: Process | None = None
    stop: asyncio.Event | None = None
    owners: Orchestrator | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self.process is not None

    def start(self) -> None:
        """Begin a life."""
        self.lives += 1
        self.process = self.world.loop.process(f"{self.name}.{self.lives}")
        self.process.context.run(HANDS.set, self.world.hands)
        self.stop = asyncio.Event()
        self.world.loop.begin(self.process, self._live(self.process), self.process.name)

    def kill(self, *, silently: bool = False) -> None:
        """End it as kill -9 does, or a power cut."""
        process, self.process, self.owners = self.process, None, None
        if process is not None:
            self.world.web.servers.pop(self.name, None)
            self.world.loop.kill(process)
            self.world.web.died(process, silently=silently)

    def clock(self) -> int:
        """Tell this machine's idea of the time, in microseconds."""
        return EPOCH_MICROSECONDS + int(self.world.loop.time() * 1e6) + self.clock_skew

    async def _live(self, process: Process) -> None:
        try:
            await self.build(self)
        except BaseException as error:  # noqa: BLE001 - a process: it ends with whatever it is
            self.world.counts["gave_up"] += 1
            if not _is_expected(error):
                self.world.loop.faults.append(f"{process.name} ended: {_told(error)}")
        if self.process is process:
            self.process = None
            self.world.web.servers.pop(self.name, None)
            self.world.web.died(process, silently=False)
            if not self.world.is_over:
                self.world.loop.call_later(1.0, self._again, context=self.world.loop.outside.context)

    def _again(self) -> None:
        if self.process is None and not self.world.is_over:
            self.start()


def _is_expected(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_is_expected(one) for one in group.exceptions)
    return isinstance(error, Unavailable | Superseded | asyncio.CancelledError)


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3_000:]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a deployment is, and how much is asked of it."""

    orchestrators: int = 2
    workers: tuple[str, ...] = ("alpha", "alpha", "beta")
    gateways: int = 2
    sessions: int = 2
    viewers: int = 3
    messages: int = 2
    partitions: int = 3
    concurrency: int = 4


class World:
    """A deployment, and all that goes wrong with it."""

    def __init__(self, seed: int, size: Size, *, burst: float, hop_seconds: float) -> None:
        self.seed = seed
        self.chance = self.chance_of("people")
        self.size = size
        self.loop = SimLoop(self.chance_of("turns"), burst)
        self.counts: Counter[str] = Counter()
        self.odds, self.moods = Odds(), Moods()
        self.history = History(self.loop.time)
        self.network = Network(self.loop, self.chance_of("store"), self.odds, hop_seconds)
        self.log, self.queue = SimLog(self.network), SimQueue(self.network)
        web = self.chance_of("web")
        self.web = Web(self.loop, web, hop_seconds, direct=web.random() < 0.5)
        self.topics = Topics("agent", size.partitions, size.partitions)
        self.is_over = False
        self.hands = Hands(self.chance_of("tools"), self.moods, self.counts, self.history)
        self.model = SimModel(self.chance_of("model"), self.moods, self.counts)
        self.entropy = self.chance_of("entropy")
        self.waits = Waits()
        self.nodes = [
            *(Node(self, f"orchestrator-{n}", _orchestrate) for n in range(size.orchestrators)),
            *(Node(self, f"worker-{pool}-{n}", _worker(pool)) for n, pool in enumerate(size.workers)),
            *(Node(self, f"gateway-{n}", _gateway(n)) for n in range(size.gateways)),
        ]
        self.known = [Known() for _ in range(size.sessions)]
        self.viewers: list[Viewer] = []

    def chance_of(self, whose: str) -> random.Random:
        """Give somebody chances of their own: what one draws does not change what comes to another."""
        return random.Random(f"{self.seed}/{whose}")

    def begin_users(self, pause: float, cancels: float, closes: float) -> None:
        """Have users begin to talk, and viewers to watch."""
        for number, known in enumerate(self.known):
            process = self.loop.process(f"user-{number}")
            user = User(process.name, process, self.web, known, self.history)
            messages = self.chance.randrange(1, self.size.messages + 1)
            talk = user.talk(messages, cancels=cancels, closes=closes, pause=pause)
            self.loop.begin(process, talk, process.name)
        for number in range(max(self.size.viewers, len(self.known))):
            process = self.loop.process(f"viewer-{number}")
            known = self.known[number % len(self.known)]
            viewer = Viewer(process.name, process, self.web, known, self.history)
            viewer.restlessness = self.chance.choice((0.0, 0.02, 0.1))
            self.viewers.append(viewer)
            self.loop.begin(process, self._watch(viewer, known), process.name)

    async def _watch(self, viewer: Viewer, known: Known) -> None:
        await known.begun.wait()
        await asyncio.sleep(self.chance.random() ** 2 * 8)
        await viewer.watch()


async def _orchestrate(node: Node) -> None:
    world = node.world
    assert node.process is not None
    assert node.stop is not None
    parts = OrchestratorParts(
        log=world.log,
        queue=world.queue,
        topics=world.topics,
        codec=codec(),
        telemetry=_telemetry(),
        clock=node.clock,
        owner=node.process.name,
        lease_key=LEASE_KEY,
        models={"sim": world.model},
        waits=world.waits,
    )
    node.owners = Orchestrator(parts, [agent()], drain_seconds=DRAIN_SECONDS)
    await node.owners.serve(node.stop)


def _worker(pool: str) -> Build:
    async def work(node: Node) -> None:
        world = node.world
        assert node.process is not None
        assert node.stop is not None
        parts = WorkerParts(
            queue=world.queue,
            topics=world.topics,
            codec=codec(),
            telemetry=_telemetry(),
            clock=node.clock,
            entropy=lambda: world.entropy.randbytes(16),
        )
        limits = WorkerLimits(grace_seconds=DRAIN_SECONDS)
        worker = Worker(parts, tools(), pool, concurrency=world.size.concurrency, name=node.process.name, limits=limits)
        await worker.serve(node.stop)

    return work


def _gateway(number: int) -> Build:
    async def serve(node: Node) -> None:
        world = node.world
        assert node.process is not None
        assert node.stop is not None
        parts = GatewayParts(
            log=world.log,
            queue=world.queue,
            topics=world.topics,
            codec=codec(),
            telemetry=_telemetry(),
            clock=node.clock,
            entropy=lambda: world.entropy.randbytes(16),
            limits=Limits(),
        )
        await world.queue.prepare(*world.topics.fixed)
        gateway, app = _application(number, Gateway(parts))
        async with gateway.running():
            world.web.servers[node.name] = (node.process, app)
            await node.stop.wait()
            world.web.servers.pop(node.name, None)
            gateway.drain()
            await asyncio.sleep(DRAIN_SECONDS)

    return serve


@cache
def codec() -> Codec:
    """Give the one codec: making one takes longer than simulating one."""
    return Codec()


@cache
def _telemetry() -> Telemetry:
    return Telemetry()


_APPLICATIONS: dict[int, tuple[Gateway, Any]] = {}


def _application(number: int, other: Gateway) -> tuple[Gateway, Any]:
    """Give a gateway and its application, which are made once: making them takes longer than simulating them.

    The one that the application's routes know becomes the `other`.
    """
    if number not in _APPLICATIONS:
        gateway = object.__new__(Gateway)
        gateway.__dict__.update(other.__dict__)
        _APPLICATIONS[number] = gateway, create_app(gateway)
    gateway, app = _APPLICATIONS[number]
    gateway.__dict__.clear()
    gateway.__dict__.update(other.__dict__)
    return gateway, app


@contextmanager
def patched(world: World) -> Generator[None, None, None]:
    """Let every module read the virtual time; number what has no order of its own; hear what services complain of."""
    loop = world.loop

    def note(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        if event.get("event") in WORSE:
            loop.faults.append(f"{process_of().name}: {event}")
        raise structlog.DropEvent

    kept = (time.monotonic, time.perf_counter, time.time, time.time_ns)
    logging.disable(logging.CRITICAL)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        processors=[structlog.processors.format_exc_info, note],
        cache_logger_on_first_use=False,
    )
    random.seed(0)
    numbers = iter(range(1, 1 << 60))
    GatewayViewer.__hash__ = lambda self: self.__dict__.setdefault("_number", next(numbers))  # type: ignore[method-assign]
    time.monotonic = time.perf_counter = loop.time
    time.time = lambda: EPOCH_MICROSECONDS / 1e6 + loop.time()
    time.time_ns = lambda: EPOCH_MICROSECONDS * 1000 + int(loop.time() * 1e9)
    try:
        yield
    finally:
        time.monotonic, time.perf_counter, time.time, time.time_ns = kept
