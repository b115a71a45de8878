"""Consumer groups whose members live in one process, over any shelf. The memory and the SQLite queue share them.

Who should have which partition is `spread`; who has it is decided here, so that a partition never has two members: a
member that must give one up is told so, and the next one is given it only after the loser called `receive` again, or
after a grace. Two processes that join one group on one SQLite file do not know of each other and both get every
message: such a group belongs in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playhead.adapters.progress import Progress, decode_finished
from playhead.adapters.shelf import BATCH_MESSAGES_MAX, Commit, Listener, Place, Shelf
from playhead.errors import Misconfigured
from playhead.queue import Assigned, Delivery, Message, Revoked, spread

__all__ = ["HANDOVER_GRACE_SECONDS", "Groups"]

HANDOVER_GRACE_SECONDS = 10.0
"""How long a member that lost partitions may take to come back to `receive` before they are taken from it."""


class Groups:
    """The groups of one queue."""

    def __init__(self, shelf: Shelf, grace_seconds: float = HANDOVER_GRACE_SECONDS) -> None:
        self._shelf = shelf
        self._grace_seconds = grace_seconds
        self._groups: dict[str, _Group] = {}
        self._door = asyncio.Lock()
        self._joined = 0

    @asynccontextmanager
    async def join(self, name: str, topics: Sequence[str]) -> AsyncGenerator[_Member, None]:
        """Take part in a group for as long as the block lasts. Raises `Misconfigured`."""
        widths = {topic: await self._shelf.width(topic) for topic in topics}
        async with self._door:
            group = await self._group(name, widths)
            self._joined += 1
            member = _Member(f"member-{self._joined:09}", group)
        with self._shelf.listeners.attached(member.listener, widths):
            group.enter(member)
            try:
                yield member
            finally:
                group.leave(member)
                if not group.members:
                    self._groups.pop(name, None)
                await self._shelf.settle()

    async def _group(self, name: str, widths: Mapping[str, int]) -> _Group:
        group = self._groups.get(name)
        if group is None:
            committed = {
                (topic, partition): commit
                for topic in widths
                for partition, commit in (await self._shelf.committed(name, topic)).items()
            }
            group = self._groups[name] = _Group(name, self._shelf, dict(widths), committed, self._grace_seconds)
        if group.widths != widths:
            raise Misconfigured(
                f"group {name} consumes {', '.join(sorted(group.widths))}: a member that wants"
                f" {', '.join(sorted(widths))} needs a group of another name"
            )
        return group


@dataclass(slots=True)
class _Tenure:
    """A member's time with one place: where it is, and which of the messages are done."""

    position: int
    progress: Progress

    def hand(self, batch: Sequence[Message]) -> list[Message]:
        """Give those of a batch that are not done already."""
        self.position = batch[-1].offset + 1
        return [message for message in batch if self.progress.deliver(message.offset)]


@dataclass(slots=True)
class _Group:
    """Who there is, and how far the group is."""

    name: str
    shelf: Shelf
    widths: dict[str, int]
    committed: dict[Place, Commit]
    grace_seconds: float
    members: dict[str, _Member] = field(default_factory=dict[str, "_Member"])

    def enter(self, member: _Member) -> None:
        self.members[member.name] = member
        self.rebalance()

    def leave(self, member: _Member) -> None:
        member.release(frozenset(member.held))
        member.keep_patience()
        del self.members[member.name]
        self.rebalance()

    def rebalance(self) -> None:
        for name, partitions in self.fair().items():
            self.members[name].want(partitions)
        self.give()

    def fair(self) -> dict[str, frozenset[int]]:
        return spread(tuple(self.members), max(self.widths.values())) if self.members else {}

    def give(self) -> None:
        """Give every partition that nobody holds to the member that should have it."""
        held = {partition for member in self.members.values() for partition in member.held}
        for name, partitions in self.fair().items():
            if free := partitions - held:
                self.members[name].gain(free)

    def places(self, partition: int) -> list[Place]:
        return [(topic, partition) for topic, width in self.widths.items() if partition < width]

    def tenure(self, place: Place) -> _Tenure:
        """Begin where the last one ended."""
        offset, finished = self.committed.get(place, (0, ""))
        return _Tenure(offset, Progress(decode_finished(offset, finished)))

    def end(self, place: Place, tenure: _Tenure) -> None:
        self.committed[place] = tenure.progress.commit() or self.committed.get(place, (0, ""))


class _Member:
    """A member, as `playhead.queue.Member` says it."""

    def __init__(self, name: str, group: _Group) -> None:
        self.name = name
        self.held: set[int] = set()
        self.listener = Listener()
        self._group = group
        self._tenures: dict[Place, _Tenure] = {}
        self._unannounced: set[int] = set()
        self._losing: set[int] = set()
        self._letting_go: set[int] = set()
        self._patience: asyncio.TimerHandle | None = None

    async def receive(self) -> Delivery:
        if self._letting_go:
            self.release(frozenset(self._letting_go))
            self._group.give()
        while True:
            self.listener.news.clear()
            if self._losing:
                return self._announce_loss()
            if self._unannounced:
                return self._announce_gain()
            if batch := await self._gather():
                return batch
            # What is ready may have been done already, and more of it may follow.
            if not self.listener.ready and not self.listener.news.is_set():
                await self.listener.news.wait()

    def acknowledge(self, *messages: Message) -> None:
        for message in messages:
            place = (message.topic, message.partition)
            # A place that was taken away is the next member's to finish.
            if (tenure := self._tenures.get(place)) is not None:
                tenure.progress.finish(message.offset)
                self._group.shelf.commit(self._group.name, place, tenure.progress)

    def want(self, fair: frozenset[int]) -> None:
        """Compare what is held with what should be, and prepare to say what is lost."""
        losing = self.held - fair - self._letting_go
        never_told = losing & self._unannounced
        self.release(frozenset(never_told))
        taken = self._losing - self.held
        self._losing = (losing - never_told) | taken
        if self._losing & self.held:
            self.listener.news.set()
            if self._patience is None:
                loop = asyncio.get_running_loop()
                self._patience = loop.call_later(self._group.grace_seconds, self._take)

    def gain(self, partitions: frozenset[int]) -> None:
        self.held |= partitions
        self._unannounced |= partitions
        self.listener.news.set()

    def release(self, partitions: frozenset[int]) -> None:
        self.held -= partitions
        self._unannounced -= partitions
        self._letting_go -= partitions
        for partition in partitions:
            for place in self._group.places(partition):
                if (tenure := self._tenures.pop(place, None)) is not None:
                    self._group.end(place, tenure)
        if not (self._letting_go or self._losing & self.held):
            self.keep_patience()

    def keep_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _take(self) -> None:
        self._patience = None
        self.release(frozenset(self._letting_go | (self._losing & self.held)))
        self._group.give()

    def _announce_loss(self) -> Revoked:
        lost = frozenset(self._losing)
        self._losing.clear()
        self._letting_go = {p for p in lost if p in self.held and p not in self._unannounced}
        return Revoked(lost)

    def _announce_gain(self) -> Assigned:
        given = frozenset(self._unannounced)
        self._unannounced.clear()
        for partition in given:
            for place in self._group.places(partition):
                self._tenures[place] = self._group.tenure(place)
                self.listener.notice(place)
        return Assigned(given)

    async def _gather(self) -> tuple[Message, ...]:
        """Collect a batch from the places that have news. Nothing counts as handed over until it is returned."""
        room = BATCH_MESSAGES_MAX
        found: list[tuple[Place, _Tenure, Sequence[Message]]] = []
        ready, looked = self.listener.ready, list[Place]()
        try:
            # Each place once: what arrives while the shelf is read makes its place ready again, for the next batch.
            for place in tuple(ready):
                if not room:
                    break
                del ready[place]
                if (tenure := self._tenures.get(place)) is None:
                    continue
                looked.append(place)
                batch = await self._group.shelf.take(place, tenure.position, room)
                if batch:
                    found.append((place, tenure, batch))
                if len(batch) == room:
                    # there may be more: it is looked at again, after the others
                    ready[place] = None
                room -= len(batch)
        except BaseException:
            ready.update(dict.fromkeys(looked))
            raise
        handed: list[Message] = []
        for place, tenure, batch in found:
            # While a shelf was read the grace may have run out and the place be another member's.
            if self._tenures.get(place) is tenure:
                handed += tenure.hand(batch)
        return tuple(handed)
