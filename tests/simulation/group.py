"""Consumer groups as Kafka has them, in a simulated deployment.

A group rebalances eagerly: whenever a member comes, goes, or is thought to be dead, everything is taken from everybody
and given out anew. Whoever does not let go in time is no longer a member, though it may work on for a while with what
it was handed, and finds out when it next speaks. What was acknowledged is committed a moment later, and is lost if the
member is killed before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from playhead.adapters.progress import Progress, decode_finished
from playhead.errors import Unavailable
from playhead.queue import Assigned, Delivery, Message, Revoked, spread

from tests.simulation.loop import Process
from tests.simulation.store import Network, Topic

__all__ = ["Group", "SimMember"]

COMMIT_SECONDS = 0.5
SWEEP_SECONDS = 1.0
SESSION_SECONDS = 4.0
"""How long a silent member is waited for."""
REBALANCE_SECONDS = 3.0
"""How long a rebalance waits for members to let go."""
BATCH_MESSAGES_MAX = 16

Place = tuple[str, int]


@dataclass(slots=True)
class _Held:
    position: int
    progress: Progress


@dataclass(eq=False)
class Group:
    """A group: who is in it, who has what, and how far it is."""

    topics: dict[str, Topic]
    widths: dict[str, int]
    network: Network
    members: list[SimMember] = field(default_factory=list["SimMember"])
    committed: dict[Place, tuple[int, str]] = field(default_factory=dict[Place, tuple[int, str]])
    generation: int = 0
    is_settled: bool = True
    rebalances: int = 0
    outcasts: list[SimMember] = field(default_factory=list["SimMember"])
    _named: int = 0

    def __post_init__(self) -> None:
        self._again()

    def _again(self) -> None:
        self.network.loop.call_later(SWEEP_SECONDS, self._sweep, context=self.network.server.context)

    def _sweep(self) -> None:
        """Throw out who has been silent for too long, and let in again who was thrown out and lives."""
        now, changed = self.network.loop.time(), False
        for member in list(self.members):
            process = member.process
            if not process.alive or process.paused_until > now:
                member.silent += SWEEP_SECONDS
                if member.silent >= SESSION_SECONDS:
                    self._throw_out(member)
                    changed = True
            else:
                member.silent = 0.0
        for member in [one for one in self.outcasts if one.process.paused_until <= now]:
            self.outcasts.remove(member)
            member.changed.set()  # its next heartbeat is refused
        if changed:
            self.rebalance()
        self._again()

    def _throw_out(self, member: SimMember) -> None:
        self.members.remove(member)
        self.outcasts.append(member)
        member.is_out = True

    def enter(self, member: SimMember) -> None:
        """Let a member in."""
        self._named += 1
        member.name = f"member-{self._named:06}"
        member.silent, member.is_out = 0.0, False
        self.members.append(member)
        self.rebalance()

    def leave(self, member: SimMember) -> None:
        """Let a member go."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def shuffle(self) -> None:
        """Rebalance so that others are given what: as when members are known by new names."""
        names = [member.name for member in self.members]
        self.network.chance.shuffle(names)
        for member, name in zip(self.members, names, strict=True):
            member.name = name
        self.rebalance()

    def rebalance(self) -> None:
        """Take everything from everybody; give it out again once all have let go, or have had the time to."""
        self.generation += 1
        self.rebalances += 1
        self.is_settled = False
        generation = self.generation
        for member in self.members:
            member.lose_all()
        self.network.loop.call_later(REBALANCE_SECONDS, self._too_late, generation, context=self.network.server.context)
        self.look()

    def look(self) -> None:
        """Give out what all have let go of."""
        if not self.is_settled and all(member.has_let_go for member in self.members):
            self._give()

    def _too_late(self, generation: int) -> None:
        if generation == self.generation and not self.is_settled:
            for member in [one for one in self.members if not one.has_let_go]:
                self._throw_out(member)
            self._give()

    def _give(self) -> None:
        self.is_settled = True
        if self.members:
            shares = spread([member.name for member in self.members], max(self.widths.values()))
            for member in self.members:
                member.gain(shares[member.name], self.generation)

    def news(self, topic: str, partition: int) -> None:
        """Tell who has a place that there is a message."""
        if topic in self.widths:
            for member in self.members:
                if (topic, partition) in member.held:
                    self.network.loop.call_later(
                        self.network.hop(), member.changed.set, context=self.network.server.context
                    )

    def begins_at(self, place: Place) -> tuple[int, str]:
        """Tell how far the group is."""
        return self.committed.get(place, (0, ""))

    def places(self, partitions: frozenset[int]) -> list[Place]:
        """List the places of partitions."""
        return [(topic, p) for p in sorted(partitions) for topic, width in self.widths.items() if p < width]


class SimMember:
    """A member. See `playhead.queue.Member`."""

    def __init__(self, process: Process, group: Group, network: Network) -> None:
        self.process = process
        self.name = ""
        self.held: dict[Place, _Held] = {}
        self.changed = asyncio.Event()
        self.silent = 0.0
        self.is_out = False
        self.has_let_go = True
        self._group = group
        self._network = network
        self._news: deque[Assigned | Revoked] = deque()
        self._told: Revoked | None = None
        self._partitions: frozenset[int] = frozenset()
        self._given: frozenset[int] = frozenset()
        self._generation = 0
        self._commit_due = False

    async def receive(self) -> Delivery:
        """Wait for what comes next."""
        if self._told is not None:
            self._told = None
            self._let_go()
        while True:
            if self._network.disconnects():
                raise Unavailable("the group cannot be reached")
            if self.is_out and not self._news:
                self._come_back()
            if self._news:
                news = self._news.popleft()
                if isinstance(news, Revoked):
                    self._told = news
                else:
                    self._begin(news.partitions)
                return news
            if batch := self._batch():
                return batch
            self.changed.clear()
            waiting = SESSION_SECONDS if self._network.odds.lost else None
            try:
                async with asyncio.timeout(waiting):
                    await self.changed.wait()
            except TimeoutError:
                pass

    def acknowledge(self, *messages: Message) -> None:
        """Say that messages are done with."""
        for message in messages:
            held = self.held.get((message.topic, message.partition))
            if held is not None:
                held.progress.finish(message.offset)
        if not self._commit_due:
            self._commit_due = True
            self._network.loop.call_later(COMMIT_SECONDS, self._commit)

    def close(self) -> None:
        """Leave in order."""
        self._commit()
        self._group.leave(self)

    def lose_all(self) -> None:
        """Hear that everything is taken away."""
        if self._given:
            lost, self._given = self._given, frozenset()
            self._news.append(Revoked(lost))
            self.has_let_go = False
        elif self._news or self._told is not None:
            self.has_let_go = False
        else:
            self.has_let_go = True
        self.changed.set()

    def gain(self, partitions: frozenset[int], generation: int) -> None:
        """Hear what is given."""
        self._generation = generation
        self._partitions = partitions
        if partitions:
            self._given = partitions
            self._news.append(Assigned(partitions))
        self.changed.set()

    def _begin(self, partitions: frozenset[int]) -> None:
        for place in self._group.places(partitions):
            offset, finished = self._group.begins_at(place)
            self.held[place] = _Held(offset, Progress(decode_finished(offset, finished)))

    def _let_go(self) -> None:
        self._commit()
        self.held.clear()
        if not any(isinstance(news, Revoked) for news in self._news):
            self.has_let_go = True
            if not self.is_out:
                self._group.look()

    def _come_back(self) -> None:
        """Find out that the group went on without us."""
        if self._given:
            lost, self._given = self._given, frozenset()
            self._news.append(Revoked(lost))
            return
        self.held.clear()
        self.has_let_go = True
        self._group.enter(self)

    def _commit(self) -> None:
        self._commit_due = False
        if self.is_out or (self._generation != self._group.generation and self._group.is_settled):
            return  # whoever has the partitions now decides
        for place, held in self.held.items():
            if held.progress.changed and (commit := held.progress.commit()) is not None:
                held.progress.changed = False
                self._group.committed[place] = commit

    def _batch(self) -> tuple[Message, ...]:
        batch: list[Message] = []
        for place, held in self.held.items():
            for message in self._group.topics[place[0]].take(place[1], held.position, BATCH_MESSAGES_MAX):
                held.position = message.offset + 1
                if held.progress.deliver(message.offset):
                    batch.append(message)
            if len(batch) >= BATCH_MESSAGES_MAX:
                break
        return tuple(batch)
