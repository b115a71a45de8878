"""Draws where the time of a system's processes goes while 200 sessions stream: a flame graph a process, by py-spy.

    pip install py-spy
    python -m bench.flame [--system embedded] [--kafka HOST:PORT] [--seconds 8] [--out FOLDER]

For each process it writes an SVG, and prints which of our own modules the samples went through most. A function's share
counts what it calls, so that shares overlap. What is sampled is who holds the interpreter: the kernel's work, and
waiting for the disk, are not in it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.systems import ROOT, start_provider, start_system

__all__ = ["main", "shares"]

SESSIONS = 200
WARM_SECONDS = 4.0
"""The model's SDK has loaded, and the first crowd is gone."""
BATCH_SECONDS = 1.5
SAMPLES_PER_SECOND = 200
SHOWN = 25
FRAME = re.compile(r"^(?P<name>.+) \((?P<file>[\w./<>-]+):\d+\)$")


def shares(folded: str) -> list[tuple[float, str]]:
    """Give for each function of ours the share of samples that it was on the stack of, the greatest first."""
    total, within = 0, Counter[str]()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        total += int(count)
        frames = (FRAME.match(frame) for frame in stack.split(";"))
        named = {f"{one['name']} ({one['file']})" for one in frames if one is not None and "playhead" in one["file"]}
        within.update(dict.fromkeys(named, int(count)))
    return [(count / total, name) for name, count in within.most_common()] if total else []


def record(pids: Sequence[tuple[str, int]], seconds: int, out: Path) -> None:
    """Sample processes side by side, as graphs and as stacks. Raises `subprocess.CalledProcessError`."""
    spies: list[subprocess.Popen[bytes]] = []
    for name, pid in pids:
        for form, ending in (("flamegraph", "svg"), ("raw", "txt")):
            file = str(out / f"flame-{name}.{ending}")
            command = [
                "py-spy",
                "record",
                "-d",
                str(seconds),
                "-r",
                "200",
                "--gil",
                "-f",
                form,
                "-o",
                file,
                "-p",
                str(pid),
            ]
            spies.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    for spy in spies:
        if spy.wait():
            raise subprocess.CalledProcessError(spy.returncode, spy.args)


def main(arguments: Sequence[str]) -> int:
    """Start a system, keep it busy, and draw it."""
    parser = argparse.ArgumentParser(prog="bench.flame", description=__doc__)
    parser.add_argument("--system", default="embedded", choices=("embedded", "kafka", "lanes", "plain"))
    parser.add_argument("--kafka")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    given = parser.parse_args(arguments)
    if shutil.which("py-spy", path=str(Path(sys.executable).parent)) is None and shutil.which("py-spy") is None:
        print("bench.flame needs py-spy: pip install py-spy", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playhead-bench-")))
        provider = stack.enter_context(start_provider(folder))
        system = stack.enter_context(start_system(given.system, provider, folder, given.kafka))
        time.sleep(WARM_SECONDS)
        ports = ["--port", str(system.port), "--provider", str(provider.port)]
        batches = str(int(given.seconds / BATCH_SECONDS) + 2)
        crowd = [sys.executable, "-m", "bench.client", *ports, "--agent", "crowd", "--sessions", str(SESSIONS)]
        subprocess.run([*crowd, "--repeat", "1"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        with subprocess.Popen([*crowd, "--repeat", batches], cwd=ROOT, stdout=subprocess.DEVNULL) as client:
            time.sleep(BATCH_SECONDS)
            named = [(f"{system.name}-{number}", one.popen.pid) for number, one in enumerate(system.processes)]
            record(named, given.seconds, given.out)
            client.wait()
    for name, _ in named:
        print(f"{given.out / f'flame-{name}.svg'}")
        for share, function in shares((given.out / f"flame-{name}.txt").read_text("utf-8"))[:SHOWN]:
            print(f"{share:6.1%}  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
