"""The part about many sessions that are live at once: what the latency of a delta is with 1,000, and with 10.

A live session is a run that goes on, with a viewer of its own: two deltas a second each. They begin over some seconds;
only deltas count that were written while all of them were live. Each round has a deployment of its own, and a broker of
its own if the benchmark starts it, because sessions that are over stay on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.stage import Stage, in_turn, say
from bench.table import quantile

__all__ = ["measure"]


@dataclass(frozen=True, slots=True)
class Size:
    """How many sessions, of which agent, and over how many seconds they begin."""

    sessions: int
    agent: str
    ramp: float


SIZES = {"live_10": Size(10, "few", 1.0), "live_1000": Size(1000, "live", 7.0)}
"""Runs of 6 s and of 15 s, so that all are live for some seconds."""
LIVE_SECONDS_MIN = 3.0


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
            used = system.cpu_seconds
            report = stage.client(system, size.agent, size.sessions, ramp=size.ramp)
            cores = (system.cpu_seconds - used) / sum(report.wall_seconds)
            if report.live_seconds < LIVE_SECONDS_MIN:
                stage.problem(name, row, f"all were live at once for {report.live_seconds:.1f} s only")
                continue
            stage.result.add(name, row, median(report.live_ms))
            stage.result.add(name, f"{row}_p99", quantile(report.live_ms, 0.99))
            stage.result.took(name, "all processes", f"cores_{row}", cores)
