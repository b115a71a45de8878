"""Which sessions have open work, by the directory: whoever is given their partitions goes on with them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing

from playhead.codec import Codec
from playhead.commands import ListSession
from playhead.errors import Undecodable
from playhead.ids import SessionId
from playhead.queue import Message, Queue
from playhead.telemetry import logger

__all__ = ["OpenWork"]

log = logger(__name__)

Said = tuple[int, int]
"""What orders the lines of a session: the epoch of who wrote it, and the last seq that it knew of."""


class OpenWork:
    """The directory as far as it was read. Only what is open is kept, and nothing is read twice.

    Sessions are listed for ever, so reading them all takes longer with every session that there ever was. That is done
    before anybody waits for it; what is left for the moment when partitions change hands is what was written since.
    """

    def __init__(self, queue: Queue, topic: str, codec: Codec) -> None:
        self._queue = queue
        self._topic = topic
        self._codec = codec
        self._read_to: dict[int, int] = {}
        self._open: dict[int, dict[SessionId, Said]] = {}

    async def read(self, partitions: frozenset[int] | None = None) -> None:
        """Read what is new in some partitions, or in all. Raises `Unavailable`, `Misconfigured`."""
        since = dict(self._read_to)
        async with aclosing(self._queue.replay(self._topic, since=since, partitions=partitions)) as batches:
            async for messages in batches:
                for message in messages:
                    self._note(message)

    def sessions(self, partitions: Iterable[int]) -> list[tuple[SessionId, int]]:
        """List the sessions of some partitions that have open work, each with its partition."""
        return [(session, partition) for partition in partitions for session in self._open.get(partition, ())]

    def _note(self, message: Message) -> None:
        self._read_to[message.partition] = message.offset + 1
        there = self._open.setdefault(message.partition, {})
        if not message.value:  # the session was deleted
            there.pop(SessionId(message.key), None)
            return
        try:
            # Not as a command, which is checked to be canonical: that takes nearly three times as long.
            kind, fields = self._codec.fields(message.value)
        except Undecodable as error:
            log.warning("skipped a line of the directory", key=message.key, error=str(error))
            return
        if kind is not ListSession:
            return
        session, said = SessionId(fields["session"]), (int(fields["epoch"]), int(fields["last_seq"]))
        # An owner that woke late may have written its line after its successor's, and a line that its owner had given
        # up may arrive after the next one. That too much is open is no harm: who looks finds nothing to do.
        if said >= there.get(session, said):
            there.pop(session, None)
            if fields["open"]:
                there[session] = said
