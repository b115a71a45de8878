"""Times how long programs take to begin, from outside, and holds them to the targets of the design.

    python -m bench.starting [--rounds 5]

From when a program is started until it has written what a user waits for. What is on the disk is warm: each is started
once before it counts. Exits with 1 if a median misses its target.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.machine import machine, store
from bench.systems import PLAYHEAD, ROOT, NotStarted

__all__ = ["Start", "main", "seconds_until"]

ROUNDS = 5
SECONDS_MAX = 30.0
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Start:
    """One way to begin: the arguments, what is written when it has begun, and the most seconds that may take."""

    title: str
    arguments: Sequence[str]
    sign: bytes
    seconds_max: float


STARTS = (
    Start("`playhead --version`", ["--version"], b"\n", 0.3),
    Start("`playhead dev` until it is ready", ["dev", "--port", "0"], b"ready", 1.0),
    Start("`playhead demo` until its first token", ["demo"], b"Two tools", 2.0),
)


def seconds_until(command: Sequence[str], sign: bytes, folder: Path) -> float:
    """Start a program in a folder, wait until it writes `sign`, end it. Raises `NotStarted`."""
    began = time.monotonic()
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1"}
    program = subprocess.Popen(command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert program.stdout is not None
    try:
        os.set_blocking(program.stdout.fileno(), True)
        said = b""
        while sign not in said:
            more = os.read(program.stdout.fileno(), CHUNK_BYTES)
            if not more or time.monotonic() - began > SECONDS_MAX:
                raise NotStarted(f"{' '.join(command)} did not say {sign.decode()!r}:\n{said.decode(errors='replace')}")
            said += more
        return time.monotonic() - began
    finally:
        # And those that it started: who is ended by a signal does not end them. It first, or it starts them again.
        started = psutil.Process(program.pid).children(recursive=True)
        program.terminate()
        program.communicate()
        for member in started:
            with suppress(psutil.NoSuchProcess):
                member.terminate()


def main() -> int:
    """Time each start; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.starting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    where = machine()
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for start in STARTS:
            with tempfile.TemporaryDirectory(prefix="playhead-start-") as folder:
                seconds = seconds_until([PLAYHEAD, *start.arguments], start.sign, Path(folder))
            if number:
                found.setdefault(start.title, []).append(seconds)
    print("| what | target | median (least–greatest) of so many starts |", "|---|---|---|", sep="\n")
    missed = False
    for start in STARTS:
        taken = found[start.title]
        middle = median(taken)
        missed = missed or middle > start.seconds_max
        verdict = "" if middle <= start.seconds_max else ", **missed**"
        spread = f"{middle:.2f} s ({min(taken):.2f}–{max(taken):.2f}) of {len(taken)}{verdict}"
        print(f"| {start.title} | {start.seconds_max:g} s | {spread} |")
    path = store("starting", where, {"machine": where, "seconds": found})
    print("", f"the load before was {where['load_before']}; stored in {path.relative_to(ROOT)}", sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
