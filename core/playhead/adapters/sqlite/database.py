"""The file: its tables, its format number, and how a connection to it is opened.

Records lie in the order of their arrival and are found by an index on (session, seq). A table clustered by session
would make 200 streaming sessions dirty 200 pages in each transaction where this one dirties a few.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from sqlite3 import Connection

from playhead.errors import Misconfigured, Unavailable

__all__ = ["Connection", "connect", "data_version", "durability", "open_file"]

APPLICATION_ID = 0x506C6179
"""`Play`: marks a database as ours, so that another program's is never touched."""

FORMAT = 1
"""The number of the table layout below, kept as `user_version`."""

BUSY_MS = 50
"""How long a statement waits for another process's transaction before it is tried again later."""

OPENING_SECONDS_MAX = 5.0
"""How long opening waits for other processes that are opening the same file."""

TABLES = """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, so that no cache can take one session for another
    name TEXT UNIQUE                           -- NULL: deleted, and its records are being removed
);
CREATE TABLE records (
    arrival INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (session, seq)
);
CREATE TABLE topics (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    kept_hours INTEGER NOT NULL
);
CREATE TABLE messages (
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    place INTEGER NOT NULL,                    -- the offset
    compacted INTEGER NOT NULL,
    at INTEGER NOT NULL,                       -- seconds since the epoch
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (topic, partition, place)
) WITHOUT ROWID;
CREATE INDEX messages_by_key ON messages (topic, key) WHERE compacted;
CREATE TABLE commits (
    consumers TEXT NOT NULL,                   -- the group
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    place INTEGER NOT NULL,                    -- all before it is done with
    PRIMARY KEY (consumers, topic, partition)
) WITHOUT ROWID;
"""

TABLES_SINCE = (
    """
CREATE TABLE IF NOT EXISTS finished (
    consumers TEXT NOT NULL,                   -- the group
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    place INTEGER NOT NULL,                    -- the commit that this goes with
    ranges TEXT NOT NULL,                      -- what is done with after it
    PRIMARY KEY (consumers, topic, partition)
) WITHOUT ROWID
""",
)
"""Tables that older files of this format do not have. Who does not know them loses nothing by that."""


def open_file(path: Path) -> Connection:
    """Open the file for writing and make it ours if it is new. Raises `Misconfigured`, `Unavailable`."""
    try:
        connection = _connect(path)
    except sqlite3.OperationalError as error:
        raise Misconfigured(f"cannot open {path} ({error}): name a file in a folder that can be written") from error
    try:
        _claim(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path) -> Connection:
    """Open one more connection to a file that `open_file` has opened, for reading and checkpoints."""
    connection = _connect(path)
    # A checkpoint syncs the database as its own connection says, and SQLite may have been compiled to say less.
    connection.execute("PRAGMA synchronous = full")
    connection.execute("PRAGMA query_only = 1")
    return connection


def data_version(connection: Connection) -> int:
    """Give a number that changes when, and only when, another connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def durability(connection: Connection) -> tuple[str, int]:
    """Give a connection's `journal_mode` and `synchronous`."""
    (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return str(journal_mode), int(synchronous)


def _connect(path: Path) -> Connection:
    # Connections are handed from thread to thread, never used by two at once; transactions are begun by hand.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection


def _claim(connection: Connection, path: Path) -> None:
    deadline = time.monotonic() + OPENING_SECONDS_MAX
    while True:
        try:
            _set_up(connection, path)
            return
        except sqlite3.DatabaseError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not _busy(error):
                raise Misconfigured(
                    f"{path} is not a database of Playhead ({error}): name another file, or move this one away"
                ) from error
            if time.monotonic() > deadline:
                raise Unavailable(f"{path} is locked by another process") from error


def _set_up(connection: Connection, path: Path) -> None:
    connection.execute("PRAGMA secure_delete = 1")
    connection.execute("PRAGMA synchronous = full")
    connection.execute("BEGIN IMMEDIATE")
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and application == 0 and version == 0:
        for statement in TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif application != APPLICATION_ID:
        raise Misconfigured(f"{path} is another program's database: name another file")
    elif version > FORMAT:
        raise Misconfigured(
            f"{path} has format {version} and this version of Playhead knows {FORMAT}: upgrade Playhead"
        )
    else:
        # The last process may have been killed when it had written a commit and not synced it. SQLite shows that to
        # whoever opens the file next. This writes nothing new, but its commit syncs all that is there, before anybody
        # reads it or is told, having asked for the same again, that it is kept.
        connection.execute(f"PRAGMA user_version = {version}")
    for statement in TABLES_SINCE:
        connection.execute(statement)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = wal")
    # Checkpoints are the writer's: on its own terms, off the path of an append.
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def _busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
