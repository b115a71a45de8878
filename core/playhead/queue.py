"""The queue port: publish by key, consume as a member of a group with explicit acknowledgement, replay.

The clauses are the contract. `tests/contract/test_queue.py` proves each of them, by number, against every adapter.

  Q1  A published message is delivered to each group that has members, at least once, whatever process crashes.
  Q2  Messages of one key are in one partition; a partition is delivered in order, to one member of a group at a time.
  Q3  What a member acknowledged is not delivered to the group again after the member closed in order. After a crash it
      may be; what was not acknowledged will be.
  Q4  Members come and go: partitions are spread over the members there are. A member is told what it was given
      (`Assigned`) before the first message of it, and what it lost (`Revoked`) before another member is given it. Its
      next `receive` says that it has let go.
  Q5  Acknowledgements may come in any order. A message is only safe when all before it in its partition are too.
  Q6  `replay` yields what is kept of a topic, in order by partition, without any group.
  Q7  Topics with the same number of partitions, joined by the same members, are spread alike: the session's requests
      and its results come to the same member.

Nothing here is exactly-once: who consumes must not mind a message coming twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Assigned", "Delivery", "Member", "Message", "Queue", "Revoked", "Since", "TopicSpec", "Topics"]


Since = Literal["beginning", "end"] | Mapping[int, int]
"""Where a replay begins. The mapping gives an offset by partition."""

FOR_EVER_HOURS = 1_000_000
"""More than a century."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `compacted` keeps the last message of each key; else all are kept for `kept_hours`.

    Where several processes publish, a compacted topic keeps the others for a while too: the last may be a late one.
    What `grows` may be given more partitions later: no key depends on how many there are.
    """

    name: str
    partitions: int
    compacted: bool = False
    kept_hours: int = 168
    grows: bool = False


@dataclass(frozen=True, slots=True)
class Topics:
    """The names and shapes of the topics of a deployment (DESIGN section 2).

    Requests, results and the directory are co-partitioned, so that who owns a session's requests owns the rest.
    Without lanes each session has a topic of its own.
    """

    prefix: str = "agent"
    session_partitions: int = 12
    pool_partitions: int = 24
    lane_count: int = 0

    @property
    def requests(self) -> TopicSpec:
        """What users ask of sessions, keyed by session."""
        return TopicSpec(f"{self.prefix}.requests", self.session_partitions)

    @property
    def results(self) -> TopicSpec:
        """What tool workers report, keyed by session."""
        return TopicSpec(f"{self.prefix}.results", self.session_partitions)

    @property
    def sessions(self) -> TopicSpec:
        """The directory, keyed by session."""
        return TopicSpec(f"{self.prefix}.sessions", self.session_partitions, compacted=True)

    @property
    def catalog(self) -> TopicSpec:
        """Which tools and agents there are, keyed by `pool/tool` or `agent/name`."""
        return TopicSpec(f"{self.prefix}.catalog", 1, compacted=True)

    @property
    def deadletter(self) -> TopicSpec:
        """What could not be handled, keyed by the topic it came from."""
        return TopicSpec(f"{self.prefix}.deadletter", 1, kept_hours=720)

    @property
    def audit(self) -> TopicSpec:
        """Who asked what of which session, and whether it was allowed, keyed by session."""
        return TopicSpec(f"{self.prefix}.audit", 1, kept_hours=8784)

    def tools(self, pool: str) -> TopicSpec:
        """A pool's calls, keyed by call."""
        return TopicSpec(f"{self.prefix}.tools.{pool}", self.pool_partitions)

    def control(self, pool: str) -> TopicSpec:
        """What every worker of a pool must hear, keyed by call."""
        return TopicSpec(f"{self.prefix}.control.{pool}", 1, kept_hours=1)

    def session(self, session: str) -> str:
        """The name of a session's own topic."""
        return f"{self.prefix}.session.{session}"

    @property
    def lanes(self) -> str:
        """The name of the topic whose partitions sessions share."""
        return f"{self.prefix}.lanes"

    @property
    def lanes_index(self) -> str:
        """The name of the topic that says which sessions there are in the lanes, and where."""
        return f"{self.lanes}.index"

    def kind_of(self, name: str) -> str:
        """Tell which of these a topic is, by the name that it has here: `requests`, or `tools` for any pool's."""
        return name.removeprefix(f"{self.prefix}.").partition(".")[0]

    @property
    def fixed(self) -> tuple[TopicSpec, ...]:
        """The topics that every deployment has, whatever its pools."""
        topics = (self.requests, self.results, self.sessions, self.catalog, self.deadletter, self.audit)
        return topics + self.lane_topics

    @property
    def lane_topics(self) -> tuple[TopicSpec, ...]:
        """The topics of a deployment with lanes, which only the Kafka adapter reads and writes."""
        if not self.lane_count:
            return ()
        lanes = TopicSpec(self.lanes, self.lane_count, kept_hours=FOR_EVER_HOURS, grows=True)
        return lanes, TopicSpec(self.lanes_index, self.session_partitions, compacted=True)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as delivered: where it is kept, its key and its bytes."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions are now the member's; the numbers hold for every topic that it joined."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are no longer the member's; calling `receive` again says that it has let go of them."""

    partitions: frozenset[int]


Delivery = Assigned | Revoked | tuple[Message, ...]


class Member(Protocol):
    """One member of a consumer group."""

    async def receive(self) -> Delivery:
        """Wait for what comes next. Messages come in batches of bounded size. Raises `Unavailable`."""
        ...

    def acknowledge(self, *messages: Message) -> None:
        """Say that messages are done with. Takes effect soon, and at the latest when the member closes in order."""
        ...


class Queue(Protocol):
    """Topics of keyed messages."""

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make sure that topics exist. Existing ones are left as they are, but for those that grow.

        Raises `Unavailable`.
        """
        ...

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Keep a message; when this returns it is safe.

        Raises `Unavailable`, `TooLarge`, and `Misconfigured` where there is no such topic.
        """
        ...

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        """Take part in a group that consumes these topics, from the oldest message that the group has not finished."""
        ...

    def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept of a topic (or some partitions of it), then, with `follow`, what arrives.

        `since` may name, by partition, the offset to begin at; a partition that it does not name, or of which there is
        no such offset, is read from what is kept of its beginning.
        The first batch may be empty; with `follow` an empty batch is also yielded once, when what was there at the
        start has all been yielded, so that a reader knows that it is up to date.
        """
        ...

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell which partition of a topic the messages of a key are in."""
        ...


def spread(members: Sequence[str], partitions: int) -> dict[str, frozenset[int]]:
    """Spread partitions over members as evenly as can be, the same for the same members whoever asks."""
    ordered = sorted(members)
    return {member: frozenset(range(place, partitions, len(ordered))) for place, member in enumerate(ordered)}
