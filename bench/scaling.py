"""Scaling out: the same load on 1, 2 and 4 orchestrators, workers and gateways; and what a deploy makes clients wait.

Everything is on one machine, so more processes cannot do more than its cores can. What shows whether a role scales is
therefore not sessions a second but *CPU per session*: where four processes need as much of it as one does that has a
quarter of the load, four machines carry four times as many. (Against one that has the whole load they would seem dear:
whoever has more to do does more of it at a time.) Where they need more, something is shared, and the table says by
which role it is paid. Idle CPU is measured before each load, said by itself, and not part of a session's.

First a steady load that every shape carries with ease, for latency and CPU; then many sessions at once. The broker is
one for all shapes, and its CPU stands beside theirs. Exits with 1 if a run was not whole, or if a change of the group
of orchestrators made a client wait for longer than the bound that is printed (`handover.py`).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench import handover
from bench.fleet import ROLES, Fleet, Shape, cpu_of
from bench.machine import Others, machine, store
from bench.stage import Broker, say, start_broker
from bench.systems import ROOT, Deployment, NotStarted, System, start_provider

__all__ = ["PARTS", "Amount", "Measured", "main", "measure", "table"]

PROBLEMS_SHOWN_MAX = 10
LOAD_SECONDS_MAX = 200.0
IDLE_SECONDS = 2.0
SHARED_TIMES = 1.2
"""From so many times the CPU per session of one process with as much to do on, something is said to be shared."""

ONE = Shape()
PARTS: dict[str, Sequence[Shape]] = {
    "orchestrators": (ONE, Shape(orchestrators=2), Shape(orchestrators=4)),
    "workers": (ONE, Shape(workers=2), Shape(workers=4)),
    "gateways": (ONE, Shape(gateways=2), Shape(gateways=4)),
    "together": (ONE, Shape(2, 2, 2), Shape(4, 4, 4)),
}
HANDOVER = "handover"


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured of each shape."""

    rate: float = 12.0
    """Sessions a second, over all processes."""
    steady_seconds: float = 8.0
    at_once: int = 200
    shares: Sequence[int] = (2, 4)
    """One process of each role is measured with these parts of the load as well."""


Cpu = dict[str, list[float]]
"""For each role and the broker, CPU a session in milliseconds, beyond what is used idle; a figure a round."""


@dataclass(slots=True)
class Measured:
    """What one shape came to; a figure a round."""

    per_second: list[float] = field(default_factory=list[float])
    delta_p50: list[float] = field(default_factory=list[float])
    delta_p99: list[float] = field(default_factory=list[float])
    cpu_ms: Cpu = field(default_factory=Cpu)
    cpu_ms_of_share: dict[int, Cpu] = field(default_factory=dict[int, Cpu])
    """The same with a part of the load: a half for 2, a quarter for 4."""
    idle_cores: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    problems: list[str] = field(default_factory=list[str])

    def ours(self) -> float:
        """Sum the CPU per session of our own roles."""
        return sum(median(self.cpu_ms[role]) for role in ROLES)


@dataclass(frozen=True, slots=True)
class Place:
    """Where deployments are started: each has topics of its own on one broker."""

    placement: str
    broker: Broker
    provider: System
    folder: Path

    def deployment(self) -> Deployment:
        """Name what a new one is started from."""
        return Deployment(self.placement, self.provider, self.folder, self.broker.address)


def measure(place: Place, shape: Shape, amount: Amount, into: Measured) -> None:
    """Start a deployment of a shape, load it, and add what came of it."""
    say(f"{shape} (orchestrators/workers/gateways)")
    with ExitStack() as stack:
        loaded = Loaded(place, Fleet(stack, place.deployment()), into)
        loaded.fleet.start(shape)
        # Each process has met its first session before anything counts: what it then imports and opens stays.
        loaded.load(amount.rate, 2.0 + sum(shape.count(role) for role in ROLES) / 4)
        loaded.idle()
        steady = loaded.steady(amount.rate, amount.steady_seconds, into.cpu_ms)
        if steady["delta_ms"]:
            into.delta_p50.append(steady["delta_ms"]["p50"])
            into.delta_p99.append(steady["delta_ms"]["p99"])
        for share in amount.shares if shape == ONE else ():
            cpu = into.cpu_ms_of_share.setdefault(share, {})
            loaded.steady(amount.rate / share, amount.steady_seconds, cpu)
        crowd = loaded.load(amount.at_once * 1000.0, 1 / 1000)
        into.per_second.append(crowd["ended"] / crowd["second"])
        into.problems += [f"{shape}: {problem}" for problem in loaded.problems]


class Loaded:
    """A fleet under load, and what it uses."""

    def __init__(self, place: Place, fleet: Fleet, into: Measured) -> None:
        self.fleet = fleet
        self.problems: list[str] = []
        self._place = place
        self._into = into
        self._idle: dict[str, float] = {}

    def idle(self) -> None:
        """Note what is used when there is nothing to do."""
        before = cpu_of(self.fleet, self._place.broker)
        time.sleep(IDLE_SECONDS)
        after = cpu_of(self.fleet, self._place.broker)
        self._idle = {role: (used - before[role]) / IDLE_SECONDS for role, used in after.items()}
        for role, cores in self._idle.items():
            self._into.idle_cores.setdefault(role, []).append(cores)

    def steady(self, rate: float, seconds: float, cpu: Cpu) -> dict[str, Any]:
        """Load steadily, and add what a session took of each role."""
        before, began = cpu_of(self.fleet, self._place.broker), time.monotonic()
        window = self.load(rate, seconds)
        passed, after = time.monotonic() - began, cpu_of(self.fleet, self._place.broker)
        for role, used in after.items():
            own = used - before[role] - self._idle[role] * passed
            cpu.setdefault(role, []).append(max(0.0, own) * 1000 / max(1, window["ended"]))
        return window

    def load(self, rate: float, seconds: float) -> dict[str, Any]:
        """Begin sessions for so long, and give what came of them when all have ended."""
        ports = ["--ports", ",".join(map(str, self.fleet.ports)), "--provider", str(self._place.provider.port)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", *ports, "--rate", str(rate), "--seconds", str(seconds), "--leave"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=LOAD_SECONDS_MAX,
            check=True,
        )
        window: dict[str, Any] = orjson.loads(done.stdout)
        self.problems += window["problems"]
        return window


def table(measured: dict[Shape, Measured]) -> list[str]:
    """Write a line for each shape (CPU per session in ms), and what of it is shared."""
    lines = [
        "         at once | a delta, ms    | CPU of a session, ms                             |        | idle, cores",
        "o/w/g      per s |   p50      p99 | orchestr.  worker  gateway     ours  compared   | broker |  ours broker",
    ]
    one = measured.get(ONE)
    for shape, each in measured.items():
        if not each.delta_p50:
            lines.append(f"{shape!s:8} nothing was whole")
            continue
        ratio = _compared(shape, each, one)
        compared = f"{ratio:5.2f} ×" if ratio is not None else "–".rjust(7)
        latency = f"{median(each.delta_p50):5.2f} {median(each.delta_p99):8.1f}"
        idle = {role: median(figures) for role, figures in each.idle_cores.items()}
        lines.append(
            f"{shape!s:8} {median(each.per_second):7.1f} | {latency} | {_cpu(each.cpu_ms)}   {compared} |"
            f" {_broker(each.cpu_ms):6.2f} | {sum(idle[role] for role in ROLES):5.3f} {idle.get('broker', 0.0):6.3f}"
        )
    if one is not None:
        for share, cpu in one.cpu_ms_of_share.items():
            lines.append(f"{f'1/1/1, 1/{share} of the load':33}| {_cpu(cpu)}           | {_broker(cpu):6.2f} |")
    return [*lines, *_shared(measured)]


def _cpu(cpu: Cpu) -> str:
    each = [median(cpu[role]) for role in ROLES]
    return f"{each[0]:9.2f} {each[1]:7.2f} {each[2]:8.2f} {sum(each):8.2f}"


def _broker(cpu: Cpu) -> float:
    return median(cpu.get("broker", [0.0]))


def _compared(shape: Shape, each: Measured, one: Measured | None) -> float | None:
    """Give how many times the CPU per session is that which single processes need that have as much to do."""
    if one is None or not one.delta_p50:
        return None
    expected = 0.0
    for role in ROLES:
        count = shape.count(role)
        cpu = one.cpu_ms if count == 1 else one.cpu_ms_of_share.get(count)
        if cpu is None:
            return None
        expected += median(cpu[role])
    return each.ours() / expected if expected else None


def _shared(measured: dict[Shape, Measured]) -> list[str]:
    one = measured.get(ONE)
    lines: list[str] = []
    for part, shapes in PARTS.items():
        largest = next((shape for shape in reversed(shapes) if shape in measured), ONE)
        most = measured.get(largest)
        ratio = None if most is None or not most.delta_p50 else _compared(largest, most, one)
        if most is None or one is None or ratio is None or largest == ONE:
            continue
        how = "scales" if ratio < SHARED_TIMES else "shares something"
        broker = f"; the broker {_broker(most.cpu_ms) / _broker(one.cpu_ms):.2f} ×" if _broker(one.cpu_ms) else ""
        lines.append(f"{part}, {largest} and 1/1/1: {how}: {ratio:.2f} × the CPU of a session{broker}")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one and two of each, and the hand-over: 2 minutes")
    parser.add_argument("--only", default="", help=f"some of {','.join((*PARTS, HANDOVER))}; without, all")
    parser.add_argument("--placement", choices=("lanes", "kafka"), default="lanes", help="kafka is a topic a session")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--listed", type=int, default=0, help="sessions, all over, in the directory at the hand-over")
    parser.add_argument("--kafka", metavar="HOST:PORT", default="start", help="a broker; `start` starts one")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [*PARTS, HANDOVER]
    if unknown := set(chosen) - {*PARTS, HANDOVER}:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join((*PARTS, HANDOVER))}")
    arguments.parts = chosen
    return arguments


def _shapes(arguments: argparse.Namespace) -> list[Shape]:
    if arguments.quick:
        return [ONE, PARTS["together"][1]] if any(part in PARTS for part in arguments.parts) else []
    return list(dict.fromkeys(shape for part in arguments.parts for shape in PARTS.get(part, ())))


def run(arguments: argparse.Namespace) -> tuple[dict[Shape, Measured], list[handover.Change], list[str]]:
    """Measure what was chosen. Raises `NotStarted`."""
    shapes = _shapes(arguments)
    measured = {shape: Measured() for shape in shapes}
    amount = Amount(steady_seconds=4.0, at_once=100, shares=(2,)) if arguments.quick else Amount()
    changes: list[handover.Change] = []
    problems: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playhead-scaling-")))
        provider = stack.enter_context(start_provider(folder))
        broker = start_broker(stack) if arguments.kafka == "start" else Broker(arguments.kafka)
        place = Place(arguments.placement, broker, provider, folder)
        if shapes:  # a broker that has just begun is slow, and would make the first shape so
            say("warming the broker up")
            measure(place, ONE, Amount(steady_seconds=1.0, at_once=amount.at_once, shares=()), Measured())
        for number in range(arguments.rounds):
            for shape in shapes if number % 2 == 0 else shapes[::-1]:
                measure(place, shape, amount, measured[shape])
        if HANDOVER in arguments.parts:
            changes, problems = handover.measure(place.deployment(), broker, arguments.listed)
    problems += [problem for each in measured.values() for problem in each.problems]
    return measured, changes, problems


def _end(_number: int, _frame: object) -> None:
    sys.exit(1)


def main() -> int:
    """Measure; exit with 1 if something was not whole, or a client waited for longer than the bound."""
    signal.signal(signal.SIGTERM, _end)
    arguments, others, where = _arguments(), Others(), machine()
    try:
        measured, changes, problems = run(arguments)
    except NotStarted as error:
        say(str(error))
        return 1
    beyond = [each.name for each in changes if each.worst > handover.BOUND_SECONDS]
    print(f"{arguments.placement}, {where['cores']} cores, {where['at']}\n")
    print("\n".join([*(table(measured) if measured else []), "", *(handover.report(changes) if changes else [])]))
    print(f"\n{others.say()}")
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        print(f"PROBLEM: {problem}")
    if len(problems) > PROBLEMS_SHOWN_MAX:
        print(f"PROBLEM: and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    stored = {
        "machine": where,
        "placement": arguments.placement,
        "rounds": arguments.rounds,
        "listed": arguments.listed,
        "shapes": {str(shape): asdict(each) for shape, each in measured.items()},
        "changes": [asdict(each) for each in changes],
        "bound_seconds": handover.BOUND_SECONDS,
        "problems": problems,
    }
    path = store("scaling", where, stored)
    print(f"stored in {path.relative_to(ROOT)}")
    return 1 if problems or beyond else 0


if __name__ == "__main__":
    sys.exit(main())
