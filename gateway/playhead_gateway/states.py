"""Folded sessions, on demand: for what is asked about sessions that nobody has open.

A state is a pure function of the log, so it is kept as long as there is room, with the head that it was folded to, and
moved on from there. A log that no longer leads to that head is folded from its start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from playhead.accept import Head, Record, genesis
from playhead.codec import Codec
from playhead.errors import CursorConflict, Undecodable
from playhead.events import SessionClosed, TextDelta, Thinking, ToolInputDelta
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.session import Session, empty, fold

from playhead_gateway.limits import Limits

__all__ = ["Folded", "States", "advance", "closes"]

DELTAS: frozenset[type[object]] = frozenset({TextDelta, Thinking, ToolInputDelta})
"""The state does not depend on these, and they are nearly all of a log: they are not even decoded for it."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A session's state, the head that it was folded to, and about what it weighs in memory."""

    state: Session
    head: Head
    weight: int


def closes(codec: Codec, record: Record) -> bool:
    """Tell whether a record ends its session."""
    try:
        return codec.kind(record.value) is SessionClosed
    except Undecodable:
        return False


def advance(codec: Codec, state: Session, records: Sequence[Record]) -> tuple[Session, int]:
    """Fold records, and tell the bytes of those that mattered. What cannot be decoded changes nothing."""
    weight = 0
    for record in records:
        try:
            if codec.kind(record.value) in DELTAS:
                continue
            state = fold(state, codec.event(record.value))
        except Undecodable:
            continue  # a newer version's event, or poison: neither may hide the rest of the session
        weight += len(record.value)
    return state, weight


class States:
    """Folds sessions to their ends, and remembers as many as there is room for."""

    def __init__(self, log: SessionLog, codec: Codec, limits: Limits) -> None:
        self._log = log
        self._codec = codec
        self._limits = limits
        self._kept: OrderedDict[SessionId, Folded] = OrderedDict()
        self._weight = 0

    async def at_end(self, session: SessionId) -> Folded:
        """Fold a session to its end. Raises `UnknownSession`, `CursorExpired`, `Unavailable`."""
        start = self._kept.get(session) or Folded(empty(session), genesis(session), 0)
        try:
            folded = await self._fold(session, start)
        except CursorConflict:
            self._forget(session)
            folded = await self._fold(session, Folded(empty(session), genesis(session), 0))
        self._keep(session, folded)
        return folded

    async def _fold(self, session: SessionId, start: Folded) -> Folded:
        state, head, weight = start.state, start.head, start.weight
        async with aclosing(self._log.read(session, head.cursor)) as pages:
            async for page in pages:
                state, more = advance(self._codec, state, page.records)
                head, weight = page.head, weight + more
        return Folded(state, head, weight)

    def _keep(self, session: SessionId, folded: Folded) -> None:
        self._forget(session)
        self._kept[session] = folded
        self._weight += folded.weight
        while len(self._kept) > self._limits.states_max or self._weight > self._limits.states_bytes_max:
            oldest = next(iter(self._kept))
            self._forget(oldest)

    def _forget(self, session: SessionId) -> None:
        gone = self._kept.pop(session, None)
        if gone is not None:
            self._weight -= gone.weight
