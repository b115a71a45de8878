"""Starts the systems under test as separate processes, waits until they serve, and counts the CPU time they use.

Every system is a port that takes `POST /v1/stream` and the processes behind it. They run with what their documentation
says to start them with, and nothing else: no setting here speaks of the benchmark.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = [
    "ROOT",
    "NotStarted",
    "Process",
    "System",
    "cpu_seconds_of",
    "free_port",
    "start_provider",
    "start_system",
    "system_names",
]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.02
LOG_TAIL_CHARACTERS = 2000


class NotStarted(Exception):
    """A process ended or stayed silent instead of becoming ready; the message holds what it last said."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process that was started here, and where what it says is written."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the process and all its children, those that have ended too."""
        return cpu_seconds_of(self.popen.pid)

    def wait_until(self, ready: str | int) -> None:
        """Wait for a line on its stdout that holds a word, or for its port. Raises `NotStarted`."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (_accepts(ready) if isinstance(ready, int) else ready in self._said()):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                ended = f"ended with {self.popen.returncode}" if self.popen.returncode is not None else "is not ready"
                raise NotStarted(f"{self.name} {ended}:\n{self._complaint()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the process in order, or not in order if it takes too long."""
        if self.popen.poll() is not None:
            return
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def _said(self) -> str:
        return self.log.with_suffix(".out").read_text(errors="replace")

    def _complaint(self) -> str:
        return (self._said() + self.log.read_text(errors="replace"))[-LOG_TAIL_CHARACTERS:]


@dataclass(frozen=True, slots=True)
class System:
    """A system under test: where it listens, and the processes that are counted as its own."""

    name: str
    port: int
    processes: Sequence[Process]

    @property
    def cpu_seconds(self) -> float:
        """What all its processes have used until now."""
        return sum(process.cpu_seconds for process in self.processes)


def system_names() -> tuple[str, ...]:
    """Name what can be measured; the first is the reference of the others."""
    return ("plain", "embedded", "kafka", "memory", "floor")


@contextmanager
def start_provider(folder: Path) -> Generator[System, None, None]:
    """Start the fake model server."""
    port = free_port()
    with ExitStack() as stack:
        process = _launch(stack, "provider", [sys.executable, "-m", "bench.provider", "--port", str(port)], folder)
        process.wait_until("ready")
        yield System("provider", port, [process])


@contextmanager
def start_system(name: str, provider: System, folder: Path, kafka: str | None) -> Generator[System, None, None]:
    """Start one of `system_names` with the fake as its model, and wait until it serves. Raises `NotStarted`."""
    if name == "floor":
        yield System(name, provider.port, provider.processes)
        return
    port = free_port()
    model = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{provider.port}", "ANTHROPIC_API_KEY": "bench"}
    with ExitStack() as stack:
        processes: list[Process] = []
        for command, environment, ready in _commands(name, port, folder, kafka):
            process = _launch(stack, f"{name}-{len(processes)}", command, folder, model | environment)
            processes.append(process)
            process.wait_until(ready)
        processes[-1].wait_until(port)
        yield System(name, port, processes)


def _commands(
    name: str, port: int, folder: Path, kafka: str | None
) -> list[tuple[list[str], dict[str, str], str | int]]:
    """Give what to start, in order: command, environment, and the sign that it serves."""
    playhead = str(Path(sys.executable).with_name("playhead"))
    listen = ["--port", str(port)]
    if name in {"plain", "memory"}:
        return [([sys.executable, "-m", f"bench.{name}", *listen], {}, port)]
    if name == "embedded":
        data = ["--data", str(folder / "data")]
        return [([playhead, "dev", "bench.app", *listen, *data], {}, "ready")]
    if kafka is None:
        raise NotStarted("kafka: name a broker with --kafka HOST:PORT, or let one be started with --kafka start")
    deployment = {
        "PLAYHEAD_TOPIC_PREFIX": f"bench-{secrets.token_hex(4)}",
        "PLAYHEAD_LEASE_SECRET": secrets.token_hex(16),
        "PLAYHEAD_METRICS_PORT": "0",
    }
    broker = ["--kafka", kafka]
    return [
        ([playhead, "orchestrator", "bench.app", *broker], deployment, "ready"),
        ([playhead, "worker", "bench.app", *broker], deployment, "ready"),
        ([playhead, "gateway", *broker, *listen], deployment, "ready"),
    ]


def _launch(
    stack: ExitStack, name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Process:
    log = folder / f"{name}.log"
    # A proxy in the environment is for the internet: it would stand between the system and its model.
    surroundings = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as err, log.with_suffix(".out").open("wb") as out:
        popen = subprocess.Popen(
            command, cwd=ROOT, env=surroundings | (environment or {}), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    process = Process(name, popen, log)
    stack.callback(process.stop)
    return process


def cpu_seconds_of(pid: int) -> float:
    """Count user and system time of a process and all its children, those that have ended too."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    return sum(
        times.user + times.system + times.children_user + times.children_system
        for times in (member.cpu_times() for member in family)
    )


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
