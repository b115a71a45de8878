"""Topics, messages and commits in the tables: what reads them (off the loop) and what changes them (in a transaction).

Offsets are dense in each partition. The newest message of a partition is never pruned, so the next offset can always
be told from what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from playhead.adapters.shelf import Commit
from playhead.adapters.sqlite.database import Connection
from playhead.queue import Message, TopicSpec

__all__ = [
    "Offsets",
    "Prepare",
    "Prune",
    "Publish",
    "SaveCommits",
    "Topic",
    "commits_of",
    "ends_of",
    "messages_from",
    "topic_named",
]

REPLACED = "DELETE FROM messages INDEXED BY messages_by_key WHERE compacted AND topic = ? AND key = ?"
"""Removes what a compacted topic has of a key. By that index: SQLite would rather search the whole topic for it, which
takes longer with every session that there ever was."""

PRUNE_MESSAGES_MAX = 500
"""How many outdated messages are removed in one transaction, at most."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is kept."""

    number: int
    spec: TopicSpec


def topic_named(connection: Connection, name: str) -> Topic | None:
    """Read a topic."""
    row = connection.execute(
        "SELECT number, partitions, compacted, kept_hours FROM topics WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else Topic(row[0], TopicSpec(name, row[1], bool(row[2]), row[3]))


def messages_from(connection: Connection, topic: Topic, partition: int, offset: int, count: int) -> list[Message]:
    """Read at most `count` messages of a partition, from an offset on."""
    rows = connection.execute(
        "SELECT place, key, value FROM messages WHERE topic = ? AND partition = ? AND place >= ?"
        " ORDER BY place LIMIT ?",
        (topic.number, partition, offset, count),
    )
    return [Message(topic.spec.name, partition, place, key, value) for place, key, value in rows]


def ends_of(connection: Connection, topic: Topic) -> dict[int, int]:
    """Read the next offset of each partition."""
    return {p: _end(connection, topic.number, p) for p in range(topic.spec.partitions)}


def commits_of(connection: Connection, group: str, topic: Topic) -> dict[int, Commit]:
    """Read how far a group is with a topic, by partition."""
    rows = connection.execute(
        "SELECT partition, place, coalesce(ranges, '') FROM commits"
        " LEFT JOIN finished USING (consumers, topic, partition, place) WHERE consumers = ? AND topic = ?",
        (group, topic.number),
    )
    return {partition: (place, ranges) for partition, place, ranges in rows.fetchall()}


def _end(connection: Connection, topic: int, partition: int) -> int:
    row = connection.execute("SELECT max(place) FROM messages WHERE topic = ? AND partition = ?", (topic, partition))
    last = row.fetchone()[0]
    return 0 if last is None else int(last) + 1


class Offsets:
    """The next offset of each partition: true for as long as no other process writes. Used in transactions only."""

    def __init__(self) -> None:
        self._next: dict[tuple[int, int], int] = {}

    def take(self, connection: Connection, topic: int, partition: int) -> int:
        """Give out the next offset."""
        at = topic, partition
        offset = self._next.get(at)
        if offset is None:
            offset = _end(connection, topic, partition)
        self._next[at] = offset + 1
        return offset

    def forget(self) -> None:
        """Forget them all: another process has written, or what was written was rolled back."""
        self._next.clear()


@dataclass(slots=True, eq=False)
class Prepare:
    """Make topics that are not there."""

    specs: Sequence[TopicSpec]
    size: int = 1024

    def apply(self, connection: Connection) -> None:
        """Write the topics."""
        connection.executemany(
            "INSERT INTO topics (name, partitions, compacted, kept_hours) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(spec.name, spec.partitions, spec.compacted, spec.kept_hours) for spec in self.specs],
        )

    def landed(self) -> None:
        """Tell nobody: an empty topic is no news."""


@dataclass(slots=True, eq=False)
class Publish:
    """Keep a message; of a compacted topic, in place of the one before it with its key."""

    offsets: Offsets
    topic: Topic
    message: Message
    """The message, with an offset that the transaction replaces."""
    at: int
    tell: Callable[[Message], None]

    @property
    def size(self) -> int:
        """Count the bytes of the value."""
        return len(self.message.value)

    def apply(self, connection: Connection) -> None:
        """Write the message."""
        number, compacted, old = self.topic.number, self.topic.spec.compacted, self.message
        offset = self.offsets.take(connection, number, old.partition)
        if compacted:
            connection.execute(REPLACED, (number, old.key))
        connection.execute(
            "INSERT INTO messages (topic, partition, place, compacted, at, key, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, old.partition, offset, compacted, self.at, old.key, old.value),
        )
        self.message = Message(old.topic, old.partition, offset, old.key, old.value)

    def landed(self) -> None:
        """Hand the message to the consumers."""
        self.tell(self.message)


@dataclass(slots=True, eq=False)
class SaveCommits:
    """Keep how far groups are."""

    commits: Mapping[tuple[str, int, int], Commit]
    """By group, topic number and partition."""
    size: int = 256

    def apply(self, connection: Connection) -> None:
        """Write the offsets over the old ones."""
        connection.executemany(
            "INSERT INTO commits (consumers, topic, partition, place) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET place = excluded.place",
            [(*at, offset) for at, (offset, _) in self.commits.items()],
        )
        connection.executemany(
            "INSERT INTO finished (consumers, topic, partition, place, ranges) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET place = excluded.place, ranges = excluded.ranges",
            [(*at, offset, finished) for at, (offset, finished) in self.commits.items()],
        )

    def landed(self) -> None:
        """Tell nobody: the group itself knows."""


@dataclass(slots=True, eq=False)
class Prune:
    """Remove some of what a topic has kept for long enough. Gives how many messages went."""

    topic: Topic
    before: int
    size: int = PRUNE_MESSAGES_MAX * 256

    def apply(self, connection: Connection) -> int:
        """Delete from the front of each partition."""
        gone = 0
        for partition in range(self.topic.spec.partitions):
            oldest = connection.execute(
                "SELECT place, at FROM messages WHERE topic = ? AND partition = ? ORDER BY place LIMIT ?",
                (self.topic.number, partition, PRUNE_MESSAGES_MAX - gone + 1),
            ).fetchall()
            # Never the newest one: the next offset is told from it.
            outdated = [place for place, at in oldest[:-1] if at < self.before]
            gone += len(outdated)
            connection.executemany(
                "DELETE FROM messages WHERE topic = ? AND partition = ? AND place = ?",
                [(self.topic.number, partition, place) for place in outdated],
            )
        return gone

    def landed(self) -> None:
        """Tell nobody: what is old enough was read, or will not be."""
