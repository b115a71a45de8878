"""What a process opens, and must close: the store of its sessions and queues, the models that its
agents name, and the MCP servers whose tools it hosts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from playhead.archive import Archive
from playhead.errors import Misconfigured, Unavailable
from playhead.log import SessionLog
from playhead.queue import Queue
from playhead.settings import Settings
from playhead.telemetry import logger

if TYPE_CHECKING:
    from playhead.adapters.kafka import KafkaConnection, KafkaStore
    from playhead.agents import Agent
    from playhead.loading import App
    from playhead.redaction import Redactor
    from playhead_orchestrator.model import Model
    from playhead_tool_workers.mcp.host import McpHost

    from playhead_cli.flags import McpFlags

__all__ = [
    "EXAMPLE_MODELS",
    "Models",
    "Store",
    "example_app",
    "open_archive",
    "open_cluster",
    "open_embedded",
    "open_mcp",
    "open_models",
]

BROKER_RETRY_SECONDS = 0.5

EXAMPLE_MODELS = {"ANTHROPIC_API_KEY": "anthropic:claude-sonnet-5-5", "OPENAI_API_KEY": "openai:gpt-4.1-mini"}
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
class Models:
    """The models of a process by provider, and what makes their first call as fast as their second."""

    by_provider: dict[str, Model] = field(default_factory=dict["str", "Model"])
    warm_ups: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])


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


def open_archive(settings: Settings) -> Archive | None:
    """Open the archive that the settings name. Raises `Misconfigured`."""
    from playhead.adapters.archive import FolderArchive

    if settings.archive is None:
        return None
    if "://" in settings.archive:
        raise Misconfigured(f"PLAYHEAD_ARCHIVE is a folder; this version speaks no {settings.archive.split(':')[0]}://")
    return FolderArchive(Path(settings.archive))


def example_app(settings: Settings, environment: Mapping[str, str]) -> App:
    """Give the built-in example, with a real model where a key for one is set."""
    from playhead.loading import App

    from playhead_cli import example

    keys = () if settings.scenario else (model for key, model in EXAMPLE_MODELS.items() if environment.get(key))
    agent = replace(example.agent, model=next(iter(keys), "scripted"), version="")
    return App((agent,), agent.own_tools)


@asynccontextmanager
async def open_models(agents: Sequence[Agent], settings: Settings) -> AsyncGenerator[Models, None]:
    """Open the models that agents name. Raises `Misconfigured`."""
    models = Models()
    async with AsyncExitStack() as stack:
        for provider in sorted({agent.model.partition(":")[0] for agent in agents}):
            model = models.by_provider[provider] = _model(provider, settings, models.warm_ups)
            stack.push_async_callback(model.close)
        yield models


@asynccontextmanager
async def open_mcp(flags: McpFlags, pool: str, redactor: Redactor) -> AsyncGenerator[McpHost, None]:
    """Start the MCP servers that were named, as tools of a pool, and register their secrets. Raises `Misconfigured`."""
    try:
        from playhead_tool_workers.mcp.host import McpHost
        from playhead_tool_workers.mcp.limits import McpLimits
        from playhead_tool_workers.mcp.servers import Offer, servers_of
    except ImportError as error:
        raise Misconfigured(f"--mcp needs the MCP SDK, 2.3 or later: pip install 'playhead[mcp]' ({error})") from error
    offer = Offer.parse(pool, allow=flags.allow, effects=flags.effects, timeout_seconds=flags.timeout_seconds)
    servers = servers_of(flags.servers, variables=flags.variables, headers=flags.authorizations, environment=os.environ)
    async with McpHost(servers, offer, limits=McpLimits(start_seconds=flags.wait_seconds), redactor=redactor) as host:
        yield host


def _model(provider: str, settings: Settings, warm_ups: list[Callable[[], Awaitable[None]]]) -> Model:
    match provider:
        case "anthropic":
            from playhead_orchestrator.adapters.claude import ClaudeModel

            claude = ClaudeModel()
            warm_ups.append(claude.warm_up)
            return claude
        case "openai":
            from playhead_orchestrator.adapters.openai import OpenAIModel

            openai = OpenAIModel()
            warm_ups.append(openai.warm_up)
            return openai
        case "scripted":
            from playhead_orchestrator.adapters.scripted import ScriptedModel

            return ScriptedModel(settings.scenario, pace=settings.scripted_pace)
        case _:
            raise Misconfigured(f"no model provider is named {provider!r}: there are anthropic, openai and scripted")
