"""Measures the systems of the comparison: all run side by side and are measured in turn, round after round.

It refuses to know how a peer is built or started, and how the figures are shown.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx2

from bench.client import Report
from bench.compare.crash import strike
from bench.compare.peers import PEERS, PeerDeployment, command_of
from bench.machine import Others
from bench.stage import Result, ask, in_turn, say
from bench.systems import Deployment, NotStarted, System, start_deployment, start_provider
from bench.table import quantile

__all__ = ["PARTS", "ROUNDS", "SYSTEMS", "Comparison", "compare"]

SYSTEMS = ("plain", "memory", "embedded", *PEERS)
PARTS = ("stream", "tools", "crowd", "burst", "crash")
WITHOUT = {"plain": {"burst"}, "memory": {"stream", "tools", "crowd", "crash"}}
"""*memory* is the reference of what *plain*, which keeps nothing, cannot be: a log."""
ROUNDS = 5
TOOL_RUNS = 5
CROWD = 200
WARM_UP_SESSIONS = 20
SETTLE_SECONDS = 0.5
SLOW_SECONDS = 30.0
"""A crowd that took longer than this is not measured again: it holds up all others."""


@dataclass(slots=True)
class Comparison:
    """What is measured, and what came of it."""

    provider: System
    folder: Path
    parts: Sequence[str]
    result: Result = field(default_factory=Result)
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """Why a system is not in the table."""
    commands: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    running: dict[str, tuple[System, System | None]] = field(default_factory=dict[str, tuple[System, System | None]])
    """Each system's server, and its database."""
    slow: set[str] = field(default_factory=set[str])

    def deployment(self, name: str) -> Deployment:
        """Name what a system is started from. Raises `NotStarted`."""
        if name in PEERS:
            return PeerDeployment(PEERS[name], self.provider, self.folder)
        return Deployment(name, self.provider, self.folder)

    def start(self, stack: ExitStack, name: str) -> None:
        """Start a system and make runs that do not count; if it does not start, note why."""
        say(f"starting {name}")
        try:
            deployment = self.deployment(name)
            store = deployment.start_store(stack) if isinstance(deployment, PeerDeployment) else None
            system = start_deployment(stack, deployment)
        except NotStarted as reason:
            self.skipped[name] = str(reason)
            say(f"{name} cannot be run here: {reason}")
            return
        self.commands[name] = [command_of(role) for role in deployment.roles()]
        if isinstance(deployment, PeerDeployment) and deployment.store:
            self.commands[name].insert(0, command_of(deployment.store))
        self.running[name] = system, store
        for agent, sessions in (("tools", 1), ("crowd", WARM_UP_SESSIONS)):
            if self._has(name, agent):
                self._client(system, agent, sessions)

    def round(self, number: int) -> None:
        """Measure every system once."""
        for name in in_turn(number, list(self.running)):
            system, store = self.running[name]
            if self._has(name, "stream"):
                self._stream(system)
            if self._has(name, "tools"):
                self._tools(system)
            if self._has(name, "crowd") and name not in self.slow:
                self._crowd(system, store)
            if self._has(name, "burst"):
                self._burst(system)

    def crash(self, name: str) -> None:
        """Kill a system of its own in the middle of a run."""
        try:
            with ExitStack() as stack:
                outcome = strike(stack, self.deployment(name))
        except (NotStarted, httpx2.HTTPError) as problem:
            self.result.problems.append(f"{name}, crash: {problem}")
            return
        add = self.result.add
        add(name, "crash_ended", 100.0 * outcome.ended)
        add(name, "crash_missing", outcome.missing)
        add(name, "crash_twice", outcome.twice)
        if outcome.next_seconds is not None:
            add(name, "crash_next", outcome.next_seconds)

    def _has(self, name: str, part: str) -> bool:
        return part in self.parts and part not in WITHOUT.get(name, ())

    def _stream(self, system: System) -> None:
        report = self._client(system, "stream", 1)
        if report.runs:
            self.result.add(system.name, "delta_p50", median(report.delta_ms))
            self.result.add(system.name, "delta_p99", quantile(report.delta_ms, 0.99))

    def _tools(self, system: System) -> None:
        report = self._client(system, "tools", 1, TOOL_RUNS)
        if report.runs:
            self.result.add(system.name, "tools", median(report.overhead_ms))
            self.result.add(system.name, "first_event", median(report.first_event_ms))
            self.result.add(system.name, "first_delta", median(report.first_delta_ms))

    def _crowd(self, system: System, store: System | None) -> None:
        used, stored = system.cpu_seconds, store.cpu_seconds if store else 0.0
        report = self._client(system, "crowd", CROWD)
        time.sleep(SETTLE_SECONDS)
        if sum(report.wall_seconds) > SLOW_SECONDS:
            self.slow.add(system.name)
        if report.runs == CROWD:
            self.result.add(system.name, "sessions", CROWD / sum(report.wall_seconds))
            self.result.add(system.name, "cpu", 1000 * (system.cpu_seconds - used) / CROWD)
            if store:
                self.result.add(system.name, "store_cpu", 1000 * (store.cpu_seconds - stored) / CROWD)

    def _burst(self, system: System) -> None:
        report = self._client(system, "burst", 1)
        if report.runs:
            # From the model's write of the first delta to the client's read of the last one.
            seconds = report.live_seconds + report.delta_ms[-1] / 1000
            self.result.add(system.name, "burst", len(report.delta_ms) / seconds / 1000)

    def _client(self, system: System, agent: str, sessions: int, repeat: int = 1) -> Report:
        client = "compare.langgraph_client" if system.name == "langgraph" else "client"
        ports = ["--port", str(system.port), "--provider", str(self.provider.port)]
        amount = ["--sessions", str(sessions), "--repeat", str(repeat)]
        report = Report(**ask(client, *ports, "--agent", agent, *amount))
        self.result.problems += [f"{system.name}, {agent}: {problem}" for problem in report.problems]
        return report


def compare(names: Sequence[str], parts: Sequence[str], rounds: int) -> Comparison:
    """Measure."""
    others = Others()
    with ExitStack() as outer:
        folder = Path(outer.enter_context(tempfile.TemporaryDirectory(prefix="playhead-bench-")))
        comparison = Comparison(outer.enter_context(start_provider(folder)), folder, parts)
        with ExitStack() as stack:
            for name in names:
                comparison.start(stack, name)
            for number in range(rounds if set(parts) - {"crash"} else 0):
                say(f"round {number + 1} of {rounds}")
                comparison.round(number)
        for number in range(rounds if "crash" in parts else 0):
            for name in in_turn(number, list(comparison.running)):
                if "crash" not in WITHOUT.get(name, ()):
                    say(f"crash: round {number + 1} of {rounds}, {name}")
                    comparison.crash(name)
    comparison.result.notes.append(others.say())
    return comparison
