"""A session's log as its owner reads it: all of it once, and after that only whether others have gone on with it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from playhead.accept import Head, genesis
from playhead.codec import Codec
from playhead.errors import Superseded, Undecodable
from playhead.events import TextDelta, Thinking, ToolInputDelta
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.session import Session, empty, fold
from playhead.telemetry import logger

__all__ = ["confirm", "is_ahead", "load"]

DELTAS = frozenset({TextDelta, Thinking, ToolInputDelta})
"""Events that the state does not depend on (see `playhead.session.fold`): most of a log, so loading skips them."""

log = logger(__name__)


async def load(store: SessionLog, codec: Codec, session: SessionId) -> tuple[Session, Head]:
    """Fold a log, and tell where it ends. Raises `UnknownSession`, `Unavailable`."""
    state, head = empty(session), genesis(session)
    async with aclosing(store.read(session)) as pages:
        async for page in pages:
            for record in page.records:
                try:
                    if codec.kind(record.value) not in DELTAS:
                        state = fold(state, codec.event(record.value))
                except Undecodable as error:
                    # In the chain, so part of the log, but a newer version's: what we do not know changes nothing.
                    log.warning("skipped an event", session=session, seq=record.seq, error=str(error))
            head = page.head
            await asyncio.sleep(0)  # a long log holds up nobody else
    return state, head


def is_ahead(end: Head, head: Head) -> bool:
    """Tell whether a log that ends at `end` holds something that whoever knows it up to `head` does not know of."""
    return end.seq > head.seq or (end.seq == head.seq and end.hash != head.hash)


async def confirm(store: SessionLog, session: SessionId, head: Head) -> None:
    """Make sure that nobody has gone on with a session since `head`. Raises `Superseded`, `Unavailable`."""
    end = await store.end(session)
    if is_ahead(end, head):
        raise Superseded(session, end.seq)
