"""A soak: hours, if wanted, at a steady share of what the system can do, and nothing may grow.

First the capacity is measured: sessions begin at a steady rate, each step half as fast again as the one before, until
deltas take longer. Then they begin at a share of that (60 %), and every ten seconds it is noted what each process
holds (memory, files, threads, CPU), what the broker or the database holds, how far behind consumers are, and what
clients saw. Half of the clients close their sessions, the others just leave, so both ways of being done with a session
are in it. Each run must be whole, as in `client.py`.

Samples go into a file line by line, so that a soak that is cut off is not lost; at its end they are drawn, and each
series is judged: over the last two thirds it must be flat within what `series.py` allows by name. Exits with 1 if one
is not, or if a run was not whole.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import orjson

from bench.machine import RESULTS, Others, machine
from bench.plot import drawn
from bench.sampling import BrokerState, Machine, Processes, database_mib, open_broker, open_machine
from bench.series import LEFT_ALONE, OTHERS, judged, series_of
from bench.stage import Broker, say, start_broker
from bench.systems import ROOT, Deployment, NotStarted, System, start_deployment, start_provider

__all__ = ["Soak", "Step", "capacity_of", "main", "soak"]

SHARE = 0.6
LATENCY = ("delta_p50_ms", "delta_p99_ms", "first_event_p50_ms")
MINUTES = 60.0
SAMPLE_SECONDS = 10.0
PROBLEMS_SHOWN_MAX = 10

FIRST_RATE = 4.0
FASTER_TIMES = 1.5
STEP_SECONDS = 8.0
STEPS_MAX = 20
FLAT_TIMES = 3.0
"""A step's median latency may be so many times that of the first, slowest, step."""
FLAT_MS = 3.0
"""And always so much more: a few wake-ups."""
DRAIN_SECONDS_MAX = 4.0
"""How long after the last session of a step has begun all must have ended: runs take less than one second."""

PROBES = re.compile(r"probes +http://127\.0\.0\.1:([0-9]+)/")


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried, and how it went."""

    rate: float
    p50: float
    drained: float
    """Seconds from the last begin to the last end."""
    problems: int

    def is_flat(self, first: Step) -> bool:
        """Whether the system was still at ease."""
        return (
            not self.problems
            and self.drained <= DRAIN_SECONDS_MAX
            and self.p50 <= max(FLAT_TIMES * first.p50, first.p50 + FLAT_MS)
        )


@dataclass(slots=True)
class Soak:
    """What a soak is of, and what came of it."""

    system: str
    rate: float
    samples: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Place:
    """What is loaded, and all that is looked at."""

    system: System
    provider: System
    processes: Processes
    broker: BrokerState | None
    data: Path | None
    machine: Machine

    async def sample(self) -> dict[str, float]:
        """Look at everything."""
        found = await self.processes.sample() | self.machine.sample()
        if self.broker is not None:
            found |= await self.broker.sample()
        if self.data is not None:
            found["database_mib"] = database_mib(self.data)
        return found


async def _load(place: Place, rate: float, seconds: float, window: float | None = None) -> Process:
    ports = ["--ports", str(place.system.port), "--provider", str(place.provider.port)]
    how = ["--rate", str(rate), "--seconds", str(seconds)] + ([] if window is None else ["--window", str(window)])
    command = [sys.executable, "-m", "bench.load", *ports, *how]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)


async def _step(place: Place, rate: float) -> Step:
    load = await _load(place, rate, STEP_SECONDS)
    said, _ = await load.communicate()
    window: dict[str, Any] = orjson.loads(said)
    step = Step(rate, window["delta_ms"].get("p50", 0.0), window["second"] - STEP_SECONDS, len(window["problems"]))
    say(f"{rate:.1f} sessions/s: p50 {step.p50:.2f} ms, drained in {step.drained:.1f} s, {step.problems} problems")
    return step


async def capacity_of(place: Place) -> float:
    """Find the greatest rate, in sessions a second, at which latency stays flat. Raises `NotStarted` without one."""
    await _step(place, FIRST_RATE)  # what is loaded and opened with the first sessions is in nobody's figure
    first = await _step(place, FIRST_RATE)
    if first.problems:
        raise NotStarted(f"at {FIRST_RATE} sessions a second not all runs were whole: nothing to measure")
    rate = FIRST_RATE
    for _ in range(STEPS_MAX):
        faster = rate * FASTER_TIMES
        # Once more if it fails: the machine may have been busy with something else.
        if not ((await _step(place, faster)).is_flat(first) or (await _step(place, faster)).is_flat(first)):
            break
        rate = faster
    say(f"capacity: {rate:.1f} sessions a second")
    return rate


async def soak(place: Place, into: Soak, seconds: float, window: float, file: TextIO) -> None:
    """Load at a steady rate and note what there is after each window. A signal ends it early, in order."""
    load = await _load(place, into.rate, seconds, window)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, load.terminate)
    sessions = 0
    assert load.stdout is not None
    await place.sample()  # from now on CPU is counted
    others = Others()
    async for line in load.stdout:
        client: dict[str, Any] = orjson.loads(line)
        sessions += client["began"]
        sample = {"second": client["second"], "sessions": float(sessions), **_of(client, window)}
        sample |= {**await place.sample(), OTHERS: others.cores}
        others = Others()
        into.problems += client["problems"]
        if client["began"]:  # the last window only waits for those that are open
            into.samples.append(sample)
            file.write(orjson.dumps(sample).decode() + "\n")
            file.flush()
    await load.wait()


def _of(client: dict[str, Any], window: float) -> dict[str, float]:
    found = {
        "per_second": client["ended"] / window,
        "open_sessions": float(client["left_open"]),
        "errors": float(len(client["problems"])),
        "client.cores": client["cpu_seconds"] / window,
    }
    for name, spread in (("delta", client["delta_ms"]), ("first_event", client["first_event_ms"])):
        found |= {f"{name}_{share}_ms": value for share, value in spread.items()}
    return found


@asynccontextmanager
async def _place(arguments: argparse.Namespace, folder: Path) -> AsyncGenerator[Place, None]:
    """Start what is soaked. Raises `NotStarted`."""
    with ExitStack() as stack:
        provider = stack.enter_context(start_provider(folder))
        embedded = arguments.system == "embedded"
        broker: Broker | None = None
        if not embedded:
            broker = start_broker(stack) if arguments.kafka == "start" else Broker(arguments.kafka)
        deployment = Deployment(arguments.system, provider, folder, broker.address if broker else None)
        system = start_deployment(stack, deployment)
        pids = {each.name.rpartition("-")[2]: each.popen.pid for each in system.processes}
        metrics = {"dev" if embedded else "gateway": system.port}
        for process in system.processes[:-1]:
            found = PROBES.search(process.log.with_suffix(".out").read_text())
            metrics |= {process.name.rpartition("-")[2]: int(found[1])} if found else {}
        if broker is not None and broker.pid is not None:
            pids["broker"] = broker.pid
        async with AsyncExitStack() as looking:
            state = None
            if broker is not None:
                state = await looking.enter_async_context(open_broker(broker.address, deployment.prefix))
            processes = Processes(pids, metrics)
            watched = looking.enter_context(open_machine(folder))
            yield Place(system, provider, processes, state, deployment.data if embedded else None, watched)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.steady", description=__doc__)
    parser.add_argument(
        "--system",
        choices=("embedded", "lanes", "kafka"),
        default="embedded",
        help="`playhead dev`, or a process a role on a broker: sessions in lanes, or in a topic each",
    )
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--share", type=float, default=SHARE, help="of the capacity")
    parser.add_argument("--rate", type=float, help="sessions a second, instead of a share of the capacity")
    parser.add_argument("--every", type=float, default=SAMPLE_SECONDS, help="seconds between two samples")
    parser.add_argument("--kafka", metavar="HOST:PORT", default="start", help="a broker; `start` starts one")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="only judge and draw the samples of an earlier soak")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for samples and plot")
    return parser.parse_args()


async def _soaked(arguments: argparse.Namespace, path: Path, about: dict[str, Any]) -> Soak:
    with tempfile.TemporaryDirectory(prefix="playhead-steady-") as folder:
        async with _place(arguments, Path(folder)) as place:
            capacity = None if arguments.rate else await capacity_of(place)
            rate = arguments.rate or arguments.share * (capacity or FIRST_RATE)
            into = Soak(arguments.system, rate)
            with path.open("w") as file:
                file.write(orjson.dumps({**about, "capacity": capacity, "rate": rate}).decode() + "\n")
                say(f"{arguments.system}: {rate:.1f} sessions a second for {arguments.minutes:g} minutes, into {path}")
                await soak(place, into, arguments.minutes * 60, arguments.every, file)
            return into


def _report(into: Soak, path: Path, minutes: float, others: str) -> tuple[list[str], bool]:
    verdicts = judged(into.samples, into.system)
    title = f"{into.system}: {into.rate:.1f} sessions a second for {minutes:g} minutes"
    path.with_suffix(".svg").write_text(drawn(title, series_of(into.samples)))
    lines = [title, "", "median (least–greatest) of the last two thirds, and growth over them", *map(str, verdicts)]
    shown: Sequence[str] = into.problems[:PROBLEMS_SHOWN_MAX]
    lines += ["", *(f"PROBLEM: {problem}" for problem in shown)]
    if len(into.problems) > len(shown):
        lines.append(f"PROBLEM: and {len(into.problems) - len(shown)} more")
    lines += _disturbed(into)
    silent = {kind for kind in LATENCY if all(each.name != kind for each in verdicts)}
    if silent:
        lines.append(f"not judged, for too few samples are left: {', '.join(sorted(silent))}")
    growing = [each.name for each in verdicts if not each.flat]
    sessions = into.samples[-1]["sessions"] if into.samples else 0
    lines.append(
        f"{sessions:.0f} sessions; " + (f"not flat: {', '.join(growing)}" if growing else "everything is flat")
    )
    lines += [others, f"samples and plot: {path}, {path.with_suffix('.svg').name}"]
    return lines, bool(verdicts) and not growing and not into.problems


def _disturbed(into: Soak) -> list[str]:
    """Say which samples do not count for latency and CPU, and why."""
    found: list[str] = []
    for name, most in LEFT_ALONE.items():
        beyond = [sample[name] for sample in into.samples if sample.get(name, 0.0) > most]
        if beyond:
            count = f"{len(beyond)} of {len(into.samples)}"
            found.append(f"{count} samples do not count for latency and CPU: {name} was up to {max(beyond):.3g}")
    return found


def _judge(path: Path) -> int:
    """Say of stored samples what was to be said at their end; of runs that were not whole only how many there were."""
    about, *samples = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    lines, sound = _report(Soak(about["system"], about["rate"], samples), path, about["minutes"], "")
    print("\n".join(lines))
    return 0 if sound else 1


def main() -> int:
    """Soak; exit with 1 if something grew or was not whole, or there was too little to say."""
    arguments, others, where = _arguments(), Others(), machine()
    if arguments.judge is not None:
        return _judge(arguments.judge)
    arguments.results.mkdir(exist_ok=True, parents=True)
    path: Path = arguments.results / f"steady-{arguments.system}-{where['at'].replace(':', '')}.jsonl"
    about = {"machine": where, "system": arguments.system, "minutes": arguments.minutes, "began": time.time()}
    try:
        into = asyncio.run(_soaked(arguments, path, about))
    except NotStarted as error:
        say(str(error))
        return 1
    lines, sound = _report(into, path, arguments.minutes, others.say())
    print("\n".join(lines))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
