"""Sessions placed each in a topic of its own, which has one partition.

Nobody else writes there, so without void records offset = seq - 1, and a batch that is stored just where its head said
has nothing before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from playhead.accept import Head, Record, accept
from playhead.adapters.kafka.connection import Cluster, NoTopic
from playhead.adapters.kafka.sink import Sink
from playhead.adapters.kafka.spot import LOOK_BYTES, Spot, look, readable
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.topics import Stock, TopicAdmin
from playhead.adapters.kafka.wire import Place, fetch_once, unpack
from playhead.adapters.kafka.writer import Writer
from playhead.errors import UnknownSession
from playhead.ids import SessionId
from playhead.queue import Topics

__all__ = ["OwnTopics"]


class OwnTopics:
    """The placement `topic`. See `playhead.adapters.kafka.placement.Placement`."""

    def __init__(self, cluster: Cluster, topics: Topics, writer: Writer, tail: Tail, stock: Stock) -> None:
        self._cluster = cluster
        self._topics = topics
        self._writer = writer
        self._tail = tail
        self._stock = stock
        self._admin = TopicAdmin(cluster, topics)

    async def create(self, session: SessionId | None) -> SessionId:
        """Take a topic made ahead, or make one of that name."""
        if session is None:
            return await self._stock.take()
        await self._admin.create_sessions([session])
        return session

    async def delete(self, session: SessionId) -> None:
        """Delete the topic."""
        place = self._place(session)
        self._forget(place)
        await self._admin.delete([place[0]])
        # whoever came between is told as well
        self._forget(place)

    async def find(self, session: SessionId, *, fresh: bool = False) -> Spot:
        """Name the topic. Whether there is one shows when it is used."""
        return Spot(session, self._place(session))

    def watch(self, session: SessionId, sink: Sink) -> AbstractContextManager[None]:
        """Do nothing: the tail of a topic that is gone ends by itself."""
        return nullcontext()

    async def near(self, spot: Spot, seq: int) -> Head | None:
        """Give the head at a seq if it is stored where it is without void records before it, else None.

        With none, offset = seq - 1. No honest writer's record has such a seq after a void one, and the link to the
        record before shows that it is no stranger's.
        """
        first = max(seq - 2, 0)
        part = await fetch_once(self._cluster, spot.place, first, bytes_max=LOOK_BYTES)
        stored = {record.offset: readable(record) for record in unpack(part.data, first)[0]}
        before = stored.get(seq - 2)
        record = stored[seq - 1] if seq - 1 in stored else await look(self._cluster, spot, seq - 1)
        if record is None or (before is None and seq > 1):
            return None
        previous = spot.start if before is None else Head(before.seq, before.hash, seq - 1)
        if record.seq != seq or not accept(previous, record):
            return None
        return Head(record.seq, record.hash, seq)

    async def undisturbed(self, spot: Spot, head: Head, offset: int, count: int) -> bool:
        """Tell whether a batch was stored just where the head said."""
        return offset == head.position

    def accepted(self, spot: Spot, head: Head, records: Sequence[Record]) -> None:
        """Do nothing: a seq says where it is."""

    def missing(self, session: SessionId, error: NoTopic) -> UnknownSession:
        """No topic, no session."""
        return UnknownSession(session)

    def _forget(self, place: Place) -> None:
        self._tail.end(place, NoTopic(place[0]))
        self._writer.forget(place[0])
        self._cluster.forget(place[0])

    def _place(self, session: SessionId) -> Place:
        return self._topics.session(session), 0
