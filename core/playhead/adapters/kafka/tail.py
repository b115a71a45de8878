"""The live end of every partition that this process follows, each followed once, whoever reads it.

The broker looks at all partitions of a fetch when one of them has news. So they are spread over bundles of bounded
size, each with a fetch session of its own, and what an event costs does not grow with the partitions that are followed.

A long poll that is under way cannot be told of another partition. So a partition that joins is fetched by a second,
brief poll (the express), until the long poll returns and takes it over; both may bring the same records, and the second
copy is dropped by its offsets. Who follows gets what arrives through a bounded sink; one that does not keep up is told
to read for itself and slows nobody. Who wants the records of one key alone is not woken for any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiokafka.protocol.api import Response

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import PATIENCE_SECONDS, Cluster, Lost, NoTopic, backoff
from playhead.adapters.kafka.sink import Chunk, Sink
from playhead.adapters.kafka.wire import OUT_OF_RANGE, SESSIONLESS, Fetch, Place, Stored, parts, unpack
from playhead.errors import PlayheadError, Unavailable

__all__ = ["Tail"]

LONG_POLL_MS = 250
EXPRESS_POLL_MS = 5

RELOCATE_PAUSE_SECONDS = 0.05

BUNDLE_PLACES_MAX = 64
"""How many partitions share a fetch session."""

EPOCH_MAX = 2**31 - 1


@dataclass(eq=False, slots=True)
class Feed:
    """One partition: where its next record will be, and who waits for it: for all of it, or for one key's records."""

    place: Place
    position: int
    sinks: dict[bytes | None, set[Sink]] = field(default_factory=dict[bytes | None, set[Sink]])
    bundle: Bundle | None = None

    @property
    def everybody(self) -> tuple[Sink, ...]:
        """All who wait for it."""
        return tuple(sink for sinks in self.sinks.values() for sink in sinks)

    def hand_out(self, records: list[Stored], after: int) -> None:
        """Give each who waits what is theirs of the records that arrived."""
        self.position = after
        for sink in self.sinks.get(None, ()):
            sink.put(Chunk(self.place, records, after))
        if None in self.sinks and len(self.sinks) == 1:
            return
        mine: dict[bytes, list[Stored]] = {}
        for record in records:
            if record.key is not None and record.key in self.sinks:
                mine.setdefault(record.key, []).append(record)
        for key, some in mine.items():
            for sink in self.sinks[key]:
                sink.put(Chunk(self.place, some, after))


class Tail:
    """All partitions that this process follows."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._feeds: dict[Place, Feed] = {}
        self._bundles: dict[int, list[Bundle]] = {}

    @property
    def places(self) -> frozenset[Place]:
        """The partitions that are followed now."""
        return frozenset(self._feeds)

    async def join(self, place: Place, position: int, sink: Sink, key: bytes | None = None) -> int:
        """Feed a sink (the records of one key, or all) from now on; give the offset from which.

        Raises `NoTopic`, `Lost`.
        """
        node = await self._cluster.leader(*place)
        feed = self._feeds.get(place)
        if feed is None:
            feed = self._feeds[place] = Feed(place, position)
            self._assign(feed, node)
        feed.sinks.setdefault(key, set()).add(sink)
        return feed.position

    def leave(self, places: Iterable[Place], sink: Sink, key: bytes | None = None) -> None:
        """Feed a sink no more, and forget the partitions that nobody follows."""
        for place in places:
            feed = self._feeds.get(place)
            if feed is None or key not in feed.sinks:
                continue
            feed.sinks[key].discard(sink)
            if not feed.sinks[key]:
                del feed.sinks[key]
            if not feed.sinks:
                self._remove(feed)

    def end(self, place: Place, error: Exception) -> None:
        """Tell all who follow a partition that it is over."""
        feed = self._feeds.get(place)
        if feed is not None:
            self._remove(feed)
            for sink in feed.everybody:
                sink.fail(error)

    def deliver(self, feed: Feed, data: bytes) -> None:
        """Hand what a fetch brought to all who follow the partition."""
        try:
            records, after = unpack(data, feed.position)
        except Lost as error:
            self.end(feed.place, Unavailable(f"{feed.place[0]} cannot be read: {error}"))
            return
        if after > feed.position:
            feed.hand_out(records, after)

    def refuse(self, feed: Feed, code: int) -> None:
        """Act on a partition that its node does not serve (any more)."""
        if code == OUT_OF_RANGE:
            # the log was cut at one end; the followers find out which when they read for themselves
            self._remove(feed)
            for sink in feed.everybody:
                sink.overtake()
            return
        self._withdraw(feed)
        self._background.start(self._relocate(feed))

    def relocate(self, feeds: Iterable[Feed], leaders: dict[str, tuple[int, tuple[int, ...]]], node: int) -> None:
        """Move the feeds whose leader is not this node (any more)."""
        for feed in tuple(feeds):
            topic, partition = feed.place
            code, nodes = leaders.get(topic, (0, ()))
            elsewhere = code == 0 and partition < len(nodes) and nodes[partition] not in (node, -1)
            if code or elsewhere:
                self.refuse(feed, code)

    async def _relocate(self, feed: Feed) -> None:
        self._cluster.forget(feed.place[0])
        await asyncio.sleep(RELOCATE_PAUSE_SECONDS)  # brokers may send us to and fro while they agree
        try:
            node = await self._cluster.patiently(lambda: self._cluster.leader(*feed.place))
        except (NoTopic, PlayheadError) as error:
            if self._feeds.get(feed.place) is feed:
                self.end(feed.place, error)
            return
        if self._feeds.get(feed.place) is feed:
            self._assign(feed, node)

    def _assign(self, feed: Feed, node: int) -> None:
        bundles = self._bundles.setdefault(node, [])
        bundle = next((bundle for bundle in bundles if bundle.size < BUNDLE_PLACES_MAX), None)
        if bundle is None:
            bundle = Bundle(self, self._cluster, (node, len(bundles)))
            bundles.append(bundle)
        feed.bundle = bundle
        for work in bundle.add(feed):
            self._background.start(work)

    def _withdraw(self, feed: Feed) -> None:
        if feed.bundle is not None:
            feed.bundle.remove(feed)
            feed.bundle = None

    def _remove(self, feed: Feed) -> None:
        del self._feeds[feed.place]
        self._withdraw(feed)


class Bundle:
    """The long poll and the express of some partitions of one node."""

    def __init__(self, tail: Tail, cluster: Cluster, name: tuple[int, int]) -> None:
        self._tail = tail
        self._cluster = cluster
        self._node, self._number = name
        self._feeds: dict[Place, Feed] = {}
        self._joining: dict[Place, Feed] = {}
        self._asked: dict[Place, int] = {}
        self._stale: set[Place] = set()
        self._session = 0, 0
        self._polling = False
        self._expressing = False

    @property
    def size(self) -> int:
        """How many partitions there are in it."""
        return len(self._feeds) + len(self._joining)

    def add(self, feed: Feed) -> list[Any]:
        """Take a partition in; give the loops that must run for it and do not."""
        self._joining[feed.place] = feed
        if not self._polling:
            self._polling = True
            return [self._poll()]
        if not self._expressing:
            self._expressing = True
            return [self._express()]
        return []

    def remove(self, feed: Feed) -> None:
        """Let a partition go."""
        if self._joining.get(feed.place) is feed:
            del self._joining[feed.place]
        if self._feeds.get(feed.place) is feed:
            del self._feeds[feed.place]
            self._stale.discard(feed.place)

    async def _express(self) -> None:
        try:
            while self._joining:
                asked = {place: feed.position for place, feed in self._joining.items()}
                request = Fetch(asked.items(), wait_ms=EXPRESS_POLL_MS, session=SESSIONLESS)
                try:
                    response = await self._cluster.call(self._node, request, f"express-{self._number}")
                except Lost:
                    return  # the long poll meets the same trouble and deals with it
                self._dispatch(response, asked)
        finally:
            self._expressing = False

    async def _poll(self) -> None:
        tries = 0
        loop = asyncio.get_running_loop()
        answered = loop.time()
        try:
            while self._joining or self._feeds:
                self._take_over()
                request = self._request()
                try:
                    response = await self._cluster.call(self._node, request, f"tail-{self._number}")
                    self._continue(response)
                except Lost as error:
                    self._begin_again()
                    if loop.time() - answered > PATIENCE_SECONDS:
                        self._give_up(Unavailable(f"no answer from Kafka in {PATIENCE_SECONDS:.0f} s: {error}"))
                        answered = loop.time()  # whoever joins now has patience of their own
                    await asyncio.sleep(backoff(tries))
                    tries += 1
                    await self._look_elsewhere()
                    continue
                tries, answered = 0, loop.time()
                self._dispatch(response, self._asked)
        except Exception as error:
            # Who follows must hear of it, whatever it was: nobody else polls for them.
            self._give_up(error if isinstance(error, PlayheadError) else Unavailable(f"following broke: {error!r}"))
            raise
        finally:
            self._polling = False
            self._begin_again()

    def _take_over(self) -> None:
        self._feeds.update(self._joining)
        self._stale.update(self._joining)
        self._joining.clear()

    def _request(self) -> Fetch:
        wanted = [(place, self._feeds[place].position) for place in self._stale]
        dropped = [place for place in self._asked if place not in self._feeds] if self._session[0] else []
        for place in dropped:
            del self._asked[place]
        self._asked.update(wanted)
        self._stale.clear()
        return Fetch(wanted, wait_ms=LONG_POLL_MS, session=self._session, dropped=dropped)

    def _continue(self, response: Any) -> None:  # Any: aiokafka's response struct
        if response.error_code:
            raise Lost(f"the fetch session is over (code {response.error_code})")
        number, epoch = response.session_id, self._session[1]
        if number == 0:
            self._begin_again()  # the broker has no room for sessions: ask for everything each time
        else:
            self._session = number, 1 if epoch >= EPOCH_MAX else epoch + 1

    def _begin_again(self) -> None:
        self._session = 0, 0
        self._stale = set(self._feeds)

    def _give_up(self, error: Exception) -> None:
        for place in (*self._feeds, *self._joining):
            self._tail.end(place, error)

    async def _look_elsewhere(self) -> None:
        try:
            leaders = await self._cluster.metadata({topic for topic, _ in self._feeds})
        except Lost:
            return
        self._tail.relocate(self._feeds.values(), leaders, self._node)

    def _dispatch(self, response: Response, asked: dict[Place, int]) -> None:
        for place, part in parts(response).items():
            feed = self._feeds.get(place) or self._joining.get(place)
            # an answer to an older question, about a partition that was left and followed again from before
            if feed is None or asked.get(place, feed.position + 1) > feed.position:
                continue
            if part.code:
                self._tail.refuse(feed, part.code)
            elif part.data:
                self._tail.deliver(feed, part.data)
                if place in self._feeds:
                    self._stale.add(place)
