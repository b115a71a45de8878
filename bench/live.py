"""The part about many sessions that are live at once: what the latency of a delta is with 1,000, and with 10.

A live session is a run that goes on, with a viewer of its own: two deltas a second each. They begin over some seconds;
only deltas count that were written while all of them were live, and only the CPU of that time. Each round has a
deployment of its own, and a broker of its own if the benchmark starts it, because sessions that are over stay on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

from bench.machine import repeatedly
from bench.stage import Stage, in_turn, say
from bench.systems import System, cpu_seconds_of
from bench.table import quantile

__all__ = ["cores_between", "measure"]


@dataclass(frozen=True, slots=True)
class Size:
    """How many sessions, of which agent, and over how many seconds they begin."""

    sessions: int
    agent: str
    ramp: float


SIZES = {"live_10": Size(10, "few", 1.0), "live_1000": Size(1000, "live", 7.0)}
"""Runs of 6 s and of 15 s, so that all are live for some seconds."""
LIVE_SECONDS_MIN = 3.0
LOOK_SECONDS = 0.25
"""How often it is noted what CPU was used."""

Used = list[tuple[int, dict[str, float]]]
"""At which time, in nanoseconds of the monotonic clock, each process had used how many seconds of CPU."""


def measure(stage: Stage, names: Sequence[str]) -> None:
    """Measure few and many, round after round."""
    for number in range(stage.plan.rounds):
        for name in in_turn(number, names):
            say(f"live sessions: round {number + 1} of {stage.plan.rounds}, {name}")
            _round(stage, name)


def _round(stage: Stage, name: str) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(stage.broker()) if name != "embedded" else None
        system = stage.start(stack, name, broker)
        stage.client(system, "crowd", stage.plan.warm_up_sessions)
        for row, size in SIZES.items():
            used: Used = []
            with repeatedly(LOOK_SECONDS, partial(_look, system, used)):
                report = stage.client(system, size.agent, size.sessions, ramp=size.ramp)
            if report.live_seconds < LIVE_SECONDS_MIN:
                stage.problem(name, row, f"all were live at once for {report.live_seconds:.1f} s only")
                continue
            stage.result.add(name, row, median(report.live_ms))
            stage.result.add(name, f"{row}_p99", quantile(report.live_ms, 0.99))
            until = report.live_since + int(report.live_seconds * 1e9)
            for process, cores in cores_between(used, report.live_since, until).items():
                stage.result.took(name, process, f"cores_{row}", cores)


def _look(system: System, used: Used) -> None:
    """Note what CPU the processes of a system have used until now."""
    used.append((time.monotonic_ns(), {each.name: cpu_seconds_of(each.popen.pid) for each in system.processes}))


def cores_between(used: Used, began: int, ended: int) -> dict[str, float]:
    """Give the cores that each process used between two times; none if nothing was noted between them. Pure."""
    within = [look for look in used if began <= look[0] <= ended]
    if len(within) < 2:
        return {}
    (first, before), (last, after) = within[0], within[-1]
    return {name: (after[name] - before[name]) * 1e9 / (last - first) for name in before}
