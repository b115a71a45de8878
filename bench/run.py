"""Runs the benchmark: starts everything, measures the systems in turn, round after round, and prints the table.

Systems are interleaved and every second round runs in the opposite order, so that a machine that gets slower or faster
meanwhile does so to all of them. All of them run during the whole time; what they use while idle is measured and said.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import psutil

from bench.client import Report
from bench.systems import ROOT, NotStarted, System, cpu_seconds_of, start_provider, start_system, system_names
from bench.table import quantile, render, verdicts

__all__ = ["main"]

RESULTS = ROOT / "bench" / "results"
CLIENT_SECONDS_MAX = 150.0
SETTLE_SECONDS = 0.5
"""How long a system may tidy up after the last session before its CPU time is read."""
IDLE_SECONDS = 2.0
CROWD = 200
OTHERS_CORES_MAX = 0.2
RAW_RATE = 50
"""Records per second, as the model writes deltas."""
WITHOUT_TOOLS = {"floor", "memory"}
CROWDED_SHARE_MAX = 0.7
"""Past this share of one core, the provider or the client may be what is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    tool_runs: int
    raw_records: int
    warm_up_sessions: int
    parts: frozenset[str]


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    def add(self, system: str, row: str, figure: float) -> None:
        """Add one round's figure of one row."""
        self.figures.setdefault(system, {}).setdefault(row, []).append(figure)


PARTS = ("stream", "tools", "crowd", "raw")
QUICK = Plan(rounds=2, tool_runs=5, raw_records=50, warm_up_sessions=20, parts=frozenset(PARTS))
QUICK_WITH_KAFKA = replace(QUICK, rounds=1)
FULL = Plan(rounds=5, tool_runs=20, raw_records=100, warm_up_sessions=50, parts=frozenset(PARTS))


class Bench:
    """The running systems, and what has been measured of them so far."""

    def __init__(self, plan: Plan, provider: System, kafka: str | None, folder: Path) -> None:
        self._plan = plan
        self._provider = provider
        self._kafka = kafka
        self._folder = folder
        self._crowded: dict[str, float] = {}
        self._late_ms = 0.0
        self.result = Result()

    def warm_up(self, system: System) -> None:
        """Make runs that do not count: imports, connections, code that gets faster, consumer groups that settle."""
        for agent, sessions in (("tools", 1), ("crowd", self._plan.warm_up_sessions)):
            if agent == "tools" and system.name in WITHOUT_TOOLS:
                continue
            report = self._client(system, agent, sessions, 1)
            self.result.problems += [f"{system.name}, warming up: {problem}" for problem in report.problems]

    def idle(self, systems: Sequence[System]) -> None:
        """Say what each system uses while nothing happens."""
        before = [system.cpu_seconds for system in systems]
        time.sleep(IDLE_SECONDS)
        shares = (
            f"{system.name} {(system.cpu_seconds - used) / IDLE_SECONDS:.1%}"
            for system, used in zip(systems, before, strict=True)
        )
        self.result.notes.append(f"CPU while idle, of one core: {', '.join(shares)}")

    def round(self, systems: Sequence[System]) -> None:
        """Measure every system once, in this order."""
        for system in systems:
            if "stream" in self._plan.parts:
                self._stream(system)
            if "tools" in self._plan.parts:
                self._tools(system)
            if "crowd" in self._plan.parts:
                self._crowd(system)
        if "raw" in self._plan.parts:
            self._raw()

    def conclude(self) -> None:
        """Say what a reader needs to know about the harness itself."""
        for name, share in self._crowded.items():
            warning = "  <- too busy: the crowd's figures are the harness's" if share > CROWDED_SHARE_MAX else ""
            self.result.notes.append(f"harness: {name} used at most {share:.0%} of one core in the crowd{warning}")
        self.result.notes.append(f"harness: with one session, the model was at most {self._late_ms:.1f} ms late")

    def _stream(self, system: System) -> None:
        report = self._client(system, "stream", 1, 1)
        self._late_ms = max(self._late_ms, report.late_ms)
        if report.runs:
            self.result.add(system.name, "delta_p50", median(report.delta_ms))
            self.result.add(system.name, "delta_p99", quantile(report.delta_ms, 0.99))

    def _tools(self, system: System) -> None:
        if system.name in WITHOUT_TOOLS:
            return
        report = self._client(system, "tools", 1, self._plan.tool_runs)
        self._late_ms = max(self._late_ms, report.late_ms)
        if report.runs:
            self.result.add(system.name, "tools", median(report.overhead_ms))
            self.result.add(system.name, "first_event", median(report.first_event_ms))
            self.result.add(system.name, "first_delta", median(report.first_delta_ms))

    def _crowd(self, system: System) -> None:
        used, provided = system.cpu_seconds, self._provider.cpu_seconds
        report = self._client(system, "crowd", CROWD, 1)
        self._busy("the client", report.cpu_seconds / sum(report.wall_seconds))
        self._busy("the model", (self._provider.cpu_seconds - provided) / sum(report.wall_seconds))
        time.sleep(SETTLE_SECONDS)
        if report.runs == CROWD:
            self.result.add(system.name, "sessions", CROWD / sum(report.wall_seconds))
            self.result.add(system.name, "cpu", 1000 * (system.cpu_seconds - used) / CROWD)

    def _raw(self) -> None:
        stores = {"raw sqlite": ["--sqlite", str(self._folder)]}
        if self._kafka is not None:
            stores["raw kafka"] = ["--kafka", self._kafka]
        paced = ["--count", str(self._plan.raw_records), "--rate", str(RAW_RATE)]
        for name, store in stores.items():
            delays: list[float] = _measure("raw", *store, *paced)["delta_ms"]
            self.result.add(name, "delta_p50", median(delays))
            self.result.add(name, "delta_p99", quantile(delays, 0.99))

    def _client(self, system: System, agent: str, sessions: int, repeat: int) -> Report:
        ports = ["--port", str(system.port), "--provider", str(self._provider.port)]
        report = Report(
            **_measure("client", *ports, "--agent", agent, "--sessions", str(sessions), "--repeat", str(repeat))
        )
        self.result.problems += [f"{system.name}, {agent}: {problem}" for problem in report.problems]
        return report

    def _busy(self, name: str, share: float) -> None:
        self._crowded[name] = max(share, self._crowded.get(name, 0.0))


def _measure(module: str, *arguments: str) -> dict[str, Any]:
    """Run one of the benchmark's own programs and read the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=CLIENT_SECONDS_MAX,
        check=True,
    )
    return orjson.loads(done.stdout)


def run(plan: Plan, names: Sequence[str], kafka: str | None) -> Result:
    """Start the systems, measure them round after round, stop them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playhead-bench-")))
        if kafka == "start":
            kafka = _start_broker(stack)
        provider = stack.enter_context(start_provider(folder))
        bench = Bench(plan, provider, kafka, folder)
        systems: list[System] = []
        for name in names:
            _say(f"starting {name}")
            systems.append(stack.enter_context(start_system(name, provider, folder, kafka)))
            bench.warm_up(systems[-1])
        bench.idle(systems)
        others = Others()
        for number in range(plan.rounds):
            _say(f"round {number + 1} of {plan.rounds}")
            # The floor is the harness's own and changes no verdict: once is enough.
            measured = [system for system in systems if system.name != "floor" or number == 0]
            bench.round(measured if number % 2 == 0 else measured[::-1])
        bench.conclude()
        bench.result.notes.append(others.say())
        order = [name for name in (*system_names(), "raw kafka", "raw sqlite") if name in bench.result.figures]
        bench.result.figures = {name: bench.result.figures[name] for name in order}
        return bench.result


class Others:
    """What other processes of the machine use meanwhile: their share of the noise."""

    def __init__(self) -> None:
        self._began = time.monotonic(), self._used()

    def say(self) -> str:
        """Say it, from the moment when this was made until now."""
        began, used = self._began
        cores = (self._used() - used) / (time.monotonic() - began)
        warning = "  <- the machine was not ours: expect noise" if cores > OTHERS_CORES_MAX else ""
        return f"processes that this did not start used {max(0.0, cores):.2f} of {os.cpu_count()} cores{warning}"

    def _used(self) -> float:
        machine = psutil.cpu_times()
        return machine.user + machine.system + machine.nice - cpu_seconds_of(os.getpid())


def _start_broker(stack: ExitStack) -> str:
    _say("starting a broker")
    broker = subprocess.Popen(
        [sys.executable, "-m", "tests.support.broker"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    stack.callback(broker.wait)
    stack.callback(broker.terminate)
    assert broker.stdout is not None
    address = broker.stdout.readline().strip()
    if not address:
        raise NotStarted("no broker: see what it said above")
    return address


def machine() -> dict[str, Any]:
    """Say on what this was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("anthropic", "fastapi", "uvicorn", "uvloop", "aiokafka")},
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds, or one with Kafka: under a minute, and noisier"
    )
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument("--systems", default="plain,embedded,floor", help=f"some of {','.join(system_names())}")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="measure `kafka` too, on this broker; `start` starts one")
    parser.add_argument("--json", action="store_true", help="print what would otherwise only be stored")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    arguments = parser.parse_args()
    arguments.systems = arguments.systems.split(",")
    arguments.only = arguments.only.split(",")
    if arguments.kafka and "kafka" not in arguments.systems:
        arguments.systems.append("kafka")
    for given, known in ((arguments.systems, system_names()), (arguments.only, PARTS)):
        if unknown := set(given) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    return arguments


def main() -> int:
    """Run the benchmark; exit with 1 if a run was not whole, or, with `--strict`, a target was missed."""
    signal.signal(signal.SIGTERM, _end)
    arguments = _arguments()
    plan = (QUICK_WITH_KAFKA if arguments.kafka else QUICK) if arguments.quick else FULL
    plan = replace(plan, rounds=arguments.rounds or plan.rounds, parts=frozenset(arguments.only))
    where = machine()
    began = time.monotonic()
    try:
        result = run(plan, arguments.systems, arguments.kafka)
    except NotStarted as error:
        _say(str(error))
        return 1
    judged = verdicts(result.figures)
    plan_fields = asdict(plan) | {"parts": sorted(plan.parts), "seconds": round(time.monotonic() - began, 1)}
    stored = {"machine": where, "plan": plan_fields, **asdict(result), "verdicts": [asdict(each) for each in judged]}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{where['at'].replace(':', '')}.json"
    path.write_bytes(orjson.dumps(stored, option=orjson.OPT_INDENT_2))
    if arguments.json:
        print(path.read_text())
    else:
        print("\n".join(_lines(result, where, plan_fields)))
        print(f"stored in {path.relative_to(ROOT)}")
    missed = [each for each in judged if not each.reached]
    return 1 if result.problems or (arguments.strict and missed) else 0


def _end(_number: int, _frame: object) -> None:
    sys.exit(1)


def _lines(result: Result, where: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    lines = [", ".join(f"{name} {value}" for name, value in where.items()), ""]
    lines += [render(result.figures), ""]
    lines.append(f"median of {plan['rounds']} rounds (least to greatest), {plan['seconds']} s in all")
    lines += result.notes
    shown = result.problems[:10]
    lines += [f"PROBLEM: {problem}" for problem in shown]
    if len(result.problems) > len(shown):
        lines.append(f"PROBLEM: and {len(result.problems) - len(shown)} more")
    return lines


if __name__ == "__main__":
    sys.exit(main())
