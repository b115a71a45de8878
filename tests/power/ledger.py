"""What users were told, and what must therefore be in the store after the power came back. Pure.

Each fact was begun when so much had been done to the disk, and told (acknowledged) at another such moment, or never.
Cut in between, it may have happened or not; from the moment it was told on it must have. What somebody has read must
stay as well: two readers would disagree otherwise. The invariants are named as in the project's list: L1 durability,
L3 agreement, L9 whole batches, Q1 and Q3 for messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from playhead.accept import Record
from playhead.ids import SessionId
from playhead.queue import Message

__all__ = [
    "Acknowledged",
    "Appended",
    "Created",
    "Deleted",
    "Entry",
    "Fact",
    "Found",
    "Ledger",
    "Left",
    "Published",
    "Read",
    "Replayed",
    "judge",
]

T = TypeVar("T")

Log = tuple[Record, ...] | None
"""What a session holds; None: there is no such session."""


@dataclass(frozen=True, slots=True)
class Created:
    session: SessionId


@dataclass(frozen=True, slots=True)
class Appended:
    session: SessionId
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    session: SessionId


@dataclass(frozen=True, slots=True)
class Read:
    """Somebody read a session from its start to its end."""

    session: SessionId
    log: Log


@dataclass(frozen=True, slots=True)
class Published:
    topic: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Replayed:
    """Somebody was given these messages."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The group's member said that it is done with messages. It is never told that this was kept."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """The group's member, having acknowledged these, closed in order."""

    messages: tuple[Message, ...]


Fact = Created | Appended | Deleted | Read | Published | Replayed | Acknowledged | Left


@dataclass(slots=True)
class Entry:
    fact: Fact
    begun: int
    told: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds that was opened on what the cut left."""

    sessions: Mapping[SessionId, Log]
    messages: Sequence[Message]
    delivered: Sequence[Message] = ()
    """What a new member of the group was given."""


@dataclass(slots=True)
class Ledger:
    """The facts in the order in which they were begun. A session's facts never overlap, nor do a table's key's."""

    entries: list[Entry] = field(default_factory=list[Entry])

    def at(self, moment: int) -> Ledger:
        """Give what users knew at a moment."""
        return Ledger(
            [
                replace(entry, told=None if entry.told is None or entry.told > moment else entry.told)
                for entry in self.entries
                if entry.begun <= moment
            ]
        )

    def since(self, found: Found) -> Ledger:
        """Begin a new ledger with what was found after a cut: that much is certain from now on."""
        entries = [Entry(Read(session, log), 0, 0) for session, log in found.sessions.items()]
        entries.append(Entry(Replayed(tuple(found.messages)), 0, 0))
        for entry in self.entries:
            match entry.fact:
                case Acknowledged() | Left():
                    entries.append(Entry(entry.fact, 0, None if entry.told is None else 0))
                case _:
                    pass
        return Ledger(entries)

    @property
    def sessions(self) -> list[SessionId]:
        """All sessions that there may be."""
        facts = (entry.fact for entry in self.entries)
        return list(dict.fromkeys(f.session for f in facts if isinstance(f, Created | Appended | Deleted | Read)))

    def of(self, session: SessionId) -> list[Entry]:
        """Give the facts of one session."""
        mine = (Created, Appended, Deleted, Read)
        return [entry for entry in self.entries if isinstance(entry.fact, mine) and entry.fact.session == session]

    @property
    def acknowledged(self) -> set[Message]:
        """What the group may be done with."""
        facts = (entry.fact for entry in self.entries)
        return {message for fact in facts if isinstance(fact, Acknowledged) for message in fact.messages}

    @property
    def finished(self) -> set[Message]:
        """What the group is done with for certain: a member has closed in order since."""
        facts = (entry.fact for entry in self.entries if entry.told is not None)
        return {message for fact in facts if isinstance(fact, Left) for message in fact.messages}


def judge(ledger: Ledger, found: Found, tables: Iterable[str]) -> list[str]:
    """Hold what was found against what was told; `tables` are the compacted topics. Gives what is wrong."""
    wrong: list[str] = []
    for session in ledger.sessions:
        wrong += _judge_session(session, _logs(ledger.of(session)), found.sessions.get(session))
    compacted = frozenset(tables)
    wrong += _judge_messages(ledger, [m for m in found.messages if m.topic not in compacted], compacted)
    wrong += _judge_tables(ledger, [m for m in found.messages if m.topic in compacted], compacted)
    given = {(m.topic, m.partition, m.offset): m for m in found.delivered}
    acknowledged, finished = ledger.acknowledged, ledger.finished
    for message in found.messages:
        place = message.topic, message.partition, message.offset
        if message.topic not in compacted and message not in acknowledged and given.get(place) != message:
            wrong.append(f"Q1: {_name(message)} was not acknowledged and does not come again")
    wrong += [f"Q3: {_name(m)} comes again after its member has closed" for m in found.delivered if m in finished]
    return wrong


def _logs(entries: Iterable[Entry]) -> list[Log]:
    """List what a session may hold."""
    allowed: list[Log] = [None]
    for entry in entries:
        now: Log = allowed[-1]
        match entry.fact:
            case Created():
                after: Log = now or ()
            case Appended(_, records):
                after = (*(now or ())[: records[0].seq - 1], *records)
            case Read(_, log):
                after = log
            case _:
                after = None
        allowed = _next(allowed, after, entry)
    return allowed


def _next(allowed: list[T], after: T, entry: Entry) -> list[T]:
    return [after] if entry.told is not None else [*allowed, after]


def _judge_session(session: SessionId, allowed: Sequence[Log], found: Log) -> list[str]:
    if found in allowed:
        return []
    least, most = allowed[0], allowed[-1]
    if found is None:
        return [f"L1: {session} is gone"]
    if most is None:
        return [f"L1: {session} is there, but was deleted"]
    if found != most[: len(found)]:
        return [f"L3: {session} holds other records than were appended or read"]
    if least is not None and len(found) < len(least):
        return [f"L1: {session} has {len(found)} records, and {len(least)} were acknowledged or read"]
    return [f"L9: {session} has {len(found)} records, which is a part of an append"]


def _judge_messages(ledger: Ledger, found: Sequence[Message], tables: frozenset[str]) -> list[str]:
    wrong: list[str] = []
    values = [message.value for message in found]
    begun: set[bytes] = set()
    for entry in ledger.entries:
        match entry.fact:
            case Published(topic, _, value) if topic not in tables:
                begun.add(value)
                if entry.told is not None and value not in values:
                    wrong.append(f"L1: the message {value[:20]!r} was published and is gone")
            case Replayed(messages):
                begun.update(message.value for message in messages)
                gone = [m for m in messages if m.topic not in tables and m not in found]
                wrong += [f"L3: {_name(message)} was read and is not there any more" for message in gone]
            case _:
                pass
    if strange := set(values) - begun:
        wrong.append(f"L3: messages that nobody published: {sorted(strange)}")
    if len(set(values)) != len(values):
        wrong.append("L3: a message that was published once is there twice")
    return wrong


def _judge_tables(ledger: Ledger, found: Sequence[Message], tables: frozenset[str]) -> list[str]:
    allowed: dict[tuple[str, str], list[bytes | None]] = {}
    for entry in ledger.entries:
        match entry.fact:
            case Published(topic, key, value) if topic in tables:
                allowed[topic, key] = _next(allowed.get((topic, key), [None]), value, entry)
            case Replayed(messages):
                for message in messages:
                    if message.topic in tables:
                        allowed[message.topic, message.key] = [message.value]
            case _:
                pass
    there = {(message.topic, message.key): message.value for message in found}
    wrong = [
        f"L1: {key} of the table {topic} is {there.get((topic, key))!r}, not one of {values}"
        for (topic, key), values in allowed.items()
        if there.get((topic, key)) not in values
    ]
    if len(there) != len(found):
        wrong.append("L3: a key of a table is there twice")
    return wrong


def _name(message: Message) -> str:
    return f"message {message.offset} of {message.topic}/{message.partition}"
