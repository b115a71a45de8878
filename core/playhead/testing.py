"""For tests, ours and users': sealed records with fixed ids, and short ways to read a log.

With the memory adapters that is all a test of an agent or of a consumer needs: no broker, no clock, no chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from hashlib import sha256

from playhead.accept import Head, Record
from playhead.codec import Codec, Context
from playhead.events import Event, TextDelta
from playhead.ids import BEGINNING, Cursor, RunId, SessionId, session_id
from playhead.log import SessionLog

__all__ = ["chain", "named_session", "read_all", "read_until", "said"]


def named_session(name: str) -> SessionId:
    """Name a session by a word, the same session each time."""
    return session_id(sha256(name.encode()).digest()[:16])


def said(*texts: str) -> tuple[TextDelta, ...]:
    """Make a text delta of each text: the smallest event that says something."""
    return tuple(TextDelta(RunId("run_test"), 1, 1, text) for text in texts)


def chain(codec: Codec, session: SessionId, head: Head, *events: Event, epoch: int = 1) -> list[Record]:
    """Seal events on to a head, ready to be appended."""
    return codec.seal(head, events, Context(session, epoch, cause=None, at=0))


async def read_all(log: SessionLog, session: SessionId, after: Cursor = BEGINNING) -> list[Record]:
    """Read a session from a cursor to its end. Raises what `SessionLog.read` raises."""
    async with aclosing(log.read(session, after)) as pages:
        return [record async for page in pages for record in page.records]


async def read_until(log: SessionLog, session: SessionId, seq: int, after: Cursor = BEGINNING) -> Sequence[Record]:
    """Follow a session from a cursor until it has the event `seq`. Put a timeout around it."""
    records: list[Record] = []
    async with aclosing(log.read(session, after, follow=True)) as pages:
        async for page in pages:
            records.extend(page.records)
            if page.head.seq >= seq:
                break
    return records
