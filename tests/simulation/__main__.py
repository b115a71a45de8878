"""Run simulations: `python -m tests.simulation --seeds 2000`. Exits with 1 if an invariant was violated."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

from tests.simulation.ablations import ABLATIONS, Ablation
from tests.simulation.forks import forked
from tests.simulation.nemesis import KINDS
from tests.simulation.run import Outcome, Plan, simulate
from tests.simulation.totals import Totals, counted

BATCH = 50
"""How many seeds a fork runs."""
ABLATED_AT_ONCE = 8
VIOLATIONS_MAX = 20


def say(text: str) -> None:
    """Print a line, now."""
    print(text, flush=True)  # noqa: T201 - a command's output


def told(outcome: Outcome) -> dict[str, Any]:
    """Give what a fork says of an outcome: all but its history."""
    found = {one.name: getattr(outcome, one.name) for one in fields(outcome)}
    return found | {"lines": [], "violations": outcome.violations[:VIOLATIONS_MAX]}


def seeds(arguments: argparse.Namespace) -> int:
    """Run many, and say what they came to."""
    first, end = arguments.first, arguments.first + arguments.seeds
    batches = [range(start, min(start + BATCH, end)) for start in range(first, end, BATCH)]
    began = shown = time.perf_counter()
    totals = Totals()
    for found in forked(batches, arguments.jobs, lambda seed: told(simulate(Plan(seed)))):
        totals.add(found)
        if found["violations"]:
            invariant, text = found["violations"][0]
            say(f"seed {found['seed']}: {invariant}: {text[:300]}")
        if time.perf_counter() - shown > arguments.every:
            shown = time.perf_counter()
            say(f"... {totals.seeds:,} seeds, {len(totals.failed)} failed, {shown - began:,.0f} s")
    say(totals.told(time.perf_counter() - began))
    return 1 if totals.failed else 0


def ablations(arguments: argparse.Namespace) -> int:
    """Remove each safeguard in turn, and look for a seed that notices."""
    missed = 0
    say(f"{'without its safeguard':72} seeds  seconds  first noticed as")
    for ablation in [one for one in ABLATIONS if arguments.ablations in one.name]:
        began = time.perf_counter()
        caught = next(_noticed(ablation, arguments), None)
        missed += caught is None
        tried = arguments.seeds if caught is None else caught["seed"] - arguments.first + 1
        shown = "NOT NOTICED" if caught is None else ": ".join(caught["violations"][0])[:110]
        say(f"{ablation.name:72} {tried:5} {time.perf_counter() - began:8.1f}  {shown}")
    return 1 if missed else 0


def _noticed(ablation: Ablation, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the seeds that notice, in order."""
    end = arguments.first + arguments.seeds
    for start in range(arguments.first, end, ABLATED_AT_ONCE):
        batches = [[seed] for seed in range(start, min(start + ABLATED_AT_ONCE, end))]
        found = forked(batches, arguments.jobs, lambda seed: told(simulate(Plan(seed), ablation.applied())))
        yield from (one for one in sorted(found, key=lambda one: one["seed"]) if one["violations"])


def one(arguments: argparse.Namespace) -> int:
    """Run one seed, and say what happened."""
    plan = Plan(arguments.seed, frozenset(arguments.without), frozenset(arguments.skip))
    gc.disable()
    outcome = simulate(plan, _without(arguments))
    if arguments.trace:
        for line in outcome.lines:
            say(_shown(line))
    say(f"seed {plan.seed}: {outcome.runs} runs, {outcome.events} events, {outcome.steps} callbacks; {outcome.digest}")
    say(f"faults: {counted(outcome.faults)}")
    for invariant, text in outcome.violations:
        say(f"{invariant}: {text}")
    os._exit(1 if outcome.violations else 0)


def _without(arguments: argparse.Namespace) -> AbstractContextManager[None] | None:
    """Do without the safeguard that was named beside a seed."""
    if arguments.ablations is None:
        return None
    return next(one for one in ABLATIONS if arguments.ablations in one.name).applied()


def _shown(line: dict[str, Any]) -> str:
    hidden = ("at", "node", "op", "records", "events", "state")
    rest = {name: value for name, value in line.items() if name not in hidden}
    if line["op"] == "seen":
        named = ("type", "run_id", "step", "attempt", "call_id", "status")
        event = line["event"]
        rest = {"id": line["id"]} | {name: event[name] for name in named if name in event}
    said = " ".join(f"{name}={value}" for name, value in rest.items())
    return f"{line['at'] - 1_000:10.4f} {line['node']:16} {line['op']:8} {said}"


def shrink(arguments: argparse.Namespace) -> int:
    """Leave out, one after the other, what a seed does not need to fail as it does."""
    plan = Plan(arguments.seed)
    outcome = _tried(plan, arguments)
    if not outcome.violations:
        say(f"seed {plan.seed} violates nothing")
        return 0
    wanted = outcome.violations[0][0]
    for kind in outcome.kinds:
        plan, outcome = _less(replace(plan, without=plan.without | {kind}), wanted, arguments) or (plan, outcome)
    size = max(1, len(outcome.acts) // 2)
    while size:
        candidates = (
            replace(plan, skipped=plan.skipped | set(outcome.acts[start : start + size]))
            for start in range(0, len(outcome.acts), size)
        )
        smaller = next((found for one in candidates if (found := _less(one, wanted, arguments))), None)
        if smaller is None:
            size //= 2
        else:
            plan, outcome = smaller
    say(f"{wanted}, with faults of the kinds {', '.join(outcome.kinds) or 'none'}, and acts {outcome.acts}")
    without = "".join(f" --without {kind}" for kind in sorted(plan.without))
    skipped = "".join(f" --skip {act}" for act in sorted(plan.skipped))
    say(f"python -m tests.simulation --trace --seed {plan.seed}{without}{skipped}")
    return 1


def _less(plan: Plan, wanted: str, arguments: argparse.Namespace) -> tuple[Plan, Outcome] | None:
    outcome = _tried(plan, arguments)
    return (plan, outcome) if any(invariant == wanted for invariant, _ in outcome.violations) else None


def _tried(plan: Plan, arguments: argparse.Namespace) -> Outcome:
    return Outcome(**next(forked([[plan.seed]], 1, lambda _: told(simulate(plan, _without(arguments))))))


def main() -> int:
    """Read the arguments, and run."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of text is part of a run
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two words on how far it is")
    parser.add_argument("--seed", type=int, help="one seed alone")
    parser.add_argument(
        "--ablations", nargs="?", const="", metavar="TEXT", help="remove each safeguard (named so); with --seed, one"
    )
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out what it does not need to fail")
    parser.add_argument(
        "--without", action="append", default=[], choices=KINDS, help="with --seed: no faults of a kind"
    )
    parser.add_argument("--skip", action="append", default=[], type=int, help="with --seed: leave out an act")
    arguments = parser.parse_args()
    if arguments.seed is None:
        return seeds(arguments) if arguments.ablations is None else ablations(arguments)
    return shrink(arguments) if arguments.shrink else one(arguments)


if __name__ == "__main__":
    sys.exit(main())
