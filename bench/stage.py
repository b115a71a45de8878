"""What all parts of the benchmark share: how much is measured, what came of it, and how to start what is needed.

A part (`path`, `replay`, `viewers`, `crash`, `live`, `pool`) takes a `Stage`, starts its systems, measures them round
after round, adds figures to the result, and leaves nothing running.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.client import Report
from bench.systems import ROOT, Deployment, NotStarted, System, start_deployment

__all__ = ["Broker", "Plan", "Result", "Stage", "ask", "in_turn", "say", "start_broker"]

PROGRAM_SECONDS_MAX = 150.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    tool_runs: int
    raw_records: int
    warm_up_sessions: int
    viewers_seconds: float
    pool_calls: int
    """Of each worker."""
    parts: frozenset[str]


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    footprint: dict[str, dict[str, dict[str, list[float]]]] = field(
        default_factory=dict[str, dict[str, dict[str, list[float]]]]
    )
    """For each system and each of its processes (or stores), what it took: CPU, memory, bytes."""
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    def add(self, system: str, row: str, figure: float) -> None:
        """Add one round's figure of one row."""
        self.figures.setdefault(system, {}).setdefault(row, []).append(figure)

    def took(self, system: str, process: str, what: str, figure: float) -> None:
        """Add one round's figure of what a process took."""
        self.footprint.setdefault(system, {}).setdefault(process, {}).setdefault(what, []).append(figure)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker: where it listens, and its process if it was started here."""

    address: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where parts are measured."""

    plan: Plan
    names: Sequence[str]
    provider: System
    kafka: str | None
    """`start` for a broker of its own, an address, or none."""
    folder: Path
    wire: str
    result: Result

    def systems(self, *known: str) -> list[str]:
        """Give those of the chosen systems that a part knows."""
        return [name for name in self.names if name in known]

    def deployment(self, name: str, broker: Broker | None) -> Deployment:
        """Name what a system is started from."""
        return Deployment(name, self.provider, self.folder, broker.address if broker else None, self.wire)

    def start(self, stack: ExitStack, name: str, broker: Broker | None) -> System:
        """Start a system; `floor` is the model server itself."""
        if name == "floor":
            return System(name, self.provider.port, self.provider.processes)
        say(f"starting {name}")
        return start_deployment(stack, self.deployment(name, broker))

    @contextmanager
    def broker(self) -> Generator[Broker | None, None, None]:
        """Give a broker, if any chosen system needs one. Raises `NotStarted`."""
        if self.kafka is None or not self.systems("kafka", "lanes"):
            yield None
        elif self.kafka != "start":
            yield Broker(self.kafka)
        else:
            with ExitStack() as stack:
                yield start_broker(stack)

    def client(self, system: System, agent: str, sessions: int, repeat: int = 1, ramp: float = 0.0) -> Report:
        """Make runs with the client program; what was wrong with them is among the problems."""
        amount = ["--sessions", str(sessions), "--repeat", str(repeat), "--ramp", str(ramp)]
        ports = ["--port", str(system.port), "--provider", str(self.provider.port)]
        report = Report(**ask("client", *ports, "--agent", agent, *amount))
        self.problem(system.name, agent, *report.problems)
        return report

    def problem(self, system: str, what: str, *problems: str) -> None:
        """Note what makes figures worth nothing."""
        self.result.problems += [f"{system}, {what}: {problem}" for problem in problems]


def in_turn(number: int, names: Sequence[str]) -> Sequence[str]:
    """Give the order of a round: every other one goes the other way."""
    return names if number % 2 == 0 else names[::-1]


def ask(module: str, *arguments: str, seconds: float = PROGRAM_SECONDS_MAX) -> dict[str, Any]:
    """Run one of the benchmark's own programs, for so long at most, and read the JSON that it prints last.

    What it logs before that is passed on.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=seconds,
        check=True,
    )
    *logged, said = done.stdout.splitlines()
    for line in logged:
        print(line.decode(), file=sys.stderr)
    return orjson.loads(said)


def say(line: str) -> None:
    """Tell who waits what is happening."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def start_broker(stack: ExitStack) -> Broker:
    """Start a broker; the stack ends it. Raises `NotStarted`."""
    say("starting a broker")
    broker = subprocess.Popen(
        [sys.executable, "-m", "tests.support.broker"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    stack.callback(broker.wait)
    stack.callback(broker.terminate)
    assert broker.stdout is not None
    address = broker.stdout.readline().strip()
    if not address:
        raise NotStarted("no broker: see what it said above, or leave Kafka out with --kafka no")
    return Broker(address, broker.pid)
