"""The session log port: one owner appends to a session, many readers replay it.

The clauses are the contract. `tests/contract/test_session_log.py` proves each, by number, against every adapter.

  L1  An acknowledged append is in every later read, whatever process crashes.
  L2  All readers agree, at all times: seq is dense from 1, and one seq is one value, for ever.
  L3  A reader sees an append whole or not at all.
  L4  Of owners that append after the same head one is accepted. Every other raises `Superseded`, and no reader ever
      sees what it appended.
  L5  `read` yields every record after the cursor, in order, exactly once. With `follow` it then waits for more, without
      a seam. Closing it frees all that it holds.
  L6  A cursor ahead of the end, or whose tag is not its event's, raises `CursorConflict`: nothing is ever skipped.
  L7  From the moment that `create` returns, every client of the store can read the session. Before, and after `delete`,
      reading it raises `UnknownSession`.
  L8  An append whose outcome is unknown is settled by reading. If that cannot be done in time it raises `Unavailable`;
      appending the same records after the same head again is then always safe, and anything else is not.

A port promises only what every adapter can keep: SQLite refuses a stale owner when it writes, Kafka stores the stale
record and every reader skips it. L4 is worded so that both hold.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from playhead.accept import Head, Record
from playhead.codec import RECORD_BYTES_MAX
from playhead.ids import BEGINNING, Cursor, SessionId

__all__ = ["APPEND_RECORDS_MAX", "RECORD_BYTES_MAX", "Page", "SessionLog"]

APPEND_RECORDS_MAX = 512
"""The most records in one append."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some accepted records in order, perhaps none, and the reader's head after them."""

    records: tuple[Record, ...]
    head: Head


class SessionLog(Protocol):
    """Sessions, each an append-only sequence of records."""

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make an empty session and return its id. Naming one that exists already is not an error."""
        ...

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Store records that chain on to `head` as one unit and return the new head.

        At most `APPEND_RECORDS_MAX` records that together stay within `RECORD_BYTES_MAX` bytes, else `TooLarge`.
        Raises `Superseded` (L4), `Unavailable` (L8), `UnknownSession`.
        """
        ...

    def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield what comes after the cursor.

        Without `follow`: at least one page, the last one's head is the end of the log as it was when that page was
        read. With it: the first page comes at once, even if it is empty, and further ones as records arrive.
        Raises `UnknownSession`, `CursorConflict`, `CursorExpired`, `Unavailable`.
        """
        ...

    async def end(self, session: SessionId) -> Head:
        """Give the head of the session now. Raises `UnknownSession`, `Unavailable`."""
        ...

    async def delete(self, session: SessionId) -> None:
        """Remove a session for ever. Readers that follow it get `UnknownSession`. Removing none is not an error."""
        ...
