"""What many viewers cost, and what they notice of each other: a gateway beside a server that has its frames in a list.

  one      many viewers of one session that is written 200 times a second
  many     many sessions, each written twice a second, each with one viewer
  stalled  one session, half of its viewers connected and never reading; then those read on, or are cut off and resume

Each with many and with 10, on the reference and on Playhead (SQLite in one process; or a real Kafka with the gateway as
a process of its own, and the broker beside it). A run starts its own servers, and its own broker. Latency is from the
moment when a delta was due to be appended to the moment when a viewer's socket gave it (`writing.py`, `watching.py`).
"""

from __future__ import annotations

import argparse
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.machine import Others, store
from bench.systems import ROOT, Process, cpu_seconds_of, free_port
from bench.viewing import Case, Figures, table

__all__ = ["main", "measure"]

FEW = 10
ANSWER_SECONDS_MAX = 150.0
END_SECONDS_MAX = 20.0
SAMPLE_SECONDS = 0.1
MIB = 1024 * 1024
STALLED_PADDING = 12_000
"""How much longer a delta is when viewers stall: what is buffered for each connection must run full."""
BUSY_CORES = 0.9
"""A client that uses more of its core than this may be what is measured."""


class Program:
    """One of the benchmark's own programs, asked by lines."""

    def __init__(self, stack: ExitStack, module: str, *arguments: str) -> None:
        environment = {**os.environ, "ANTHROPIC_API_KEY": "bench"}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(self._end)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._popen.pid

    def ask(self, asked: object) -> None:
        """Say a line."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(orjson.dumps(asked) + b"\n")
        self._popen.stdin.flush()

    def answer(self, watched: int | None = None) -> tuple[Any, float]:
        """Wait for a line; give it, and the most memory that a process took meanwhile."""
        assert self._popen.stdout is not None
        peak, until = 0.0, time.monotonic() + ANSWER_SECONDS_MAX
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            while not selector.select(SAMPLE_SECONDS):
                if watched is not None:
                    peak = max(peak, rss_mib(watched))
                if time.monotonic() > until:
                    raise TimeoutError("a program of the benchmark does not answer")
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError("a program of the benchmark has ended: see above")
        return orjson.loads(line), peak

    def _end(self) -> None:
        with self._popen as popen:
            assert popen.stdin is not None
            popen.stdin.close()
            try:
                popen.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                popen.kill()


def rss_mib(pid: int) -> float:
    """Give a process's resident memory."""
    return psutil.Process(pid).memory_info().rss / MIB


def measure(case: Case, kafka: str | None = None) -> Figures:
    """Start what a case needs, and run it once; on Kafka, with a broker of its own unless one is given."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playhead-bench-")))
        writing, server, port = _start(case, folder, stack, kafka)
        said, _ = writing.answer()
        sessions = said["sessions"]
        watching = Program(stack, "watching")
        before = rss_mib(server)
        watching.ask({"do": "open", "port": port, "sessions": sessions, "each": case.viewers})
        watching.answer()
        if case.stalled:
            watching.ask({"do": "open", "port": port, "sessions": sessions, "each": case.stalled, "stalled": True})
            watching.answer()
        opened = rss_mib(server)
        used, began = cpu_seconds_of(server), time.monotonic()
        writing.ask(case.seconds)
        written, peak = writing.answer(server)
        last = dict(zip(sessions, written["last"], strict=True))
        watching.ask({"do": "report", "last": last})
        report, peak_after = watching.answer(server)
        used, wall = cpu_seconds_of(server) - used, time.monotonic() - began
        later = None
        if case.stalled:
            watching.ask({"do": "read on", "last": last})
            later, _ = watching.answer()
        written.pop("last")
        return Figures(case, report, written, used, used / wall, before, opened, max(peak, peak_after, opened), later)


def _start(case: Case, folder: Path, stack: ExitStack, kafka: str | None) -> tuple[Program, int, int]:
    """Give the program that writes, the process that serves, and its port."""
    port = free_port()
    common = ["--sessions", str(case.sessions), "--rate", str(case.rate), "--padding", str(case.padding)]
    if case.system != "kafka":
        place = ["--into", case.system, "--port", str(port), "--folder", str(folder)]
        writing = Program(stack, "writing", *place, *common)
        return writing, writing.pid, port
    bootstrap, prefix = kafka or _start_broker(stack), f"bench-{secrets.token_hex(4)}"
    writing = Program(stack, "writing", "--into", "kafka", "--kafka", bootstrap, "--prefix", prefix, *common)
    playhead = str(Path(sys.executable).with_name("playhead"))
    log = folder / "gateway.log"
    with log.open("wb") as err, log.with_suffix(".out").open("wb") as out:
        popen = subprocess.Popen(
            [playhead, "gateway", "--kafka", bootstrap, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "PLAYHEAD_TOPIC_PREFIX": prefix},
            stdout=out,
            stderr=err,
        )
    process = Process("gateway", popen, log)
    stack.callback(process.stop)
    process.wait_until("ready")
    return writing, popen.pid, port


def _start_broker(stack: ExitStack) -> str:
    broker = stack.enter_context(
        subprocess.Popen([sys.executable, "-m", "tests.support.broker"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    )
    stack.callback(broker.terminate)
    assert broker.stdout is not None
    return broker.stdout.readline().strip()


def cases(arguments: argparse.Namespace) -> list[Case]:
    """List what is measured: of each scenario, all systems, with few and with many."""
    systems, seconds, chosen = arguments.systems.split(","), arguments.seconds, arguments.only.split(",")
    found: list[Case] = []
    if "one" in chosen:
        for viewers in (FEW, arguments.viewers):
            found += [Case("one", system, 1, viewers, arguments.rate, seconds) for system in systems]
    if "many" in chosen:
        for sessions in (FEW, arguments.sessions):
            found += [Case("many", system, sessions, 1, arguments.session_rate, seconds) for system in systems]
    if "stalled" in chosen:
        for stalled in (0, arguments.stalled):
            found += [
                Case("stalled", system, 1, arguments.stalled, arguments.stalled_rate, seconds, stalled, STALLED_PADDING)
                for system in systems
                if system != "memory"  # the reference has no bound for a viewer that does not read
            ]
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.viewers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 3 s, with 200 instead of 1,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each run is written for")
    parser.add_argument("--viewers", type=int, default=1000, help="of the one session")
    parser.add_argument("--sessions", type=int, default=1000, help="with one viewer each")
    parser.add_argument("--stalled", type=int, default=200, help="and as many that read")
    parser.add_argument("--rate", type=float, default=200.0, help="deltas a second of the one session")
    parser.add_argument("--session-rate", type=float, default=2.0, help="of each of many sessions")
    parser.add_argument("--stalled-rate", type=float, default=50.0, help="of the session with stalled viewers")
    parser.add_argument("--systems", default="memory,sqlite,kafka")
    parser.add_argument("--only", default="one,many,stalled")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--json", action="store_true", help="print what would otherwise only be stored")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 3.0
        arguments.viewers, arguments.sessions = min(200, arguments.viewers), min(200, arguments.sessions)
    return arguments


def main() -> int:
    """Run the benchmark; exit with 1 if anything was lost or repeated."""
    arguments = _arguments()
    planned = cases(arguments)
    all_figures: list[Figures] = []
    others = Others()
    for number in range(arguments.rounds):
        # Every other round the other way, so that a machine that gets slower meanwhile does so to all of them.
        for case in planned if number % 2 == 0 else planned[::-1]:
            print(f"round {number + 1} of {arguments.rounds}: {case.title}, {case.system}", file=sys.stderr, flush=True)
            all_figures.append(measure(case))
    problems = [problem for figures in all_figures for problem in figures.problems]
    notes = [
        f"{figures.case.system}, {figures.case.title}: the client used {figures.report['client_cores']:.2f} cores"
        for figures in all_figures
        if figures.report["client_cores"] > BUSY_CORES
    ]
    notes.append(others.say())
    shown, missed = table(sorted(all_figures, key=lambda each: planned.index(each.case)))
    stored = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "figures": [asdict(figures) for figures in all_figures],
        "problems": problems,
        "missed": missed,
        "notes": notes,
    }
    path = store("viewers", stored, stored)
    if arguments.json:
        print(path.read_text())
    else:
        print("\n".join([shown, *notes, *(f"PROBLEM: {problem}" for problem in problems)]))
        print(f"stored in {path.relative_to(ROOT)}")
    return 1 if problems or (arguments.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
