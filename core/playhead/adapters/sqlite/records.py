"""Sessions and their records in the tables: what reads them (off the loop) and what changes them (in a transaction)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from playhead.accept import Head, Record, advance, genesis
from playhead.adapters.chain import appended, head_at
from playhead.adapters.sqlite.database import Connection
from playhead.codec import record_of
from playhead.errors import CursorConflict, Undecodable, UnknownSession
from playhead.ids import Cursor, SessionId
from playhead.log import Page

__all__ = ["Append", "Create", "Delete", "Erase", "Found", "Heads", "find", "half_deleted", "head_of", "next_page"]

PAGE_RECORDS_MAX = 512
"""The most records in one page."""

PAGE_BYTES_MAX = 1 << 20
"""The bytes after which a page takes no further record."""

HEADS_MAX = 20_000
"""How many sessions' heads the writer remembers; those of others it looks up."""

ERASE_RECORDS_MAX = 512
"""How many records of a deleted session are removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page as it was found, the session's number in the tables, and whether the log ended there."""

    number: int
    page: Page
    at_end: bool


def find(connection: Connection, session: SessionId, after: Cursor) -> Found:
    """Read the first page after a cursor. Raises `UnknownSession`, `CursorConflict`."""
    number = _number(connection, session)
    if after.seq == 0:
        return _page(connection, number, genesis(session))
    row = connection.execute("SELECT value FROM records WHERE session = ? AND seq = ?", (number, after.seq)).fetchone()
    record = None if row is None else record_of(row[0])
    if record is None or after.tag not in (None, record.cursor.tag):
        raise CursorConflict(str(after), head_of(connection, session).seq)
    return _page(connection, number, head_at(session, record))


def next_page(connection: Connection, session: SessionId, number: int, head: Head) -> Found:
    """Read the page after a head. Raises `UnknownSession` if the session was deleted, even if it was made anew."""
    if _number(connection, session) != number:
        raise UnknownSession(session)
    return _page(connection, number, head)


def head_of(connection: Connection, session: SessionId) -> Head:
    """Read where a session ends. Raises `UnknownSession`."""
    return _head(connection, session, _number(connection, session))


def half_deleted(connection: Connection) -> list[int]:
    """List the sessions whose deletion was cut short."""
    return [int(number) for (number,) in connection.execute("SELECT number FROM sessions WHERE name IS NULL")]


def _page(connection: Connection, number: int, head: Head) -> Found:
    rows = connection.execute(
        "SELECT value FROM records WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
        (number, head.seq, PAGE_RECORDS_MAX),
    )
    records: list[Record] = []
    size = 0
    at_end = True
    for (value,) in rows:
        records.append(record_of(value))
        size += len(value)
        if size >= PAGE_BYTES_MAX or len(records) == PAGE_RECORDS_MAX:
            at_end = False
            break
    end, accepted = advance(head, records)
    if len(accepted) != len(records):
        # The writer refuses what does not chain, so somebody else has changed the file.
        raise Undecodable(f"the database is damaged: what it has after seq {end.seq} of a session does not follow it")
    return Found(number, Page(accepted, end), at_end)


def _number(connection: Connection, session: SessionId) -> int:
    row = connection.execute("SELECT number FROM sessions WHERE name = ?", (session,)).fetchone()
    if row is None:
        raise UnknownSession(session)
    return int(row[0])


def _head(connection: Connection, session: SessionId, number: int) -> Head:
    row = connection.execute(
        "SELECT value FROM records WHERE session = ? ORDER BY seq DESC LIMIT 1", (number,)
    ).fetchone()
    return head_at(session, None if row is None else record_of(row[0]))


class Heads:
    """What the writer remembers of sessions: true for as long as no other process writes. Used in transactions only."""

    def __init__(self) -> None:
        self._known: dict[SessionId, tuple[int, Head]] = {}

    def look_up(self, connection: Connection, session: SessionId) -> tuple[int, Head]:
        """Give a session's number and head. Raises `UnknownSession`."""
        known = self._known.get(session)
        if known is None:
            number = _number(connection, session)
            known = self._known[session] = number, _head(connection, session, number)
            if len(self._known) > HEADS_MAX:
                del self._known[next(iter(self._known))]
        return known

    def move(self, session: SessionId, number: int, head: Head) -> None:
        """Remember a session's new head."""
        self._known[session] = number, head

    def drop(self, session: SessionId) -> None:
        """Forget one session."""
        self._known.pop(session, None)

    def forget(self) -> None:
        """Forget them all: another process has written, or what was written was rolled back."""
        self._known.clear()


@dataclass(slots=True, eq=False)
class Create:
    """Make empty sessions, where they are not there."""

    sessions: Sequence[SessionId]

    @property
    def size(self) -> int:
        """Count about what a row takes."""
        return 64 * len(self.sessions)

    def apply(self, connection: Connection) -> None:
        """Write the sessions' names."""
        rows = [(session,) for session in self.sessions]
        connection.executemany("INSERT INTO sessions (name) VALUES (?) ON CONFLICT DO NOTHING", rows)

    def landed(self) -> None:
        """Tell nobody: nobody can have been waiting for it."""


@dataclass(slots=True, eq=False)
class Append:
    """Store records on a head, as one unit."""

    heads: Heads
    session: SessionId
    head: Head
    records: Sequence[Record]
    tell: Callable[[SessionId, Sequence[Record]], None]
    made: bool = False

    @property
    def size(self) -> int:
        """Count the bytes of the values."""
        return sum(len(record.value) for record in self.records)

    def apply(self, connection: Connection) -> None:
        """Compare and write. Raises `Superseded`, `UnknownSession`."""
        number, now = self.heads.look_up(connection, self.session)
        there: list[Record] = []
        if now != self.head:
            rows = connection.execute(
                "SELECT value FROM records WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
                (number, self.head.seq, len(self.records)),
            )
            there = [record_of(value) for (value,) in rows]
        if appended(self.session, self.head, self.records, now=now, there=there):
            return
        connection.executemany(
            "INSERT INTO records (session, seq, value) VALUES (?, ?, ?)",
            [(number, record.seq, record.value) for record in self.records],
        )
        self.heads.move(self.session, number, head_at(self.session, self.records[-1]))
        self.made = True

    def landed(self) -> None:
        """Hand the records to those who follow the session."""
        if self.made:
            self.tell(self.session, self.records)


@dataclass(slots=True, eq=False)
class Delete:
    """Make a session unknown. Gives its number, for its records to be erased; None if there is none."""

    heads: Heads
    session: SessionId
    tell: Callable[[SessionId], None]
    size: int = 64

    def apply(self, connection: Connection) -> int | None:
        """Take the session's name away."""
        row = connection.execute("SELECT number FROM sessions WHERE name = ?", (self.session,)).fetchone()
        if row is None:
            return None
        connection.execute("UPDATE sessions SET name = NULL WHERE number = ?", row)
        self.heads.drop(self.session)
        return int(row[0])

    def landed(self) -> None:
        """End those who follow the session."""
        self.tell(self.session)


@dataclass(slots=True, eq=False)
class Erase:
    """Remove some records of a deleted session. Gives whether any are left."""

    number: int
    size: int = ERASE_RECORDS_MAX * 256

    def apply(self, connection: Connection) -> bool:
        """Delete records, and at last the session itself."""
        erased = connection.execute(
            "DELETE FROM records WHERE arrival IN (SELECT arrival FROM records WHERE session = ? LIMIT ?)",
            (self.number, ERASE_RECORDS_MAX),
        )
        if erased.rowcount == ERASE_RECORDS_MAX:
            return True
        connection.execute("DELETE FROM sessions WHERE number = ?", (self.number,))
        return False

    def landed(self) -> None:
        """Tell nobody: they have heard of the deletion."""
