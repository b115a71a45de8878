"""The chain: which stored records are in a session's log.

    accept(head, record) ⇔ record.seq = head.seq + 1 and record.prev = head.hash

That rule is the same for every reader for ever, and everything else is void. It gives total order, removal of
duplicates, fencing of zombie writers and tamper evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from playhead.events import Hash
from playhead.ids import Cursor, Seq, SessionId

__all__ = ["Head", "Record", "accept", "advance", "genesis", "hash_of"]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a session's log ends for somebody who has read it so far.

    `position` is the adapter's own: up to where it has looked for the next record, in the store's own numbers. It is no
    part of what the head is.
    """

    seq: Seq
    hash: Hash
    position: int = field(compare=False)

    @property
    def cursor(self) -> Cursor:
        """The cursor of a reader who has seen everything up to here."""
        return Cursor(self.seq, self.hash[:4].hex() if self.seq else None)


@dataclass(frozen=True, slots=True)
class Record:
    """One record as stored: its place as it claims it, and the value bytes that everything is derived from."""

    seq: Seq
    prev: Hash
    hash: Hash
    value: bytes

    @property
    def cursor(self) -> Cursor:
        """The cursor of a reader who has seen this record: `<seq>-<first 8 hex digits of its hash>`."""
        return Cursor(self.seq, self.hash[:4].hex())


def hash_of(value: bytes) -> Hash:
    """Hash a record's value bytes: SHA-256."""
    return Hash(sha256(value).digest())


def genesis(session: SessionId) -> Head:
    """Give the head of a session in which nothing has happened yet."""
    return Head(Seq(0), Hash(sha256(session.encode()).digest()), 0)


def accept(head: Head, record: Record) -> bool:
    """Tell whether a record is the next event after `head`. False means that it is void."""
    return record.seq == head.seq + 1 and record.prev == head.hash


def advance(head: Head, stored: Iterable[Record]) -> tuple[Head, tuple[Record, ...]]:
    """Follow the chain over records as they are stored, one position each; give the new head and what was accepted."""
    seq, tip, position = head.seq, head.hash, head.position
    accepted: list[Record] = []
    for record in stored:
        position += 1
        if record.seq == seq + 1 and record.prev == tip:
            seq, tip = record.seq, record.hash
            accepted.append(record)
    return Head(seq, tip, position), tuple(accepted)
