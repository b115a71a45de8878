"""One member of a consumer group, on aiokafka's group consumer.

aiokafka rebalances in a task of its own, while the application goes on. Here the rebalance waits (a bounded time) until
the application has been told what it lost and has come back for more, which is how it says that it has let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import PATIENCE_SECONDS, Cluster, Lost, is_open
from playhead.adapters.kafka.wire import FETCH_BYTES_MAX, Place
from playhead.adapters.progress import Progress, decode_finished
from playhead.errors import Unavailable
from playhead.queue import Assigned, Delivery, Message, Revoked

__all__ = ["GroupMember"]

GRACE_SECONDS = 4.0
"""How long a rebalance waits for the application to let go of what it lost."""

REBALANCE_SECONDS = 10.0
"""How long the group waits for each member to come back: more than the grace and a commit."""

COMMIT_SECONDS = 0.1
"""How long acknowledgements gather before they are committed."""

COMMIT_TIMEOUT_SECONDS = 3.0
STOP_SECONDS = 5.0
OFFSETS_SECONDS = 5.0
"""How long a new assignment waits to learn what was finished out of order; without it that is delivered again."""

BATCH_MESSAGES_MAX = 500
"""The most messages of one delivery."""

OUTSTANDING_MAX = 10_000
"""How many delivered messages may wait for their acknowledgement before no more are fetched."""

HEARTBEAT_MS = 1000
"""How often a member shows that it lives; also how late it may notice that the group rebalances."""

POLL_MS = 500
LONG_POLL_MS = 250
NEVER_MS = 24 * 3_600_000
"""aiokafka would leave the group when nobody polls for so long; our pump always does."""

RETRY_SECONDS = 0.2
GROUP = 0
DECIDED_BY_THE_GROUP = (CommitFailedError, IllegalStateError)

log = logging.getLogger(__name__)


class GroupMember(ConsumerRebalanceListener):
    """A member of one group, for the topics that it joined."""

    def __init__(self, cluster: Cluster, group: str, topics: Iterable[str]) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = frozenset(topics)
        self._consumer: Any = _consumer(cluster, group)  # Any: aiokafka's methods are half annotated
        self._background = Background()
        self._news: deque[Assigned | Revoked] = deque()
        self._batch: list[Message] = []
        self._progress: dict[Place, Progress] = {}
        self._failure: Unavailable | None = None
        self._given = False
        self._generation = 0
        self._told = False
        self._let_go = asyncio.Event()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def open(self) -> None:
        """Join the group. Raises `Unavailable`."""
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise Unavailable(f"cannot join group {self._group}: {error}") from error
        _notice_commits(self._consumer)
        self._consumer.subscribe(topics=sorted(self._topics), listener=self)
        self._background.start(self._pump())
        self._background.start(self._commit_often())

    async def close(self) -> None:
        """Commit what is done and leave the group."""
        self._let_go.set()
        await self._background.close()
        await self._commit()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._consumer.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("leaving group %s was cut short: %r", self._group, error)

    async def receive(self) -> Delivery:
        """Wait for what comes next. Raises `Unavailable`."""
        if self._told:
            self._told = False
            if not any(isinstance(news, Revoked) for news in self._news):
                self._let_go.set()
        while True:
            if self._news:
                news = self._news.popleft()
                self._told = isinstance(news, Revoked)
                return news
            if self._batch and self._given:
                batch, self._batch = self._batch, []
                self._room.set()
                return tuple(batch)
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()

    def acknowledge(self, *messages: Message) -> None:
        """Say that messages are done with. Those of partitions that were lost meanwhile are not ours to finish."""
        for message in messages:
            progress = self._progress.get((message.topic, message.partition))
            if progress is not None:
                progress.finish(message.offset)
        self._room.set()

    # aiokafka awaits what these return but annotates None
    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        """Tell the application, wait until it has let go, and commit what it finished."""
        lost = frozenset(partition for _, partition in revoked)
        if not lost:
            return
        self._given = False
        self._generation += 1
        self._batch = []
        self._let_go.clear()
        self._news.append(Revoked(lost))
        self._changed.set()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._let_go.wait()
        except TimeoutError:
            log.warning("group %s rebalances although a member did not let go in time", self._group)
        try:
            await self._commit()
        finally:
            self._progress = {}

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        """Learn what is finished already, then tell the application what it was given."""
        places: list[Place] = [(topic, partition) for topic, partition in assigned]
        try:
            finished = await self._finished(places)
        except Exception as error:  # noqa: BLE001 - aiokafka would log it, and leave us with partitions that nobody reads
            log.warning("what group %s has finished is not known: some comes again: %r", self._group, error)
            finished = {}
        for place in places:
            known = self._progress.get(place)
            if known is None:
                self._progress[place] = Progress(finished.get(place, ()))
        if places:
            self._news.append(Assigned(frozenset(partition for _, partition in places)))
        self._given = True
        self._room.set()
        self._changed.set()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        working = loop.time()
        while True:
            # getmany is never cancelled but at the end: aiokafka would lose count of who polls
            while self._batch or not self._given or self._outstanding() > OUTSTANDING_MAX:
                self._room.clear()
                await self._room.wait()
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_MESSAGES_MAX)
            except KafkaError as error:
                if loop.time() - working > PATIENCE_SECONDS:
                    self._failure = Unavailable(f"group {self._group}: {error}")
                    self._changed.set()
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except Exception as error:
                # A batch that aiokafka cannot read, or a bug: who receives must hear of it and not wait for ever.
                self._failure = Unavailable(f"group {self._group} cannot be read: {error!r}")
                self._changed.set()
                raise
            working = loop.time()
            generation = self._generation
            while not self._given:  # fetched by a new assignment that the application has not been told of yet
                self._room.clear()
                await self._room.wait()
            if generation == self._generation:
                self._take(fetched)

    def _take(self, fetched: dict[TopicPartition, list[Any]]) -> None:  # Any: aiokafka's consumer records
        for (topic, partition), records in fetched.items():
            progress = self._progress.get((topic, partition))
            if progress is None:
                continue
            for record in records:
                if progress.deliver(record.offset):
                    key = (record.key or b"").decode(errors="replace")
                    self._batch.append(Message(topic, partition, record.offset, key, record.value or b""))
        if self._batch:
            self._changed.set()

    def _outstanding(self) -> int:
        return sum(progress.outstanding for progress in self._progress.values())

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        changed = {place: progress for place, progress in self._progress.items() if progress.changed}
        offsets: dict[TopicPartition, tuple[int, str]] = {}
        for place, progress in changed.items():
            commit = progress.commit()
            if commit is not None:
                progress.changed = False
                offsets[TopicPartition(*place)] = commit
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                await self._consumer.commit(offsets)
        except DECIDED_BY_THE_GROUP:
            pass  # the group has moved on without us; whoever has the partitions now decides
        except (TimeoutError, KafkaError) as error:
            log.info("commit of group %s will be tried again: %r", self._group, error)
            for progress in changed.values():
                progress.changed = True

    async def _finished(self, places: list[Place]) -> dict[Place, set[int]]:
        topics: dict[str, list[int]] = {}
        for topic, partition in places:
            topics.setdefault(topic, []).append(partition)

        async def ask() -> dict[Place, set[int]]:
            found = await self._cluster.call_any(FindCoordinatorRequest(self._group, GROUP), "group")
            if found.error_code:
                raise Lost(f"group {self._group} has no coordinator (code {found.error_code})")
            request = OffsetFetchRequest(self._group, list(topics.items()))
            response = await self._cluster.call(found.coordinator_id, request, "group")
            return {
                (topic, partition): decode_finished(offset, metadata or "")
                for topic, answered in response.topics
                for partition, offset, metadata, _ in answered
            }

        try:
            return await self._cluster.patiently(ask, OFFSETS_SECONDS)
        except Unavailable:
            return {}


def _notice_commits(consumer: Any) -> None:  # Any: as below
    """Take note of how a commit ends for which nobody waits any more.

    aiokafka shields a commit from being cancelled. One that fails after our timeout would be reported by the event loop
    as an exception that nobody retrieved.
    """
    coordinator = consumer._coordinator
    send = coordinator._do_commit_offsets

    def noticed(*what: Any) -> asyncio.Task[None]:
        sending: asyncio.Task[None] = asyncio.get_running_loop().create_task(send(*what))
        sending.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return sending

    coordinator._do_commit_offsets = noticed


class _Client(AIOKafkaClient):
    """aiokafka's client, but for connections that were reset and are not known to be.

    Its tasks (metadata, coordination, fetching) end for good, and without a word, when such a connection is handed to
    them: the member would never hear of anything again.
    """

    async def _get_conn(self, node_id: Any, **how: Any) -> Any:  # Any: as aiokafka has it
        base: Any = super()
        connection = await base._get_conn(node_id, **how)
        if connection is not None and not is_open(connection):
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            connection = await base._get_conn(node_id, **how)
        return connection


def _consumer(cluster: Cluster, group: str) -> AIOKafkaConsumer:
    connection = cluster.connection
    session_ms = connection.session_timeout_ms
    reach: dict[str, Any] = {
        "bootstrap_servers": connection.bootstrap,
        "client_id": cluster.client_id,
        "request_timeout_ms": max(session_ms, int(REBALANCE_SECONDS * 1000)) + 5000,
        "metadata_max_age_ms": 60_000,
        **connection.security(),
    }
    consumer = AIOKafkaConsumer(
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        partition_assignment_strategy=(RangePartitionAssignor,),
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=min(HEARTBEAT_MS, session_ms // 3),
        rebalance_timeout_ms=max(session_ms, int(REBALANCE_SECONDS * 1000)),
        max_poll_interval_ms=NEVER_MS,
        max_poll_records=BATCH_MESSAGES_MAX,
        fetch_max_wait_ms=LONG_POLL_MS,
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
        **reach,
    )
    consumer._client = _Client(**reach)  # pyright: ignore[reportPrivateUsage] - it takes none, and uses none yet
    return consumer
