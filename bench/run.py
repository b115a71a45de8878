"""Runs the benchmark: starts everything, measures the systems in turn, round after round, and prints the table.

Systems are interleaved and every second round runs in the opposite order, so that a machine that gets slower or faster
meanwhile does so to all of them. Exits with 1 if a target is missed, or if anything was not whole.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from bench.machine import Others, machine, store
from bench.parts import PARTS, measure
from bench.report import exit_code, lines, ordered
from bench.rows import ROWS
from bench.stage import Plan, Result, Stage, say
from bench.systems import NotStarted, has_lanes, start_provider, system_names
from bench.table import verdicts

__all__ = ["main"]


FULL = Plan(
    rounds=5,
    tool_runs=20,
    raw_records=100,
    warm_up_sessions=50,
    viewers_seconds=5.0,
    pool_calls=400,
    parts=frozenset(PARTS),
)
QUICK = Plan(
    rounds=1,
    tool_runs=5,
    raw_records=50,
    warm_up_sessions=20,
    viewers_seconds=2.0,
    pool_calls=160,
    # A thousand sessions that live for some seconds, on each system, are half of the time that quick may take.
    parts=frozenset(PARTS) - {"live"},
)
SYSTEMS_OF_WIRE = {"anthropic": frozenset(system_names()), "openai": frozenset({"plain", "embedded", "kafka", "floor"})}
PARTS_OF_WIRE = {"anthropic": frozenset(PARTS), "openai": frozenset({"stream", "raw"})}
"""On OpenAI's wire only the way of a delta is measured: what else there is does not depend on the wire."""


def run(plan: Plan, names: Sequence[str], kafka: str | None, wire: str) -> Result:
    """Measure all parts, each with systems of its own. Raises `NotStarted`."""
    others = Others()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playhead-bench-")))
        provider = stack.enter_context(start_provider(folder))
        stage = Stage(plan, names, provider, kafka, folder, wire, Result())
        measure(stage)
        result = stage.result
    result.notes.append(others.say())
    result.figures = ordered(result.figures)
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, without `live`: under 3 minutes, and noisier")
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument("--systems", default="", help=f"some of {','.join(system_names())}; without, all there are")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}; without, all")
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", default="start", help="a broker; `start` starts one (the default), `no` is none"
    )
    parser.add_argument("--wire", choices=sorted(PARTS_OF_WIRE), default="anthropic", help="what the model speaks")
    parser.add_argument("--json", action="store_true", help="print what would otherwise only be stored")
    parser.add_argument("--lenient", action="store_true", help="exit with 0 although a target is missed")
    arguments = parser.parse_args()
    missing = {"kafka", "lanes"} if arguments.kafka == "no" else set[str]() if has_lanes() else {"lanes"}
    there = SYSTEMS_OF_WIRE[arguments.wire] - missing
    arguments.systems = _chosen(parser, arguments.systems, system_names(), there)
    arguments.parts = _chosen(parser, arguments.only, tuple(PARTS), PARTS_OF_WIRE[arguments.wire])
    return arguments


def _chosen(parser: argparse.ArgumentParser, given: str, known: Sequence[str], there: frozenset[str]) -> Sequence[str]:
    """Give what was chosen, in our order; what is not there cannot be."""
    wanted = given.split(",") if given else [name for name in known if name in there]
    if unknown := set(wanted) - there:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(sorted(there))}")
    return [name for name in known if name in wanted]


def main() -> int:
    """Run the benchmark; exit with 1 if a target was missed (not with `--lenient`), or a run was not whole."""
    signal.signal(signal.SIGTERM, _end)
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    # What was asked for by name is measured, however long it takes.
    chosen = frozenset(arguments.parts)
    plan = replace(plan, parts=chosen if arguments.only else chosen & plan.parts)
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    where = machine()
    began = time.monotonic()
    try:
        result = run(plan, arguments.systems, None if arguments.kafka == "no" else arguments.kafka, arguments.wire)
    except NotStarted as error:
        say(str(error))
        return 1
    described = asdict(plan) | {"parts": sorted(plan.parts), "wire": arguments.wire}
    described |= {"seconds": round(time.monotonic() - began, 1)}
    judged = [{**asdict(each), "reached": each.reached} for each in verdicts(ROWS, result.figures)]
    stored = {"machine": where, "plan": described, **asdict(result), "verdicts": judged}
    path = store("", where, stored)
    if arguments.json:
        print(path.read_text())
    else:
        print(", ".join(f"{name} {value}" for name, value in where.items()), "", *lines(result), sep="\n")
        print(
            f"medians of {plan.rounds} rounds (least–greatest), {described['seconds']} s in all, stored in {path.name}"
        )
    return exit_code(result, lenient=arguments.lenient)


def _end(_number: int, _frame: object) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
