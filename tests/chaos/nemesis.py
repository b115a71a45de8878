"""Seeded random faults over running processes, brokers and the network between, a few at a time, each bounded.

Every lane works through shuffled decks of its faults, one fault at a time, so that a short storm has many kinds and a
long one all of them. What is drawn follows from the seed; when it strikes does not: the machine has a say in it. At
most one broker is away at a time, and the next is not touched before all have caught up: more is not promised.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.chaos.keeping import GATEWAY, ORCHESTRATOR, WORKER, Keeper
from tests.history.lines import History
from tests.support.cluster import Cluster, ClusterBroker
from tests.support.java_kafka import NoBroker
from tests.support.tcp_proxy import TcpProxy, Way

__all__ = ["Nemesis", "Scene"]

FREEZE_SECONDS = (1.0, 12.0)
"""Of a process: from a hiccup to longer than its session timeout."""
BROKER_FREEZE_SECONDS = (1.0, 9.0)
BROKER_AWAY_SECONDS = (0.0, 6.0)
NETWORK_SECONDS = (1.0, 8.0)
SILENCE_SECONDS = (0.5, 9.0)
LOST_ACK_SECONDS = (0.2, 1.5)
DELAY_SECONDS, JITTER_SECONDS = (0.05, 0.6), (0.0, 0.4)
SLICE_BYTES = (1, 200)
SLOW_BYTES_PER_SECOND = (8_000, 60_000)
FLAPS, FLAP_SECONDS = 12, 0.25
FULL_SECONDS = 15.0
"""How long a broker may go on with a full disk before it is killed: it has met it, or it will not."""
BACK_SECONDS = 40.0
"""How long a process that was ended may take until it serves again."""
WHOLE_SECONDS = 90.0
LULLS_SECONDS = ((0.2, 2.0), (5.0, 12.0))
"""Between two faults of a lane: the next strikes into the recovery from the last, or after it."""


@dataclass
class Scene:
    """What can be struck. `going` gives the owner of each session that goes on; `sees` is told of each fault."""

    keepers: Sequence[Keeper]
    cluster: Cluster
    proxies: Sequence[TcpProxy]
    history: History
    going: Callable[[], dict[str, str]]
    has_disks: bool
    spare_topics: list[str]
    """Topics that an operator may delete by mistake."""


@dataclass
class Nemesis:
    """Strikes until `faults` have struck."""

    scene: Scene
    faults: int
    seed: int
    struck: Counter[str] = field(default_factory=Counter[str])
    _busy: set[str] = field(default_factory=set[str])

    async def rage(self) -> None:
        """Strike, lane by lane; return when all is healed and serves."""
        lanes = [self._processes(), self._processes(), self._brokers(), self._network(), [self._delete_topic]]
        async with asyncio.TaskGroup() as group:
            for number, deck in enumerate(lanes):
                group.create_task(self._lane(deck, random.Random(f"{self.seed}-{number}")))
        async with asyncio.timeout(WHOLE_SECONDS):
            for keeper in self.scene.keepers:
                await keeper.serving()
        await self.scene.cluster.whole()
        self.scene.history.note("nemesis", "healed")

    async def _lane(self, deck: Sequence[Fault], chance: random.Random) -> None:
        while True:
            for fault in chance.sample(deck, len(deck)):
                if self.struck.total() >= self.faults or (fault == self._delete_topic and not self.scene.spare_topics):
                    return
                await fault(chance)
                await asyncio.sleep(chance.uniform(*chance.choice(LULLS_SECONDS)))

    def _note(self, kind: str, target: str, **fields: object) -> None:
        self.struck[kind] += 1
        self.scene.history.note("nemesis", "fault", kind=kind, target=target, **fields)

    # --- our own processes -------------------------------------------------------------------------------------

    def _processes(self) -> list[Fault]:
        def on(strike: Callable[[Keeper, random.Random], Awaitable[None]], role: str) -> Fault:
            async def fault(chance: random.Random) -> None:
                async with self._one(role, chance) as keeper:
                    await strike(keeper, chance)

            return fault

        roles = (ORCHESTRATOR, WORKER, GATEWAY)
        return [on(strike, role) for strike in (self._kill, self._freeze, self._roll) for role in roles]

    @asynccontextmanager
    async def _one(self, role: str, chance: random.Random) -> AsyncGenerator[Keeper, None]:
        """Choose one of a role that nobody else strikes; another lane has at most one."""
        free = [one for one in self.scene.keepers if one.role == role and one.name not in self._busy]
        keeper = chance.choice(free)
        self._busy.add(keeper.name)
        try:
            yield keeper
        finally:
            self._busy.discard(keeper.name)

    async def _kill(self, keeper: Keeper, chance: random.Random) -> None:
        self._note("kill", keeper.name, **self._owned(keeper))
        keeper.kill()
        await self._back(keeper)

    async def _freeze(self, keeper: Keeper, chance: random.Random) -> None:
        seconds = chance.uniform(*FREEZE_SECONDS)
        self._note("stop", keeper.name, seconds=seconds, **self._owned(keeper))
        frozen = keeper.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            if frozen is not None:
                frozen.signal(signal.SIGCONT)
                self.scene.history.note(keeper.name, "ready")

    async def _roll(self, keeper: Keeper, chance: random.Random) -> None:
        self._note("roll", keeper.name, **self._owned(keeper))
        await keeper.stop()
        await self._back(keeper)

    async def _back(self, keeper: Keeper) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BACK_SECONDS):
                await keeper.serving()

    def _owned(self, keeper: Keeper) -> dict[str, list[str]]:
        """Name the sessions that only go on when somebody takes them over."""
        if keeper.role != ORCHESTRATOR or keeper.process is None:
            return {}
        mark = f"-{keeper.process.pid}-"
        return {"sessions": [session for session, owner in self.scene.going().items() if mark in owner]}

    async def _delete_topic(self, chance: random.Random) -> None:
        """Delete what nobody should: the log of a session that has ended, or one that was made ahead."""
        topic = self.scene.spare_topics.pop(0)
        self._note("topic_deleted", topic)
        await self.scene.cluster.delete(topic)

    # --- brokers -----------------------------------------------------------------------------------------------

    def _brokers(self) -> list[Fault]:
        def on(strike: Callable[[ClusterBroker, random.Random], Awaitable[None]]) -> Fault:
            async def fault(chance: random.Random) -> None:
                await strike(chance.choice(self.scene.cluster.brokers), chance)
                await self.scene.cluster.whole(WHOLE_SECONDS)

            return fault

        strikes = [self._kill_broker, self._freeze_broker, self._roll_broker]
        return [on(strike) for strike in (*strikes, *((self._fill_disk,) if self.scene.has_disks else ()))]

    async def _kill_broker(self, broker: ClusterBroker, chance: random.Random) -> None:
        away = chance.uniform(*BROKER_AWAY_SECONDS)
        self._note("broker_kill", f"broker-{broker.number}", seconds=away)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(away)
        await self._start(broker)

    async def _freeze_broker(self, broker: ClusterBroker, chance: random.Random) -> None:
        seconds = chance.uniform(*BROKER_FREEZE_SECONDS)
        self._note("broker_stop", f"broker-{broker.number}", seconds=seconds)
        broker.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            broker.thaw()
            self.scene.history.note(f"broker-{broker.number}", "ready")

    async def _roll_broker(self, broker: ClusterBroker, chance: random.Random) -> None:
        self._note("broker_roll", f"broker-{broker.number}")
        await asyncio.to_thread(broker.stop)
        await self._start(broker)

    async def _fill_disk(self, broker: ClusterBroker, chance: random.Random) -> None:
        self._note("broker_disk_full", f"broker-{broker.number}")
        await asyncio.to_thread(broker.fill)
        with suppress(TimeoutError):
            async with asyncio.timeout(FULL_SECONDS):
                while broker.is_running:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.2)
        await asyncio.to_thread(broker.kill)
        broker.make_room()
        await self._start(broker)

    async def _start(self, broker: ClusterBroker) -> None:
        try:
            await asyncio.to_thread(broker.restart)
        except NoBroker:
            await asyncio.to_thread(broker.restart)
        self.scene.history.note(f"broker-{broker.number}", "ready")

    # --- the network between clients and brokers ---------------------------------------------------------------

    def _network(self) -> list[Fault]:
        ways: list[tuple[str, Callable[[random.Random], tuple[Way, Way]]]] = [
            ("delay", lambda chance: (_delayed(chance), _delayed(chance))),
            ("slice", lambda chance: (Way(slice_bytes=chance.randint(*SLICE_BYTES)), Way(slice_bytes=200))),
            ("throttle", lambda chance: (_slow(chance), _slow(chance))),
        ]
        silent = [("partition", True, True), ("partition_there", True, False), ("partition_back", False, True)]
        return [
            *(self._spoilt(kind, make) for kind, make in ways),
            *(self._silenced(*one) for one in silent),
            self._cut_off,
            self._reset,
            self._flap,
            self._lose_acks,
        ]

    def _spoilt(self, kind: str, make: Callable[[random.Random], tuple[Way, Way]]) -> Fault:
        async def fault(chance: random.Random) -> None:
            place, proxy = self._place(chance)
            seconds = chance.uniform(*NETWORK_SECONDS)
            self._note(kind, place, seconds=seconds)
            proxy.spoil(*make(chance))
            await asyncio.sleep(seconds)
            proxy.heal()

        return fault

    def _silenced(self, kind: str, there: bool, back: bool) -> Fault:
        async def fault(chance: random.Random) -> None:
            place, proxy = self._place(chance)
            seconds = chance.uniform(*SILENCE_SECONDS)
            self._note(kind, place, seconds=seconds)
            _silence(proxy, there=there, back=back)
            await asyncio.sleep(seconds)
            proxy.heal()

        return fault

    async def _cut_off(self, chance: random.Random) -> None:
        """Cut everybody off from all brokers."""
        seconds = chance.uniform(*SILENCE_SECONDS)
        self._note("cut_off", "all brokers", seconds=seconds)
        for proxy in self.scene.proxies:
            _silence(proxy, there=True, back=True)
        await asyncio.sleep(seconds)
        for proxy in self.scene.proxies:
            proxy.heal()

    async def _reset(self, chance: random.Random) -> None:
        place, proxy = self._place(chance)
        self._note("reset", place, connections=proxy.reset())

    async def _flap(self, chance: random.Random) -> None:
        place, proxy = self._place(chance)
        self._note("flap", place)
        for _ in range(FLAPS):
            proxy.reset()
            await asyncio.sleep(FLAP_SECONDS)

    async def _lose_acks(self, chance: random.Random) -> None:
        """Let a broker do what it is asked, and nobody hear of it."""
        place, proxy = self._place(chance)
        self._note("lost_ack", place)
        _silence(proxy, there=False, back=True)
        await asyncio.sleep(chance.uniform(*LOST_ACK_SECONDS))
        proxy.reset()
        proxy.heal()

    def _place(self, chance: random.Random) -> tuple[str, TcpProxy]:
        number = chance.randrange(len(self.scene.proxies))
        return f"network-{number + 1}", self.scene.proxies[number]


Fault = Callable[[random.Random], Awaitable[None]]
"""Does one thing to somebody, and undoes it."""


def _delayed(chance: random.Random) -> Way:
    return Way(delay_seconds=chance.uniform(*DELAY_SECONDS), jitter_seconds=chance.uniform(*JITTER_SECONDS))


def _slow(chance: random.Random) -> Way:
    return Way(bytes_per_second=chance.randint(*SLOW_BYTES_PER_SECOND), slice_bytes=1_000)


def _silence(proxy: TcpProxy, *, there: bool, back: bool) -> None:
    for way, is_meant in ((proxy.there, there), (proxy.back, back)):
        if is_meant:
            way.silence()
