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
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playhead.settings import Settings

__all__ = [
    "PLAYHEAD",
    "ROOT",
    "Deployment",
    "NotStarted",
    "Process",
    "Role",
    "System",
    "cpu_seconds_of",
    "free_port",
    "has_lanes",
    "start_deployment",
    "start_provider",
    "start_system",
    "system_names",
]

ROOT = Path(__file__).resolve().parent.parent
PLAYHEAD = str(Path(sys.executable).with_name("playhead"))
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


@dataclass(frozen=True, slots=True)
class Role:
    """One process of a system, as it is started: the command, what is in its environment, the sign that it serves."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: str | int


class Deployment:
    """What a system is started from; its parts can be started again, and more than once, on the same data."""

    def __init__(self, name: str, provider: System, folder: Path, kafka: str | None = None, wire: str = "anthropic"):
        self.name = name
        self.port = free_port()
        self.prefix = f"bench-{secrets.token_hex(4)}"
        self.data = folder / f"data-{self.prefix}"
        self._provider = provider
        self._folder = folder
        self._kafka = kafka
        self._wire = wire
        self._secret = secrets.token_hex(16)

    def roles(self, port: int | None = None) -> list[Role]:
        """Give what to start, in order; the last one listens. Raises `NotStarted`."""
        port = port or self.port
        listen = ["--port", str(port)]
        if self.name in {"plain", "memory"}:
            module = f"bench.{self.name}" + ("_openai" if self._wire == "openai" else "")
            return [Role("server", [sys.executable, "-m", module, *listen], {}, port)]
        if self.name == "embedded":
            command = [PLAYHEAD, "dev", "bench.app", *listen, "--data", str(self.data)]
            return [Role("dev", command, {}, "ready")]
        if self._kafka is None:
            raise NotStarted(f"{self.name} needs a broker: --kafka start, or --kafka HOST:PORT")
        environment = {
            "PLAYHEAD_TOPIC_PREFIX": self.prefix,
            "PLAYHEAD_LEASE_SECRET": self._secret,
            "PLAYHEAD_METRICS_PORT": "0",
            **_placement(self.name),
        }
        broker = ["--kafka", self._kafka]
        return [
            Role("orchestrator", [PLAYHEAD, "orchestrator", "bench.app", *broker], environment, "ready"),
            Role("worker", [PLAYHEAD, "worker", "bench.app", *broker], environment, "ready"),
            Role("gateway", [PLAYHEAD, "gateway", *broker, *listen], environment, "ready"),
        ]

    def start(self, stack: ExitStack, role: Role) -> Process:
        """Start one process; the stack ends it. It need not serve yet."""
        provider = f"http://127.0.0.1:{self._provider.port}"
        model = {
            "ANTHROPIC_BASE_URL": provider,
            "ANTHROPIC_API_KEY": "bench",
            "OPENAI_BASE_URL": f"{provider}/v1",
            "OPENAI_API_KEY": "bench",
            "BENCH_WIRE": self._wire,
        }
        name = f"{self.name}-{role.name}"
        return _launch(stack, name, role.command, self._folder, {**model, **role.environment})


def _placement(name: str) -> dict[str, str]:
    """Give the setting that tells the two placements of sessions on Kafka apart. Raises `NotStarted`."""
    if name != "lanes":
        return {}
    if not has_lanes():
        raise NotStarted("lanes: this Playhead has no setting PLAYHEAD_KAFKA_PLACEMENT")
    return {"PLAYHEAD_KAFKA_PLACEMENT": "lanes"}


def has_lanes() -> bool:
    """Say whether this Playhead can place sessions in lanes."""
    return "kafka_placement" in Settings.model_fields


def system_names() -> tuple[str, ...]:
    """Name what can be measured; the first is the reference of the others."""
    return ("plain", "memory", "embedded", "kafka", "lanes", "floor")


@contextmanager
def start_provider(folder: Path) -> Generator[System, None, None]:
    """Start the fake model server."""
    port = free_port()
    with ExitStack() as stack:
        process = _launch(stack, "provider", [sys.executable, "-m", "bench.provider", "--port", str(port)], folder)
        process.wait_until("ready")
        yield System("provider", port, [process])


@contextmanager
def start_system(
    name: str, provider: System, folder: Path, kafka: str | None, wire: str = "anthropic"
) -> Generator[System, None, None]:
    """Start one of `system_names` with the fake as its model, and wait until it serves. Raises `NotStarted`."""
    if name == "floor":
        yield System(name, provider.port, provider.processes)
        return
    with ExitStack() as stack:
        yield start_deployment(stack, Deployment(name, provider, folder, kafka, wire))


def start_deployment(stack: ExitStack, deployment: Deployment) -> System:
    """Start all its processes, one after another, and wait until it serves. Raises `NotStarted`."""
    processes: list[Process] = []
    for role in deployment.roles():
        processes.append(deployment.start(stack, role))
        processes[-1].wait_until(role.ready)
    processes[-1].wait_until(deployment.port)
    return System(deployment.name, deployment.port, processes)


def _launch(
    stack: ExitStack, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Process:
    log = folder / f"{name}-{secrets.token_hex(3)}.log"
    # A proxy in the environment is for the internet: it would stand between the system and its model.
    surroundings = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as err, log.with_suffix(".out").open("wb") as out:
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**surroundings, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
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
