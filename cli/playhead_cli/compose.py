"""The composition root: the only place that builds services, from what `opening` opened.

Everything else is handed what it needs. Imports are inside, each where it is needed, so that a role loads no more than
its own stack: an orchestrator no web framework, a gateway no model SDK.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from playhead.archive import Archive
from playhead.codec import Codec
from playhead.errors import Misconfigured, PlayheadError
from playhead.failpoints import Faults, armed
from playhead.queue import Topics, TopicSpec
from playhead.redaction import Redactor
from playhead.service import Service
from playhead.settings import Settings
from playhead.telemetry import Telemetry, logger

from playhead_cli.arming import Ports, ports_of
from playhead_cli.launch import begin_collecting
from playhead_cli.opening import Models, Store

if TYPE_CHECKING:
    from playhead.agents import Agent
    from playhead.lifespan import Lifespan
    from playhead.loading import App
    from playhead.tools import Tool
    from playhead_gateway.server import Address
    from playhead_tool_workers.mcp.host import McpHost

    from playhead_cli.access import Door

__all__ = [
    "Deployment",
    "Running",
    "clock",
    "gateway_service",
    "loop_factory",
    "mcp_service",
    "orchestrator_service",
    "pool_topics",
    "pools_of",
    "probes_service",
    "warm_up",
    "warm_up_service",
    "withdraw",
    "worker_services",
]

PROBES_GRACE_SECONDS = 1.0

_log = logger("playhead.cli")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all services of one process share. Raises `Misconfigured` for a failpoint that there is not."""

    settings: Settings
    store: Store
    redactor: Redactor = field(default_factory=Redactor)
    archive: Archive | None = None
    codec: Codec = field(default_factory=Codec)
    telemetry: Telemetry = field(default_factory=Telemetry)

    faults: Faults | None = field(init=False)

    def __post_init__(self) -> None:
        failpoint = self.settings.failpoint
        object.__setattr__(self, "faults", None if failpoint is None else armed(failpoint))

    def ports(self, role: str) -> Ports:
        """Give what a role does everything through: `owner`, `worker` or `gateway`."""
        return ports_of(self.store, self.archive, self.settings.topics, role=role, faults=self.faults)


@dataclass(frozen=True, slots=True)
class Running:
    """A service, and the event that says that it serves."""

    serve: Service
    ready: asyncio.Event
    offer: Callable[[Sequence[Tool[..., object]]], Awaitable[None]] | None = None
    """Has a worker offer other tools from now on."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's loops where it is installed, else asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def pool_topics(topics: Topics, pools: Iterable[str]) -> tuple[TopicSpec, ...]:
    """Give the topics that pools need."""
    return tuple(spec for pool in sorted(pools) for spec in (topics.tools(pool), topics.control(pool)))


def pools_of(tools: Iterable[Tool[..., object]]) -> frozenset[str]:
    """Give the pools that tools belong to."""
    return frozenset(tool.pool for tool in tools)


async def warm_up(models: Models) -> None:
    """Load the model SDKs, which takes seconds. One that cannot be used says so again when it is asked."""
    if models.warm_ups:
        gc.disable()  # what is made while a module loads is no garbage
    for one in models.warm_ups:
        try:
            await one()
        except PlayheadError as error:
            _log.warning("a model cannot be used", reason=str(error))


def warm_up_service(models: Models, services: Mapping[str, Running]) -> Running:
    """Warm the models up once these services serve: not on the way to ready."""
    ready = asyncio.Event()
    ready.set()

    async def run(stop: asyncio.Event) -> None:
        for service in services.values():
            await service.ready.wait()
        await warm_up(models)
        begin_collecting()
        await stop.wait()

    return Running(run, ready)


def orchestrator_service(deployment: Deployment, agents: Sequence[Agent], models: Models, key: bytes) -> Running:
    """Build an orchestrator."""
    from playhead_orchestrator.parts import OrchestratorParts, Waits
    from playhead_orchestrator.service import Orchestrator

    ports = deployment.ports("owner")
    parts = OrchestratorParts(
        log=ports.log,
        queue=ports.queue,
        topics=deployment.settings.topics,
        codec=deployment.codec,
        telemetry=deployment.telemetry,
        clock=clock,
        owner=_instance(),
        lease_key=key,
        models=ports.models(models.by_provider),
        waits=Waits(lost=deployment.settings.lost_seconds),
        reach=ports.reach,
        archive=ports.archive,
    )
    orchestrator = Orchestrator(parts, agents, drain_seconds=deployment.settings.grace_seconds)
    return Running(orchestrator.serve, orchestrator.ready)


def worker_services(
    deployment: Deployment,
    tools: Sequence[Tool[..., object]],
    pools: Iterable[str],
    lifespans: Sequence[Lifespan] = (),
) -> dict[str, Running]:
    """Build a worker for each pool, of the pool's tools among these. Raises `Misconfigured` for a pool without any."""
    from playhead_tool_workers.limits import WorkerLimits
    from playhead_tool_workers.parts import WorkerParts
    from playhead_tool_workers.service import Worker

    limits = WorkerLimits(grace_seconds=deployment.settings.grace_seconds)
    workers: dict[str, Running] = {}
    ports = deployment.ports("worker")
    for pool in sorted(set(pools)):
        parts = WorkerParts(
            queue=ports.queue,
            topics=deployment.settings.topics,
            codec=deployment.codec,
            telemetry=deployment.telemetry,
            clock=clock,
            entropy=_entropy,
            redactor=deployment.redactor,
            environment=os.environ,
            reach=ports.reach,
            archive=ports.archive,
        )
        lifespan = next((one for one in lifespans if one.pool == pool), None)
        concurrency = deployment.settings.concurrency
        worker = Worker(parts, tools, pool, concurrency=concurrency, limits=limits, lifespan=lifespan)
        workers[f"worker {pool}"] = Running(worker.serve, worker.ready, worker.offer)
    return workers


def mcp_service(host: McpHost, beside: Sequence[Tool[..., object]], worker: Running) -> Running:
    """Watch MCP servers that are open already, and have their pool's worker offer what they offer, `beside` its own."""
    ready = asyncio.Event()
    ready.set()

    async def changed(tools: Sequence[Tool[..., object]]) -> None:
        if worker.offer is None:
            return
        try:
            await worker.offer((*beside, *tools))
        except Misconfigured as error:
            _log.error("what MCP servers offer now cannot be offered; what was stays", reason=str(error))

    async def run(stop: asyncio.Event) -> None:
        await host.serve(stop, changed)

    return Running(run, ready)


async def withdraw(deployment: Deployment, before: App, after: App) -> None:
    """Take back what an app announced and the one after it does not offer."""
    from playhead_tool_workers.announcing import announcement

    topic, queue = deployment.settings.topics.catalog.name, deployment.ports("worker").queue
    offered = {(tool.pool, tool.name) for tool in after.tools}
    for tool in before.tools:
        if (tool.pool, tool.name) not in offered:
            gone = replace(announcement(tool, clock()), withdrawn=True)
            await queue.publish(topic, f"{tool.pool}/{tool.name}", deployment.codec.encode(gone))
    for name in {agent.name for agent in before.agents} - {agent.name for agent in after.agents}:
        await queue.publish(topic, f"agent/{name}", b"")


def gateway_service(
    deployment: Deployment,
    on_ready: Callable[[Address], None],
    *,
    lease_key: bytes | None,
    door: Door,
) -> Running:
    """Build a gateway on the host and port of the settings; `on_ready` is told where it listens.

    Without the orchestrators' `lease_key` it takes no results from outside.
    """
    from playhead_gateway.gateway import GatewayParts
    from playhead_gateway.limits import Limits
    from playhead_gateway.server import Address, serve

    settings, ready, ports = deployment.settings, asyncio.Event(), deployment.ports("gateway")
    parts = GatewayParts(
        log=ports.log,
        queue=ports.queue,
        topics=settings.topics,
        codec=deployment.codec,
        telemetry=deployment.telemetry,
        clock=clock,
        entropy=_entropy,
        limits=Limits(allowed_hosts=door.hosts),
        lease_key=lease_key,
        archive=ports.archive,
        authenticate=door.authenticate,
    )

    def listening(address: Address) -> None:
        on_ready(address)
        if address.grpc_port is not None:
            _log.info("serving gRPC", at=address.at(address.grpc_port))
        ready.set()

    async def run(stop: asyncio.Event) -> None:
        where = Address(settings.host, settings.port, door.tls, settings.grpc_port)
        await serve(parts, where, stop=stop, grace_seconds=settings.grace_seconds, on_ready=listening)

    return Running(run, ready)


def probes_service(
    deployment: Deployment, services: Mapping[str, Running], on_ready: Callable[[Address], None]
) -> Running:
    """Build the probes of a role: ready when all its services are, until they are told to stop."""
    from playhead_gateway.probes import probes
    from playhead_gateway.server import Address, serve_app

    settings, ready, stopping = deployment.settings, asyncio.Event(), list[asyncio.Event]()

    def checks() -> Mapping[str, str | None]:
        draining = any(stop.is_set() for stop in stopping)
        return {
            name: "draining" if draining else None if service.ready.is_set() else "starting"
            for name, service in services.items()
        }

    def listening(address: Address) -> None:
        on_ready(address)
        ready.set()

    async def run(stop: asyncio.Event) -> None:
        stopping.append(stop)
        app, where = probes(deployment.telemetry, checks), Address(settings.host, settings.metrics_port)
        try:
            await serve_app(app, where, stop=stop, grace_seconds=PROBES_GRACE_SECONDS, on_ready=listening)
        except Misconfigured as error:
            advice = "this is the port of the probes: --metrics-port 0 takes any free one, -1 none"
            raise Misconfigured(f"{error} ({advice})") from error

    return Running(run, ready)


def clock() -> int:
    """Give the time in microseconds since the epoch."""
    return time.time_ns() // 1000


def _entropy() -> bytes:
    return secrets.token_bytes(16)


def _instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
