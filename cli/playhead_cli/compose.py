"""The composition root: the only place that builds adapters and services and joins them.

Everything else is handed what it needs. Imports are inside, each where it is needed, so that a role loads no more than
its own stack: an orchestrator no web framework, a gateway no model SDK.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from playhead.codec import Codec
from playhead.errors import Misconfigured, Unavailable
from playhead.log import SessionLog
from playhead.queue import Queue, Topics, TopicSpec
from playhead.service import Service
from playhead.settings import Settings
from playhead.telemetry import Telemetry, logger

if TYPE_CHECKING:
    from playhead.adapters.kafka import KafkaConnection, KafkaStore
    from playhead.agents import Agent
    from playhead.loading import App
    from playhead.tools import Tool
    from playhead_gateway.server import Address
    from playhead_orchestrator.model import Model

__all__ = [
    "EXAMPLE_MODELS",
    "Deployment",
    "Running",
    "Store",
    "clock",
    "example_app",
    "gateway_service",
    "kafka_connection",
    "loop_factory",
    "open_cluster",
    "open_embedded",
    "open_models",
    "orchestrator_service",
    "pool_topics",
    "pools_of",
    "probes_service",
    "worker_services",
]

BROKER_RETRY_SECONDS = 0.5
PROBES_GRACE_SECONDS = 1.0

EXAMPLE_MODELS = {"ANTHROPIC_API_KEY": "anthropic:claude-sonnet-4-5", "OPENAI_API_KEY": "openai:gpt-4.1-mini"}
"""The example agent's model, by the first key that is set."""

_log = logger("playhead.cli")


class Store(Protocol):
    """Where sessions and queues are kept."""

    @property
    def log(self) -> SessionLog:
        """The session log."""
        ...

    @property
    def queue(self) -> Queue:
        """The queue."""
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all services of one process share."""

    settings: Settings
    store: Store
    codec: Codec = field(default_factory=Codec)
    telemetry: Telemetry = field(default_factory=Telemetry)


@dataclass(frozen=True, slots=True)
class Running:
    """A service, and the event that says that it serves."""

    serve: Service
    ready: asyncio.Event


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's loops where it is installed, else asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


@asynccontextmanager
async def open_embedded(settings: Settings) -> AsyncGenerator[Store, None]:
    """Open the log and the queue in the data folder. Raises `Misconfigured`."""
    from playhead.adapters.sqlite import open_sqlite

    async with open_sqlite(settings.data / "log.db") as store:
        yield store


@asynccontextmanager
async def open_cluster(settings: Settings, *, client: str, wait_seconds: float) -> AsyncGenerator[KafkaStore, None]:
    """Open the log and the queue of a cluster, trying for so long (at least once, which takes up to 5 s).

    Raises `Unavailable`, `Misconfigured`.
    """
    from playhead.adapters.kafka import open_kafka

    deadline, said = time.monotonic() + wait_seconds, False
    while True:
        opening = open_kafka(kafka_connection(settings), topics=settings.topics, client_id=f"playhead-{client}")
        async with AsyncExitStack() as stack:
            try:
                store = await stack.enter_async_context(opening)
            except Unavailable as error:
                if time.monotonic() >= deadline:
                    raise
                if not said:
                    _log.warning("waiting for Kafka", reason=str(error), seconds=wait_seconds)
                    said = True
            else:
                yield store
                return
        await asyncio.sleep(BROKER_RETRY_SECONDS)


def kafka_connection(settings: Settings) -> KafkaConnection:
    """Say how to reach the cluster. Raises `Misconfigured`."""
    from playhead.adapters.kafka import KafkaConnection

    if not settings.kafka:
        raise Misconfigured("no broker is named: give --kafka HOST:PORT, or set PLAYHEAD_KAFKA")
    password = settings.kafka_password
    return KafkaConnection(
        bootstrap=settings.kafka,
        security_protocol=settings.kafka_security,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=None if password is None else password.get_secret_value(),
        cafile=None if settings.kafka_ca_file is None else str(settings.kafka_ca_file),
        replication_factor=settings.kafka_replication_factor,
        min_insync_replicas=settings.kafka_min_insync_replicas,
        session_timeout_ms=int(settings.session_timeout_seconds * 1000),
    )


def pool_topics(topics: Topics, pools: Iterable[str]) -> tuple[TopicSpec, ...]:
    """Give the topics that pools need."""
    return tuple(spec for pool in sorted(pools) for spec in (topics.tools(pool), topics.control(pool)))


def pools_of(tools: Iterable[Tool[..., object]]) -> frozenset[str]:
    """Give the pools that tools belong to."""
    return frozenset(tool.pool for tool in tools)


def example_app(settings: Settings, environment: Mapping[str, str]) -> App:
    """Give the built-in example, with a real model where a key for one is set."""
    from playhead.loading import App

    from playhead_cli import example

    keys = () if settings.scenario else (model for key, model in EXAMPLE_MODELS.items() if environment.get(key))
    agent = replace(example.agent, model=next(iter(keys), "scripted"), version="")
    return App((agent,), agent.own_tools)


@asynccontextmanager
async def open_models(agents: Sequence[Agent], settings: Settings) -> AsyncGenerator[Mapping[str, Model], None]:
    """Open the models that agents name, by provider. Raises `Misconfigured`."""
    models: dict[str, Model] = {}
    async with AsyncExitStack() as stack:
        for provider in sorted({agent.model.partition(":")[0] for agent in agents}):
            models[provider] = _model(provider, settings)
            stack.push_async_callback(models[provider].close)
        yield models


def _model(provider: str, settings: Settings) -> Model:
    match provider:
        case "anthropic":
            from playhead_orchestrator.adapters.claude import ClaudeModel

            return ClaudeModel()
        case "openai":
            from playhead_orchestrator.adapters.openai import OpenAIModel

            return OpenAIModel()
        case "scripted":
            from playhead_orchestrator.adapters.scripted import ScriptedModel

            return ScriptedModel(settings.scenario, pace=settings.scripted_pace)
        case _:
            raise Misconfigured(f"no model provider is named {provider!r}: there are anthropic, openai and scripted")


def orchestrator_service(
    deployment: Deployment, agents: Sequence[Agent], models: Mapping[str, Model], key: bytes
) -> Running:
    """Build an orchestrator."""
    from playhead_orchestrator.parts import OrchestratorParts
    from playhead_orchestrator.service import Orchestrator

    parts = OrchestratorParts(
        log=deployment.store.log,
        queue=deployment.store.queue,
        topics=deployment.settings.topics,
        codec=deployment.codec,
        telemetry=deployment.telemetry,
        clock=clock,
        owner=_instance(),
        lease_key=key,
        models=models,
    )
    orchestrator = Orchestrator(parts, agents, drain_seconds=deployment.settings.grace_seconds)
    return Running(orchestrator.serve, orchestrator.ready)


def worker_services(
    deployment: Deployment, tools: Sequence[Tool[..., object]], pools: Iterable[str]
) -> dict[str, Running]:
    """Build a worker for each pool, with the pool's tools. Raises `Misconfigured` for a pool without any."""
    from playhead_tool_workers.parts import WorkerParts
    from playhead_tool_workers.service import Worker

    there = pools_of(tools)
    workers: dict[str, Running] = {}
    for pool in sorted(set(pools)):
        if pool not in there:
            raise Misconfigured(
                f"no tool is in pool {pool!r}: there are {', '.join(sorted(there)) or 'no tools at all'}"
            )
        parts = WorkerParts(
            queue=deployment.store.queue,
            topics=deployment.settings.topics,
            codec=deployment.codec,
            telemetry=deployment.telemetry,
            clock=clock,
            entropy=_entropy,
        )
        own = [tool for tool in tools if tool.pool == pool]
        worker = Worker(parts, own, pool, concurrency=deployment.settings.concurrency)
        workers[f"worker {pool}"] = Running(worker.serve, worker.ready)
    return workers


def gateway_service(deployment: Deployment, on_ready: Callable[[Address], None]) -> Running:
    """Build a gateway on the host and port of the settings; `on_ready` is told where it listens."""
    from playhead_gateway.gateway import GatewayParts
    from playhead_gateway.server import Address, serve

    settings, ready = deployment.settings, asyncio.Event()
    parts = GatewayParts(
        log=deployment.store.log,
        queue=deployment.store.queue,
        topics=settings.topics,
        codec=deployment.codec,
        telemetry=deployment.telemetry,
        clock=clock,
        entropy=_entropy,
    )

    def listening(address: Address) -> None:
        on_ready(address)
        ready.set()

    async def run(stop: asyncio.Event) -> None:
        where = Address(settings.host, settings.port)
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
