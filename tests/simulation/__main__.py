"""Run simulations: `python -m tests.simulation --seeds 2000`. Exits with 1 if an invariant was violated.

Seeds are spread over processes; a few at a time run in a fork of their own, which ends without clearing up: what a
killed process of a simulation leaves behind must not run on when it is collected.
"""

from __future__ import annotations

import argparse
import gc
import os
import selectors
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from tests.history.report import percentile
from tests.simulation.ablations import ABLATIONS, Ablation
from tests.simulation.nemesis import KINDS
from tests.simulation.run import Outcome, Plan, simulate

ABLATED_AT_ONCE = 8
BATCH = 10
"""How many seeds a fork runs."""
SHOWN_MAX = 20


@dataclass
class Totals:
    """What many simulations came to."""

    seeds: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    checked: Counter[str] = field(default_factory=Counter[str])
    recovery_seconds: list[float] = field(default_factory=list[float])
    sums: Counter[str] = field(default_factory=Counter[str])
    failed: dict[int, list[list[str]]] = field(default_factory=dict[int, list[list[str]]])

    def add(self, found: dict[str, Any]) -> None:
        """Add what one came to."""
        self.seeds += 1
        self.faults.update(found["faults"])
        self.reached.update(found["reached"])
        self.checked.update(found["checked"])
        self.recovery_seconds += found["recovery_seconds"]
        for name in ("events", "runs", "steps", "virtual_seconds"):
            self.sums[name] += found[name]
        if found["violations"]:
            self.failed[found["seed"]] = found["violations"]

    def told(self, seconds: float) -> str:
        """Say it."""
        sums = self.sums
        lines = [
            f"{self.seeds:,} seeds in {seconds:,.0f} s ({self.seeds / max(seconds, 1e-9):.1f}/s): {sums['runs']:,} runs,"
            f" {sums['events']:,} events, {sums['steps']:,} callbacks, {sums['virtual_seconds'] / 3600:,.1f} h of virtual time",
            f"{sum(self.faults.values()):,} faults: {_counted(self.faults)}",
            f"reached: {_counted(self.reached)}",
            f"checked: {_counted(self.checked)}",
        ]
        if self.recovery_seconds:
            p50, p99 = percentile(self.recovery_seconds, 0.5), percentile(self.recovery_seconds, 0.99)
            lines.append(f"{len(self.recovery_seconds):,} recoveries: p50 {p50:.2f} s, p99 {p99:.2f} s of virtual time")
        lines.append(f"violations: {sum(map(len, self.failed.values())) or 'none'}")
        for seed, violations in list(self.failed.items())[:SHOWN_MAX]:
            lines += [f"  seed {seed}: {invariant}: {text[:600]}" for invariant, text in violations[:3]]
        return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def forked(
    batches: Sequence[Sequence[int]], jobs: int, work: Callable[[int], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Do work for each number of each batch, a batch in one fork, so many forks at a time; yield what comes of it."""
    with selectors.DefaultSelector() as selector:
        for job in range(jobs):
            ours, theirs = os.pipe()
            if os.fork() == 0:
                os.close(ours)
                _spread(batches[job::jobs], theirs, work)
            os.close(theirs)
            selector.register(os.fdopen(ours, "rb"), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr] - a file, as registered above
                if line:
                    yield orjson.loads(line)
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    for _ in range(jobs):
        os.wait()


def _spread(batches: Sequence[Sequence[int]], pipe: int, work: Callable[[int], dict[str, Any]]) -> None:
    for batch in batches:
        pid = os.fork()
        if pid == 0:
            gc.disable()
            for number in batch:
                data = orjson.dumps(_done(work, number)) + b"\n"
                while data:
                    data = data[os.write(pipe, data) :]
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            os.write(pipe, orjson.dumps({"crashed": list(batch), "status": status}) + b"\n")
    os._exit(0)


def _done(work: Callable[[int], dict[str, Any]], number: int) -> dict[str, Any]:
    try:
        return work(number)
    except Exception:  # noqa: BLE001 - told by the process that asked for it
        return {"crashed": [number], "status": traceback.format_exc()}


def _work(seed: int) -> dict[str, Any]:
    return _told(simulate(Plan(seed)))


def _told(outcome: Outcome) -> dict[str, Any]:
    """Give what a fork says of an outcome: all but its history."""
    told = {one.name: getattr(outcome, one.name) for one in fields(outcome)}
    return told | {"lines": [], "violations": outcome.violations[:SHOWN_MAX]}


def _batches(first: int, count: int) -> list[range]:
    return [range(start, min(start + BATCH, first + count)) for start in range(first, first + count, BATCH)]


def _seeds(arguments: argparse.Namespace) -> int:
    began, totals = time.perf_counter(), Totals()
    shown = began
    for found in forked(_batches(arguments.first, arguments.seeds), arguments.jobs, _work):
        if "crashed" in found:
            totals.failed[found["crashed"][0]] = [
                ["bug", f"a fork ended with {found['status']}: seeds {found['crashed']}"]
            ]
            continue
        totals.add(found)
        if found["violations"]:
            print(f"seed {found['seed']}: {found['violations'][0][0]}: {found['violations'][0][1][:300]}", flush=True)
        if time.perf_counter() - shown > arguments.every:
            shown = time.perf_counter()
            print(f"... {totals.seeds:,} seeds, {len(totals.failed)} failed", file=sys.stderr, flush=True)
    print(totals.told(time.perf_counter() - began))
    return 1 if totals.failed else 0


def _ablations(arguments: argparse.Namespace) -> int:
    """Remove each safeguard in turn, and look for a seed that notices."""
    missed = 0
    print(f"{'without':72} seeds  seconds  first noticed as")
    for ablation in ABLATIONS:
        began, tried = time.perf_counter(), 0
        caught: tuple[str, str] | None = None

        def work(seed: int, ablation: Ablation = ablation) -> dict[str, Any]:
            return _told(simulate(Plan(seed), ablation.applied()))

        for start in range(arguments.first, arguments.first + arguments.seeds, ABLATED_AT_ONCE):
            batches = [[seed] for seed in range(start, start + ABLATED_AT_ONCE)]
            found = sorted(forked(batches, arguments.jobs, work), key=lambda one: one.get("seed", 0))
            crashed = next((one["status"] for one in found if "crashed" in one), None)
            if crashed is not None:
                raise RuntimeError(crashed)
            failed = next((one for one in found if one["violations"]), None)
            tried = failed["seed"] - arguments.first + 1 if failed else tried + len(found)
            if failed:
                caught = failed["violations"][0]
                break
        missed += caught is None
        shown = "NOT NOTICED" if caught is None else f"{caught[0]}: {caught[1][:90]}"
        print(f"{ablation.name:72} {tried:5} {time.perf_counter() - began:8.1f}  {shown}", flush=True)
    return 1 if missed else 0


def _tried(plan: Plan) -> Outcome:
    """Carry a plan out in a fork."""
    found = next(forked([[0]], 1, lambda _: _told(simulate(plan))))
    return Outcome(**found)


def _one(arguments: argparse.Namespace) -> int:
    plan = Plan(arguments.seed, frozenset(arguments.without), frozenset(arguments.skip))
    gc.disable()
    outcome = simulate(plan)
    if arguments.trace:
        for line in outcome.lines:
            print(_shown(line))
    print(
        f"seed {plan.seed}, digest {outcome.digest}: {outcome.runs} runs, {outcome.events} events, {outcome.steps} callbacks"
    )
    print(f"faults: {_counted(outcome.faults)}")
    for invariant, text in outcome.violations:
        print(f"{invariant}: {text}")
    sys.stdout.flush()
    os._exit(1 if outcome.violations else 0)


def _shown(line: dict[str, Any]) -> str:
    at, node, op = line["at"], line["node"], line["op"]
    rest = {
        name: value for name, value in line.items() if name not in ("at", "node", "op", "records", "events", "state")
    }
    if op == "seen":
        event = line["event"]
        rest = {
            name: event[name] for name in ("type", "run_id", "step", "attempt", "call_id", "status") if name in event
        }
        rest["id"] = line["id"]
    return f"{at - 1_000:10.4f} {node:16} {op:8} " + " ".join(f"{name}={value}" for name, value in rest.items())


def _shrink(arguments: argparse.Namespace) -> int:
    """Leave out, one after the other, what is not needed for the violation."""
    plan = Plan(arguments.seed)
    outcome = _tried(plan)
    if not outcome.violations:
        print(f"seed {plan.seed} violates nothing")
        return 0
    wanted = outcome.violations[0][0]

    def fails(candidate: Plan) -> Outcome | None:
        found = _tried(candidate)
        return found if any(invariant == wanted for invariant, _ in found.violations) else None

    for kind in KINDS:
        candidate = replace(plan, without=plan.without | {kind})
        if kind in outcome.kinds and (found := fails(candidate)):
            plan, outcome = candidate, found
    size = max(1, len(outcome.acts) // 2)
    while size:
        for start in range(0, len(outcome.acts), size):
            candidate = replace(plan, skipped=plan.skipped | set(outcome.acts[start : start + size]))
            if found := fails(candidate):
                plan, outcome = candidate, found
                break
        else:
            size //= 2
    print(f"{wanted} with faults of the kinds {', '.join(outcome.kinds) or 'none'}, acts {outcome.acts}")
    without = "".join(f" --without {kind}" for kind in sorted(plan.without))
    skipped = "".join(f" --skip {act}" for act in sorted(plan.skipped))
    print(f"python -m tests.simulation --trace --seed {plan.seed}{without}{skipped}")
    return 1


def main() -> int:
    """Read the arguments, and run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of text is part of a run.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two words on how far it is")
    parser.add_argument("--seed", type=int, help="one seed alone")
    parser.add_argument("--ablations", action="store_true", help="remove each safeguard: which seed notices?")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out what it does not need to fail")
    parser.add_argument(
        "--without", action="append", default=[], choices=KINDS, help="with --seed: no faults of a kind"
    )
    parser.add_argument("--skip", action="append", default=[], type=int, help="with --seed: leave out an act")
    arguments = parser.parse_args()
    if arguments.ablations:
        return _ablations(arguments)
    if arguments.seed is None:
        return _seeds(arguments)
    return _shrink(arguments) if arguments.shrink else _one(arguments)


if __name__ == "__main__":
    sys.exit(main())
