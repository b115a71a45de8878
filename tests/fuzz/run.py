"""Runs fuzz targets for long: with coverage as the guide where atheris is installed, else by chance alone.

    python -m tests.fuzz.run [--seconds 60] [--seed 1] [--plain] [TARGET ...]

An input that breaks something is kept as a file and its name printed: once mended, move it to `tests/fuzz/corpus`.
Each target has a process of its own, since atheris ends the one that it runs in.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import structlog

FOUND = Path(".cache/fuzz")
"""Where inputs that break something are put."""

PACKAGES = ["playhead", "playhead_gateway", "playhead_orchestrator", "playhead_tool_workers"]
RSS_MB_MAX = 2_000


def main(arguments: Sequence[str]) -> int:
    """Run the targets that are named, or all, one after the other; give how many found something."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("PLAYHEAD_FUZZ_SECONDS", "60")))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="by chance alone, even where atheris is installed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    guided = not given.plain and importlib.util.find_spec("atheris") is not None
    if given.here:
        quiet()
        (_guided if guided else _plain)(given.targets[0], given.seconds, given.seed)
        return 0
    from tests.fuzz.surfaces import TARGETS  # noqa: PLC0415 - atheris must see the imports first

    failed = 0
    for name in given.targets or [target.name for target in TARGETS]:
        how = [f"--seconds={given.seconds}", f"--seed={given.seed}", *(["--plain"] if given.plain else [])]
        ended = subprocess.run([sys.executable, "-m", "tests.fuzz.run", "--here", *how, name], check=False)
        failed += ended.returncode != 0
    return failed


def quiet() -> None:
    """Have nothing logged: what is refused here is refused very often."""
    logging.lastResort = None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _plain(name: str, seconds: float, seed: int) -> None:
    from tests.fuzz.surfaces import named  # noqa: PLC0415 - as in `main`
    from tests.fuzz.target import bounded  # noqa: PLC0415

    target, count, began = named(name), 0, time.monotonic()
    with bounded(target) as run:
        for data in target.inputs(Random(f"{seed} {name}")):
            try:
                run(data)
            except BaseException:
                _keep(name, data)
                raise
            count += 1
            if time.monotonic() - began > seconds:
                break
    _told(name, count, time.monotonic() - began, "by chance")


def _guided(name: str, seconds: float, seed: int) -> None:
    import atheris  # pyright: ignore[reportMissingImports] # noqa: PLC0415 - only where it is installed

    fuzzer: Any = atheris
    with fuzzer.instrument_imports(include=PACKAGES):
        from tests.fuzz.surfaces import named  # noqa: PLC0415 - as in `main`
        from tests.fuzz.target import bounded, regressions  # noqa: PLC0415
    from tests.fuzz.mutate import mutated  # noqa: PLC0415

    target, began = named(name), time.monotonic()
    seeds = [*target.seeds(), *regressions(name)]
    count = 0
    with tempfile.TemporaryDirectory() as folder, bounded(target) as run:
        for data in seeds:
            (Path(folder) / sha256(data).hexdigest()[:16]).write_bytes(data)

        def one(data: bytes) -> None:
            nonlocal count
            count += 1
            try:
                run(data)
            except BaseException:  # noqa: BLE001 - libFuzzer does not come back from a failure
                traceback.print_exc()
                _keep(name, data)
                _told(name, count, time.monotonic() - began, "guided")
                sys.stderr.flush()
                os._exit(1)
            if time.monotonic() - began > seconds:
                _told(name, count, time.monotonic() - began, "guided")
                sys.stdout.flush()
                os._exit(0)

        def other(data: bytes, most: int, chosen: int) -> bytes:
            chance = Random(chosen)
            if chance.random() < 0.3:
                return fuzzer.Mutate(data, most)
            return mutated(chance, data, seeds, most=min(most, target.input_bytes_max))

        options = [
            f"-max_len={target.input_bytes_max}",
            f"-rss_limit_mb={RSS_MB_MAX}",
            "-print_final_stats=0",
            "-verbosity=0",
        ]
        fuzzer.Setup([sys.argv[0], *options, f"-seed={seed}", folder], one, custom_mutator=other)
        fuzzer.Fuzz()


def _keep(name: str, data: bytes) -> None:
    place = FOUND / name
    place.mkdir(parents=True, exist_ok=True)
    path = place / sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    print(f"{name}: broken by {path} ({len(data)} bytes): {data[:200]!r}", file=sys.stderr)  # noqa: T201


def _told(name: str, count: int, seconds: float, how: str) -> None:
    print(f"{name:24} {count:9,} inputs {how} in {seconds:5.0f} s: {count / seconds:8,.0f} a second", flush=True)  # noqa: T201


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
