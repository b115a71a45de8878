"""What goes wrong in a simulation, chosen by its seed: which kinds at all, how often, and when.

Each seed draws some kinds of fault and leaves the others out (swarm testing): a run in which everything fails at once
gets nowhere, and finds little.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from tests.simulation.world import Node, World

__all__ = ["KINDS", "Nemesis"]

KINDS = (
    "kill",
    "power_cut",
    "pause",
    "restart",
    "lost",
    "late",
    "unanswered",
    "twice",
    "slow",
    "rebalance",
    "cut",
    "slow_viewer",
    "clock_jump",
    "model_broken",
    "model_stalled",
    "model_429",
    "tool_hung",
    "tool_failed",
)
EVENT_SECONDS = (0.15, 0.8, 2.0)
"""How long it is between two faults, on average: one of these."""


@dataclass
class Nemesis:
    """Chooses and does. `kinds` are those of this run."""

    world: World
    kinds: frozenset[str]
    skipped: frozenset[int] = frozenset()
    """The numbers of acts that are left out, to find those that matter."""

    def __post_init__(self) -> None:
        self.chance = self.world.chance_of("nemesis")
        self.done: list[int] = []
        self.focus = ""

    def prepare(self) -> None:
        """Set how likely it is that calls, models and tools fail."""
        odds, moods, chance = self.world.odds, self.world.moods, self.chance

        def share(kind: str, most: float) -> float:
            drawn = chance.random() * most
            return drawn if kind in self.kinds else 0.0

        odds.lost, odds.late = share("lost", 0.06), share("late", 0.06)
        odds.unanswered, odds.twice = share("unanswered", 0.06), share("twice", 0.10)
        odds.slow = share("slow", 0.05)
        moods.broken, moods.stalled = share("model_broken", 0.4), share("model_stalled", 0.2)
        moods.refused = share("model_429", 0.4)
        moods.hung, moods.failed = share("tool_hung", 0.2), share("tool_failed", 0.4)

    async def stir(self, seconds: float) -> None:
        """Do harm for a time; then let nothing go wrong any more."""
        world, times = self.world, self.world.chance_of("times")
        acts = [kind for kind in KINDS if hasattr(self, f"_{kind}")]
        until, number, between = world.loop.time() + seconds, 0, times.choice(EVENT_SECONDS)
        self.focus = times.choice(("", "", "orchestrator", "worker", "gateway"))
        while world.loop.time() < until:
            await asyncio.sleep(times.expovariate(1 / between))
            number += 1
            self.chance = world.chance_of(f"act {number}")
            mine = [act for act in acts if act in self.kinds]
            if mine and number not in self.skipped:
                self.done.append(number)
                getattr(self, f"_{self.chance.choice(mine)}")()
        self.heal()

    def heal(self) -> None:
        """Let everything work again."""
        world = self.world
        world.odds.clear()
        world.moods.clear()
        for viewer in world.viewers:
            viewer.slowness = 0.0
        for node in world.nodes:
            if not node.is_up:
                node.start()
            elif node.process is not None:
                node.process.paused_until = 0.0
        world.history.note("nemesis", "healed")

    def _note(self, kind: str, target: str, **fields: object) -> None:
        self.world.counts[kind] += 1
        self.world.history.note("nemesis", "fault", kind=kind, target=target, **fields)

    def _any(self) -> Node | None:
        up = [node for node in self.world.nodes if node.is_up and node.name.startswith(self.focus)]
        return self.chance.choice(up) if up else None

    def _kill(self, *, silently: bool = False) -> None:
        node, chance = self._any(), self.chance
        if node is None:
            return
        self._note("power_cut" if silently else "kill", node.name)
        node.kill(silently=silently)
        self._later(0.05 + chance.random() ** 3 * 8, node)

    def _power_cut(self) -> None:
        self._kill(silently=True)

    def _later(self, seconds: float, node: Node) -> None:
        self.world.loop.call_later(seconds, partial(self._start, node))

    def _start(self, node: Node) -> None:
        if not node.is_up and not self.world.is_over:
            node.start()

    def _pause(self) -> None:
        node, chance = self._any(), self.chance
        if node is not None and node.process is not None:
            seconds = 0.05 + chance.random() ** 3 * 20
            self._note("pause", node.name, seconds=seconds)
            self.world.loop.pause(node.process, seconds)

    def _restart(self) -> None:
        node = self._any()
        if node is not None and node.stop is not None:
            self._note("restart", node.name)
            node.stop.set()

    def _rebalance(self) -> None:
        groups = list(self.world.queue.groups.items())
        if groups:
            name, group = self.chance.choice(groups)
            self._note("rebalance", name)
            if self.chance.random() < 0.5:
                group.shuffle()
            else:
                group.rebalance()

    def _cut(self) -> None:
        connections = list(self.world.web.open)
        if connections:
            self._note("cut", "connection")
            self.chance.choice(connections).reset()

    def _slow_viewer(self) -> None:
        if self.world.viewers:
            viewer, chance = self.chance.choice(self.world.viewers), self.chance
            self._note("slow_viewer", viewer.name)
            viewer.slowness = chance.random() ** 2 * 2.0

    def _clock_jump(self) -> None:
        node, chance = self._any(), self.chance
        if node is not None:
            self._note("clock_jump", node.name)
            node.clock_skew += int((chance.random() - 0.5) * 2e6 * 10 ** (chance.random() * 5))
