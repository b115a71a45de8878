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
        # By partition and session, the version of the line that says so.
        self._open: dict[int, dict[SessionId, tuple[int, int]]] = {}

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
            line = self._codec.command(message.value)
        except Undecodable as error:
            log.warning("skipped a line of the directory", key=message.key, error=str(error))
            return
        # An older line may arrive after a newer one. That too much is open is no harm: who looks finds nothing to do.
        if isinstance(line, ListSession) and line.version >= there.get(line.session, line.version):
            there.pop(line.session, None)
            if line.open:
                there[line.session] = line.version
