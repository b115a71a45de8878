"""The ports on Kafka: who composes a process opens a store and takes its log and its queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import UNKNOWN_TOPIC, Cluster, KafkaConnection
from playhead.adapters.kafka.lanes import Lanes
from playhead.adapters.kafka.log import KafkaLog
from playhead.adapters.kafka.own_topics import OwnTopics
from playhead.adapters.kafka.queue import KafkaQueue
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.topics import Stock, TopicAdmin
from playhead.adapters.kafka.writer import Writer
from playhead.errors import Unavailable
from playhead.queue import Topics, TopicSpec
from playhead.telemetry import logger

__all__ = ["Description", "KafkaConnection", "KafkaStore", "TopicState", "open_kafka"]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it should be, and how many partitions it has (0: there is no such topic)."""

    spec: TopicSpec
    partitions: int


@dataclass(frozen=True, slots=True)
class Description:
    """A cluster as it was found."""

    brokers: tuple[int, ...]
    topics: tuple[TopicState, ...]


class KafkaStore:
    """The log and the queue of a deployment, and what operators ask of its cluster."""

    def __init__(self, cluster: Cluster, topics: Topics, background: Background) -> None:
        admin = TopicAdmin(cluster, topics)
        writer = Writer(cluster, background)
        self._cluster = cluster
        self._topics = topics
        self.tail = Tail(cluster, background)
        self.stock = Stock(admin, background, topics)
        placement = (
            Lanes(cluster, topics, writer, self.tail, background)
            if topics.lane_count
            else OwnTopics(cluster, topics, writer, self.tail, self.stock)
        )
        self.log = KafkaLog(cluster, writer, self.tail, placement)
        self.queue = KafkaQueue(cluster, admin, writer, self.tail)

    @property
    def topics_known(self) -> frozenset[str]:
        """The topics that this process remembers; none other is ever asked for by itself."""
        return self._cluster.topics_known

    def warm(self) -> None:
        """Make session topics ahead: for a process that will create sessions without naming them."""
        if not self._topics.lane_count:
            self.stock.warm()

    async def describe(self, specs: Iterable[TopicSpec] | None = None) -> Description:
        """Look at the brokers and at topics (by default the fixed ones). Raises `Unavailable`."""
        wanted = tuple(self._topics.fixed if specs is None else specs)
        found = await self._cluster.patiently(lambda: self._cluster.metadata([spec.name for spec in wanted]))
        states = [
            TopicState(spec, 0 if code == UNKNOWN_TOPIC else len(leaders))
            for spec in wanted
            for code, leaders in [found[spec.name]]
        ]
        return Description(self._cluster.nodes, tuple(states))


@asynccontextmanager
async def open_kafka(
    connection: KafkaConnection, *, topics: Topics | None = None, client_id: str = "playhead"
) -> AsyncGenerator[KafkaStore, None]:
    """Open the log and the queue of a cluster. Raises `Unavailable` within 5 s if nothing answers, `Misconfigured`."""
    cluster = Cluster(connection, client_id)
    background = Background()
    try:
        await cluster.open()
        store = KafkaStore(cluster, topics or Topics(), background)
        try:
            yield store
        finally:
            await background.close()
            try:
                await store.stock.close()
            except Unavailable as error:
                logger(__name__).warning("unused session topics stay behind", reason=str(error))
    finally:
        await background.close()
        await cluster.close()
