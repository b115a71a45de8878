"""The stores that the contract is proved on. An adapter is added to the suites here, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.adapters.sqlite import open_sqlite
from playhead.log import SessionLog
from playhead.queue import Queue, Topics

STORES = ("memory", "sqlite", "sqlite-slow-disk", pytest.param("kafka", marks=pytest.mark.kafka))
"""Those that differ in more than where sessions are placed: what the queue is proved on."""


class Client(Protocol):
    """One adapter instance: what one process has of a store."""

    @property
    def log(self) -> SessionLog: ...

    @property
    def queue(self) -> Queue: ...


@dataclass(frozen=True)
class MemoryClient:
    log: MemorySessionLog
    queue: MemoryQueue


@dataclass
class Store:
    """A store, and what differs between adapters by their own nature."""

    open: Callable[[], AbstractAsyncContextManager[Client]]
    """Open another client of it, to be closed by who asked."""
    groups_span_clients: bool = False
    """Whether members of one group may be in different clients (processes)."""
    patience_seconds: float = 20.0
    """The longest wait for anything that must happen."""
    _clients: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def client(self) -> Client:
        """Open another client of it, closed when the test ends."""
        return await self._clients.enter_async_context(self.open())

    async def close(self) -> None:
        await self._clients.aclose()


def memory_store() -> Store:
    client = MemoryClient(MemorySessionLog(), MemoryQueue())

    @asynccontextmanager
    async def same() -> AsyncGenerator[Client, None]:
        yield client

    return Store(same)


def sqlite_store(folder: Path, *, slow_commit_seconds: float) -> Store:
    return Store(lambda: open_sqlite(folder / "log.db", slow_commit_seconds=slow_commit_seconds))


def kafka_store(bootstrap: str, *, lanes: int = 0) -> Store:
    """A session's topic each, or so many lanes for all of them: few, so that the sessions of a test do meet."""
    from playhead.adapters.kafka import KafkaConnection, open_kafka  # noqa: PLC0415 - only where there is a broker

    topics = Topics(prefix=f"contract-{uuid4().hex[:12]}", session_partitions=2, lane_count=lanes)
    connection = KafkaConnection(bootstrap=bootstrap)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Client, None]:
        async with open_kafka(connection, topics=topics) as client:
            await client.queue.prepare(*topics.lane_topics)
            yield client

    return Store(opened, groups_span_clients=True, patience_seconds=20.0)
