"""Making, finding and removing topics, and a small stock of session topics made ahead.

Creating a topic takes about 30 ms, however many are created with it. So sessions take theirs from a stock that one
request refills in the background, and the topic's name is what names the session.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest
from aiokafka.protocol.offset import OffsetRequest

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import UNKNOWN_TOPIC, Cluster, Lost
from playhead.adapters.kafka.wire import BATCH_BYTES_MAX, LATEST
from playhead.errors import Misconfigured, PlayheadError, Unavailable
from playhead.ids import SessionId, session_id
from playhead.queue import Topics, TopicSpec

__all__ = ["Stock", "TopicAdmin"]

STOCK_SESSIONS = 16
"""How many session topics are kept ready."""

REFILL_MAX = 200
"""The most session topics that one request creates."""

VISIBLE_SECONDS = 30.0
"""How long every broker has to learn of a topic that was created or deleted."""

CLOSE_SECONDS = 3.0
"""How long closing waits for the unused topics to be deleted."""

VISIBLE_PAUSE_SECONDS = 0.003
ADMIN_TIMEOUT_MS = 8000
COMPACTION_LAG_SECONDS = 600
"""How long a line of a compacted topic is kept although there is a newer one.

The newest need not be the one that counts: who was suspended may write his after his successor's. Readers tell them
apart by their epoch, as long as both are there.
"""

TOPICS_MAX = 500
"""The most topics in one administrative request."""

SESSION_INDEX_BYTES = 65_536
"""Each index of a segment is mapped at this size; Kafka's 10 MiB is for topics of another kind."""

EXISTS = 36
TOO_FEW = 37
"""Of partitions: there are as many already, or more."""

FEW_BROKERS = 38
REFUSED = frozenset({17, 29, 31, 37, FEW_BROKERS, 39, 40, 42, 44})
"""Invalid name, not authorized, invalid partitions, replication, assignment, config or request, policy."""


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create."""

    name: str
    partitions: int
    settings: dict[str, str]


class TopicAdmin:
    """What is done to topics as a whole."""

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._cluster = cluster
        self._topics = topics

    async def create_sessions(self, sessions: Collection[SessionId]) -> None:
        """Create the topics of sessions. Existing ones are left as they are. Raises `Unavailable`, `Misconfigured`."""
        settings = self._settings() | {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "segment.index.bytes": str(SESSION_INDEX_BYTES),
        }
        # The fixed topics have as many copies, and they are there: the brokers that lack now are being restarted.
        topics = [NewTopic(self._topics.session(session), 1, settings) for session in sessions]
        await self._create(topics, REFUSED - {FEW_BROKERS})

    async def create(self, specs: Collection[TopicSpec]) -> None:
        """Create fixed topics. Existing ones are left as they are, but for those that grow.

        Raises `Unavailable`, `Misconfigured`.
        """
        found = await self._cluster.patiently(lambda: self._cluster.metadata([spec.name for spec in specs]))
        missing = [spec for spec in specs if found[spec.name][0] == UNKNOWN_TOPIC]
        await self._create([NewTopic(spec.name, spec.partitions, self._of(spec)) for spec in missing], REFUSED)
        for spec in specs:
            if spec.grows and 0 < len(found[spec.name][1]) < spec.partitions:
                await self._cluster.patiently(lambda spec=spec: self._grow_once(spec))
                await self._everywhere([spec.name], partitions=spec.partitions)

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics, and wait until no broker knows them. Raises `Unavailable`, `Misconfigured`."""
        for start in range(0, len(names), TOPICS_MAX):
            some = list(names[start : start + TOPICS_MAX])
            for name in some:
                self._cluster.forget(name)
            await self._cluster.patiently(lambda some=some: self._delete_once(some))
            await self._everywhere(some, partitions=0)

    async def _create(self, topics: Sequence[NewTopic], refused: Collection[int]) -> None:
        for start in range(0, len(topics), TOPICS_MAX):
            some = topics[start : start + TOPICS_MAX]
            await self._cluster.patiently(lambda some=some: self._create_once(some, refused))
            await self._everywhere([topic.name for topic in some], partitions=1)

    async def _create_once(self, topics: Sequence[NewTopic], refused: Collection[int]) -> None:
        factor = self._cluster.connection.replication_factor or -1
        wanted: list[Any] = [  # Any: aiokafka annotates the tuple with one field
            (topic.name, topic.partitions, factor, [], list(topic.settings.items())) for topic in topics
        ]
        request = CreateTopicsRequest(wanted, ADMIN_TIMEOUT_MS, False)
        response = await self._cluster.call_any(request, "admin")
        for name, code, message in response.topic_errors:
            if code in refused:
                raise Misconfigured(f"topic {name} was refused: {message or f'code {code}'}")
            if code not in (0, EXISTS):
                raise Lost(f"topic {name} was not created: {message or f'code {code}'}")

    async def _delete_once(self, names: list[str]) -> None:
        response = await self._cluster.call_any(DeleteTopicsRequest(names, ADMIN_TIMEOUT_MS), "admin")
        for name, code in response.topic_error_codes:
            if code in REFUSED:
                raise Misconfigured(f"deleting topic {name} was refused (code {code})")
            if code not in (0, UNKNOWN_TOPIC):
                raise Lost(f"topic {name} was not deleted (code {code})")

    async def _grow_once(self, spec: TopicSpec) -> None:
        wanted: list[Any] = [(spec.name, (spec.partitions, None))]  # Any: aiokafka forgets that brokers may assign them
        response = await self._cluster.call_any(CreatePartitionsRequest(wanted, ADMIN_TIMEOUT_MS, False), "admin")
        for name, code, message in response.topic_errors:
            if code in REFUSED - {TOO_FEW}:
                raise Misconfigured(f"more partitions of {name} were refused: {message or f'code {code}'}")
            if code not in (0, TOO_FEW):
                raise Lost(f"topic {name} did not grow: {message or f'code {code}'}")

    async def _everywhere(self, names: list[str], *, partitions: int) -> None:
        """Wait until every broker that answers knows topics, with so many partitions at least; 0 is none of them."""
        try:
            async with asyncio.timeout(VISIBLE_SECONDS):
                for node in self._cluster.nodes:
                    while not await self._agrees(node, names, partitions):  # noqa: ASYNC110 - brokers send no word
                        await asyncio.sleep(VISIBLE_PAUSE_SECONDS)
        except TimeoutError as error:
            what = "appear on" if partitions else "vanish from"
            raise Unavailable(f"topics did not {what} every broker in {VISIBLE_SECONDS:.0f} s") from error

    async def _agrees(self, node: int, names: list[str], partitions: int) -> bool:
        try:
            found = await self._cluster.metadata_from(node, names)
        except Lost:
            return True  # a broker that is away learns of them before it serves anybody again
        if not partitions:
            return all(code == UNKNOWN_TOPIC for code, _ in found.values())
        if any(code or len(leaders) < partitions or min(leaders) < 0 for code, leaders in found.values()):
            return False
        for name, (_, leaders) in found.items():
            self._cluster.learn(name, leaders)
        return await self._serves(node, {name: leaders for name, (_, leaders) in found.items()})

    async def _serves(self, node: int, topics: dict[str, tuple[int, ...]]) -> bool:
        """Tell whether a node serves what it is said to lead: it learns of that a moment after it says so."""
        led = [
            (name, [(partition, LATEST) for partition, leader in enumerate(leaders) if leader == node])
            for name, leaders in topics.items()
            if node in leaders
        ]
        try:
            response = await self._cluster.call(node, OffsetRequest(-1, 0, led), "metadata")
        except Lost:
            return True
        return not any(code for _, answered in response.topics for _, code, *_ in answered)

    def _settings(self) -> dict[str, str]:
        settings = {"max.message.bytes": str(BATCH_BYTES_MAX)}
        replicas = self._cluster.connection.min_insync_replicas
        if replicas is not None:
            settings["min.insync.replicas"] = str(replicas)
        return settings

    def _of(self, spec: TopicSpec) -> dict[str, str]:
        if spec.compacted:
            lag = str(COMPACTION_LAG_SECONDS * 1_000)
            return self._settings() | {"cleanup.policy": "compact", "min.compaction.lag.ms": lag}
        return self._settings() | {"cleanup.policy": "delete", "retention.ms": str(spec.kept_hours * 3_600_000)}


class Stock:
    """Session topics made ahead. It begins with the first session that asks, or with `warm`."""

    def __init__(self, admin: TopicAdmin, background: Background, topics: Topics) -> None:
        self._admin = admin
        self._background = background
        self._topics = topics
        self._ready: deque[SessionId] = deque()
        self._waiting: deque[asyncio.Future[SessionId]] = deque()
        self._making: list[SessionId] = []
        self._refilling = False

    @property
    def ready(self) -> tuple[SessionId, ...]:
        """The sessions that nobody has taken yet."""
        return tuple(self._ready)

    def warm(self) -> None:
        """Begin to fill the stock."""
        if not self._refilling and len(self._ready) - len(self._waiting) <= STOCK_SESSIONS // 2:
            self._refilling = True
            self._background.start(self._refill())

    async def take(self) -> SessionId:
        """Give a session whose topic every broker knows. Raises `Unavailable`, `Misconfigured`."""
        if self._ready and not self._waiting:
            taken = self._ready.popleft()
            self.warm()
            return taken
        waiter: asyncio.Future[SessionId] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.warm()
        return await waiter

    async def close(self) -> None:
        """Delete the topics that nobody took. Raises `Unavailable`."""
        unused = [self._topics.session(session) for session in (*self._ready, *self._making)]
        self._ready.clear()
        if unused:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._admin.delete(unused)
            except TimeoutError as error:
                raise Unavailable(f"{len(unused)} unused session topics could not be deleted") from error

    async def _refill(self) -> None:
        try:
            while (lacking := STOCK_SESSIONS + len(self._waiting) - len(self._ready)) > 0:
                self._making = [session_id(os.urandom(16)) for _ in range(min(lacking, REFILL_MAX))]
                await self._admin.create_sessions(self._making)
                self._ready.extend(self._making)
                self._making = []
                self._hand_out()
        except PlayheadError as error:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_exception(error)
            self._waiting.clear()
        finally:
            self._refilling = False

    def _hand_out(self) -> None:
        while self._waiting and self._ready:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(self._ready.popleft())
