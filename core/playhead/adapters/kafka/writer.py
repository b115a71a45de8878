"""Sending batches: idempotent, acknowledged by all replicas in sync, one request at a time to each node.

While a request is under way, batches for the same node gather and go together in the next one: no timer, no linger.
A batch that got no answer may be sent again as the very same batch, and the broker drops the second copy; a sender that
gives one up just drops it. A failed batch changes the producer's identity for its partition, so that nothing sent later
can be mistaken for it: there is no producer to rebuild, and other partitions do not notice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import TOPICS_KNOWN_MAX, Cluster, Lost
from playhead.adapters.kafka.wire import BATCH_BYTES_MAX, Entry, Place, batch_bytes, misplaced
from playhead.errors import PlayheadError, TooLarge

__all__ = ["Batch", "Writer"]

REQUEST_BYTES_MAX = 4 * BATCH_BYTES_MAX
"""About how much one produce request carries; what is over waits for the next."""

GATHER_BYTES_MAX = 512 * 1024
"""About how much is gathered into one batch of a queue's partition."""

ENTRY_OVERHEAD_BYTES = 24
BATCH_OVERHEAD_BYTES = 70
PRODUCE_TIMEOUT_MS = 8000
"""How long the broker waits for its replicas; less than the client waits for the broker."""

RECORD_TOO_LARGE = (10, 18)
STALE_PRODUCER = frozenset({45, 47, 59, 67})
"""Sequence out of order, producer epoch, producer id: this batch was refused, another identity will do."""


class Batch:
    """Entries for one partition that are stored together; the same object may be sent again after `Lost`.

    One that `gathers` may share its stored batch with others of its partition that do.
    """

    __slots__ = ("entries", "future", "gathers", "place", "producer", "size")

    def __init__(self, place: Place, entries: Sequence[Entry], *, gathers: bool = False) -> None:
        self.place = place
        self.entries = entries
        self.gathers = gathers
        self.size = sum(len(key or b"") + len(value or b"") + ENTRY_OVERHEAD_BYTES for key, value in entries)
        self.producer: tuple[int, int, int] | None = None
        self.future: asyncio.Future[int] | None = None

    @property
    def waiting(self) -> bool:
        """Whether somebody still waits for the outcome."""
        return self.future is not None and not self.future.done()


class Writer:
    """One idempotent producer for all partitions that this process writes."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._pending: dict[int, OrderedDict[Place, deque[Batch]]] = {}
        self._draining: set[int] = set()
        self._sequences: OrderedDict[Place, tuple[int, int, int]] = OrderedDict()
        self._identity: tuple[int, int] | None = None

    async def send(self, batch: Batch) -> int:
        """Store a batch and give the offset of its first entry.

        Raises `NoTopic` and `TooLarge` (nothing was stored), `Lost` (unknown: the same batch may be sent again).
        """
        if batch.size + BATCH_OVERHEAD_BYTES > BATCH_BYTES_MAX:
            raise TooLarge(f"{batch.size} bytes", f"one batch has at most {BATCH_BYTES_MAX}")
        topic, partition = batch.place
        node = await self._cluster.leader(topic, partition)
        future = batch.future = asyncio.get_running_loop().create_future()
        self._pending.setdefault(node, OrderedDict()).setdefault(batch.place, deque()).append(batch)
        if node not in self._draining:
            self._draining.add(node)
            self._background.start(self._drain(node))
        return await future

    def forget(self, topic: str) -> None:
        """Drop what is remembered of a topic that is gone."""
        for place in [place for place in self._sequences if place[0] == topic]:
            del self._sequences[place]
            self._identity = None  # should the topic be there after all, sequence 0 is another identity's

    async def _drain(self, node: int) -> None:
        pending = self._pending[node]
        try:
            while pending:
                gathered = _gather(pending)
                if gathered:
                    await self._transmit(node, gathered)
        finally:
            self._draining.discard(node)
            for queue in pending.values():
                for batch in queue:
                    _settle(batch, Lost("the store is closing"))
            pending.clear()

    async def _transmit(self, node: int, gathered: dict[Place, list[Batch]]) -> None:
        try:
            topics: dict[str, list[tuple[int, bytes]]] = {}
            for place, batches in gathered.items():
                data = await self._pack(place, batches)
                topics.setdefault(place[0], []).append((place[1], data))
            request = ProduceRequest(None, -1, PRODUCE_TIMEOUT_MS, list(topics.items()))
            self._settle_all(gathered, await self._cluster.call(node, request, "write"))
        except BaseException as error:
            # Whatever it was: those who wait for these batches would otherwise do so for ever.
            said = error if isinstance(error, PlayheadError) else Lost(str(error) or "the store is closing")
            for place, batches in gathered.items():
                self._fail(place, batches, said)
            for topic, _ in gathered:
                self._cluster.forget(topic)
            if not isinstance(error, Lost | PlayheadError):
                raise

    def _settle_all(self, gathered: dict[Place, list[Batch]], response: Any) -> None:  # Any: aiokafka's response struct
        for topic, answered in response.topics:
            for partition, code, offset, *_ in answered:
                batches = gathered.pop((topic, partition))
                if code in RECORD_TOO_LARGE:
                    advice = f"topic {topic} takes less: raise its max.message.bytes"
                    self._fail((topic, partition), batches, TooLarge("a batch", advice))
                elif code in STALE_PRODUCER:
                    self._fail((topic, partition), batches, Lost(f"the producer's identity is stale (code {code})"))
                    for batch in batches:
                        batch.producer = None
                elif code:
                    self._fail((topic, partition), batches, misplaced(self._cluster, topic, code))
                else:
                    first = int(offset)
                    for batch in batches:
                        _settle(batch, first)
                        first += len(batch.entries)
        for place, batches in gathered.items():
            self._fail(place, batches, Lost("the answer leaves the partition out"))

    async def _pack(self, place: Place, batches: list[Batch]) -> bytes:
        first = batches[0]
        entries = first.entries if len(batches) == 1 else [entry for batch in batches for entry in batch.entries]
        producer = first.producer
        if producer is None:
            producer = await self._claim(place, len(entries))
        for batch in batches:
            batch.producer = producer
        return batch_bytes(entries, producer)

    async def _claim(self, place: Place, count: int) -> tuple[int, int, int]:
        claimed = self._sequences.pop(place, None)
        if claimed is None:
            if self._identity is None:
                response = await self._cluster.call_any(InitProducerIdRequest(_NO_TRANSACTIONS, 0), "write-id")
                if response.error_code:
                    raise Lost(f"no producer id (code {response.error_code})")
                self._identity = response.producer_id, response.producer_epoch
            claimed = *self._identity, 0
        number, epoch, sequence = claimed
        self._sequences[place] = number, epoch, (sequence + count) % 2**31
        if len(self._sequences) > TOPICS_KNOWN_MAX:
            # its next batch would repeat sequence 0 under this identity, so that one goes with it
            self._sequences.popitem(last=False)
            self._identity = None
        return claimed

    def _fail(self, place: Place, batches: list[Batch], error: Exception) -> None:
        if self._sequences.pop(place, None) is not None:
            self._identity = None
        if len(batches) > 1:
            for batch in batches:  # sent again each goes alone, so what the broker may have is none of them
                batch.producer = None
        for batch in batches:
            _settle(batch, error)


_NO_TRANSACTIONS: Any = None  # aiokafka's annotation forgets that the id may be null


def _gather(pending: OrderedDict[Place, deque[Batch]]) -> dict[Place, list[Batch]]:
    """Take from each partition the batches of its next wire batch, the longest waiting first."""
    gathered: dict[Place, list[Batch]] = {}
    total = 0
    for place in tuple(pending):
        queue = pending[place]
        taken: list[Batch] = []
        size = 0
        while queue and (not taken or _fits(taken[0], queue[0], size)):
            batch = queue.popleft()
            if batch.waiting:
                taken.append(batch)
                size += batch.size
        if not queue:
            del pending[place]
        if taken:
            gathered[place] = taken
            total += size
        if total > REQUEST_BYTES_MAX:
            break
    return gathered


def _fits(first: Batch, following: Batch, size: int) -> bool:
    # an append is a batch of its own; one sent again must be the very same batch
    gathers = first.gathers and following.gathers and first.producer is None and following.producer is None
    return gathers and size + following.size <= GATHER_BYTES_MAX


def _settle(batch: Batch, outcome: int | Exception) -> None:
    if batch.future is None or batch.future.done():
        return
    if isinstance(outcome, Exception):
        batch.future.set_exception(outcome)
    else:
        batch.future.set_result(outcome)
