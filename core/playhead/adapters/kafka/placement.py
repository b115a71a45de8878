"""What differs between ways of placing sessions: a topic for each, or lanes that they share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from playhead.accept import Head, Record
from playhead.adapters.kafka.connection import NoTopic
from playhead.adapters.kafka.sink import Sink
from playhead.adapters.kafka.spot import Spot
from playhead.errors import PlayheadError
from playhead.ids import SessionId

__all__ = ["Placement"]


class Placement(Protocol):
    """Where sessions are, and what can be known of a place without reading it."""

    async def create(self, session: SessionId | None) -> SessionId:
        """Make an empty session. Raises `Unavailable`, `Misconfigured`."""
        ...

    async def delete(self, session: SessionId) -> None:
        """Remove a session. Raises `Unavailable`, `Misconfigured`."""
        ...

    async def find(self, session: SessionId, *, fresh: bool = False) -> Spot:
        """Give a session's spot; a `fresh` one is as the cluster knows it now. Raises `UnknownSession`, `NoTopic`."""
        ...

    def watch(self, session: SessionId, sink: Sink) -> AbstractContextManager[None]:
        """Fail a sink when its session is deleted, for as long as the block lasts."""
        ...

    async def near(self, spot: Spot, seq: int) -> Head | None:
        """Give a head at a seq or before it that is known to be one, if one is. Raises `NoTopic`, `Lost`."""
        ...

    async def undisturbed(self, spot: Spot, head: Head, offset: int, count: int) -> bool:
        """Tell whether nothing of a session is stored between a head and its batch at an offset.

        False may also mean that nobody knows. Told of every batch when its acknowledgement comes, in order.
        """
        ...

    def accepted(self, spot: Spot, head: Head, records: Sequence[Record]) -> None:
        """Take notice that records up to a head, stored together, were accepted."""
        ...

    def missing(self, session: SessionId, error: NoTopic) -> PlayheadError:
        """Say what it means that there is no such topic."""
        ...
