"""The parts of the benchmark, each with the systems that it measures; and what ties the two that are programs of their
own, `viewers` and `tools`, into the one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import uvloop

from bench import crash, live, path, replay, tools, viewers
from bench.stage import Stage, in_turn, say
from bench.viewing import Case

__all__ = ["PARTS", "measure"]

VIEWERS = 1000
VIEWED_RATE = 200.0
WRITTEN_INTO = {"memory": "memory", "embedded": "sqlite", "kafka": "kafka"}
"""What `viewers` calls the systems: it has no orchestrators and no model, only writers and what serves the viewers."""
POOLS = {"pool_1": 1, "pool_4": 4}


@dataclass(frozen=True, slots=True)
class Part:
    """One part: which systems it knows, and how it is measured with those of them that were chosen."""

    systems: Sequence[str]
    measure: Callable[[Stage, Sequence[str]], None]


def _viewers(stage: Stage, names: Sequence[str]) -> None:
    with stage.broker() as broker:
        for number in range(stage.plan.rounds):
            for name in in_turn(number, names):
                say(f"viewers: round {number + 1} of {stage.plan.rounds}, {name}")
                into = WRITTEN_INTO[name]
                case = Case("one", into, 1, VIEWERS, VIEWED_RATE, stage.plan.viewers_seconds)
                figures = viewers.measure(case, broker.address if broker else None)
                stage.result.problems += figures.problems
                report = figures.report
                expected = VIEWERS * int(VIEWED_RATE * stage.plan.viewers_seconds)
                wrong = report["lost"] + report["repeated"]
                stage.result.add(name, "viewers_p99", report["p99_ms"])
                share = min(report["delivered"], expected) - wrong
                stage.result.add(name, "viewers_share", 100 * share / expected)
                stage.result.took(name, "what serves 1,000 viewers", "rss_peak_mib", figures.rss_peak_mib)
                stage.result.took(name, "what serves 1,000 viewers", "cpu_us_per_write", figures.write_us)


def _pool(stage: Stage, names: Sequence[str]) -> None:
    with stage.broker() as broker:
        assert broker is not None, "only systems with a broker have pools of workers"
        for number in range(stage.plan.rounds):
            for row in in_turn(number, list(POOLS)):
                workers = POOLS[row]
                say(f"pool: round {number + 1} of {stage.plan.rounds}, {workers} at work")
                calls = stage.plan.pool_calls * workers
                figures = uvloop.run(tools.measure(broker.address, workers, calls, idle_calls=0))
                for name in names:
                    stage.result.add(name, row, figures.per_second)
                    stage.result.took(name, f"{row}: each call", "cpu_ms", figures.cpu_ms)


PARTS: Mapping[str, Part] = {
    **{name: Part(("plain", "memory", "embedded", "kafka", "floor"), path.measure) for name in path.PARTS},
    "replay": Part(("memory", "embedded", "kafka"), replay.measure),
    "viewers": Part(("memory", "embedded", "kafka"), _viewers),
    "crash": Part(("embedded", "kafka"), crash.measure),
    "live": Part(("embedded", "kafka", "lanes"), live.measure),
    "pool": Part(("kafka",), _pool),
}


def measure(stage: Stage) -> None:
    """Measure all parts that the plan names; those of one kind together."""
    done: set[Callable[[Stage, Sequence[str]], None]] = set()
    for name, part in PARTS.items():
        if name in stage.plan.parts and part.measure not in done:
            done.add(part.measure)
            if names := stage.systems(*part.systems):
                part.measure(stage, names)
