"""The system under test as real processes: started, watched, killed, frozen and always reaped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil

from tests.chaos.app import JOURNAL
from tests.chaos.scenario import PACE_SECONDS, SCENARIO
from tests.history.folding import Event

__all__ = ["EXIT_SECONDS", "Process", "Stage"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
EXIT_SECONDS = 15.0
"""More than the grace, and than what closing takes after it."""
LINES_KEPT = 60
POLL_SECONDS = 0.05

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Process:
    """A `playhead` process, what it printed and logged, and the port of the first address that it printed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, lines_kept: int = LINES_KEPT) -> None:
        self.name = name
        self.port = 0
        self.printed: deque[str] = deque(maxlen=lines_kept)
        self.logged: deque[str] = deque(maxlen=lines_kept)
        self.has_served = False
        self._process = process
        self._ready = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        # both end with the process, and are awaited in `exited`
        self._listening = (
            asyncio.create_task(self._listen(process.stdout, self._print)),
            asyncio.create_task(self._listen(process.stderr, self.logged.append)),
        )

    @classmethod
    async def begin(
        cls, name: str, arguments: Sequence[str], variables: Mapping[str, str], lines_kept: int = LINES_KEPT
    ) -> Process:
        """Start it, without waiting for anything."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "playhead_cli", *arguments),
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(name, process, lines_kept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def ready(self) -> None:
        """Wait until it says that it serves; fail with its last words if it does not."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            await self.kill()
        assert self.is_running, f"{self.name} did not become ready: {self.last_words()}"

    async def serves(self) -> bool:
        """Wait until it says that it serves, or has ended without."""
        await self._ready.wait()
        return self.has_served

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stopped(self, seconds: float = EXIT_SECONDS) -> None:
        """Wait until it has stopped, as SIGSTOP has it."""
        watched = psutil.Process(self.pid)
        async with asyncio.timeout(seconds):
            while watched.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)  # the system tells nobody

    async def exited(self, seconds: float | None = EXIT_SECONDS) -> int:
        """Wait for its end and give its exit code."""
        async with asyncio.timeout(seconds):
            code = await self._process.wait()
            await asyncio.gather(*self._listening)
        return code

    async def kill(self) -> None:
        """End it as a power cut would, frozen or not."""
        self.signal(signal.SIGKILL)
        await self.exited()

    async def stop(self) -> int:
        """Ask it to stop, and give its exit code."""
        self.signal(signal.SIGTERM)
        return await self.exited()

    def words(self) -> str:
        """Give what is kept of what it printed and logged."""
        return "\n".join((*self.printed, *self.logged))

    def last_words(self) -> str:
        return self.words()[-6_000:]

    def _print(self, line: str) -> None:
        self.printed.append(line)
        found = ADDRESS.search(line)
        if found and not self.port:
            self.port = int(found[1])
        if line.startswith("ready in "):
            self.has_served = True
            self._ready.set()

    async def _listen(self, pipe: asyncio.StreamReader, hear: Callable[[str], None]) -> None:
        async for line in pipe:
            hear(line.decode(errors="replace").rstrip())
        self._ready.set()


@dataclass
class Stage:
    """The processes of one test, with the scenario, the journal and the topics that they share."""

    folder: Path
    kafka: str = ""
    app: str = "tests.chaos.app"
    scenario: Sequence[Mapping[str, object]] = field(default_factory=lambda: SCENARIO)
    prefix: str = field(default_factory=lambda: f"chaos-{uuid4().hex[:12]}")
    variables: dict[str, str] = field(default_factory=dict[str, str])
    processes: list[Process] = field(default_factory=list[Process])

    def __post_init__(self) -> None:
        scenario = self.folder / "scenario.json"
        scenario.write_text(json.dumps(self.scenario))
        self.journal = self.folder / "journal"
        self.journal.touch()
        given = {
            "PLAYHEAD_SCENARIO": str(scenario),
            "PLAYHEAD_SCRIPTED_PACE": str(PACE_SECONDS),
            "PLAYHEAD_TOPIC_PREFIX": self.prefix,
            "PLAYHEAD_LEASE_SECRET": self.prefix,
            "PLAYHEAD_METRICS_PORT": "-1",
            "PLAYHEAD_SESSION_TIMEOUT_SECONDS": "6",
            "PLAYHEAD_GRACE_SECONDS": "5",
            JOURNAL: str(self.journal),
            "PYTHONUNBUFFERED": "1",
        }
        self.variables = given | self.variables

    def pace(self, seconds: float) -> None:
        """Set how long the model takes for each delta, in the processes that are started from now on."""
        self.variables["PLAYHEAD_SCRIPTED_PACE"] = str(seconds)

    async def dev(self, port: int = 0, variables: Mapping[str, str] | None = None) -> Process:
        """Start everything in one process, on this stage's data folder; `variables` are for this process alone."""
        flags = ("--port", str(port), "--data", str(self.folder))
        return await self._start("dev", "dev", self.app, *flags, variables=variables)

    async def orchestrator(self, variables: Mapping[str, str] | None = None) -> Process:
        return await self._start("orchestrator", "orchestrator", self.app, "--kafka", self.kafka, variables=variables)

    async def worker(self, concurrency: int = 32, variables: Mapping[str, str] | None = None) -> Process:
        flags = ("--kafka", self.kafka, "--concurrency", str(concurrency))
        return await self._start("worker", "worker", self.app, *flags, variables=variables)

    async def gateway(self, port: int = 0) -> Process:
        return await self._start("gateway", "gateway", "--kafka", self.kafka, "--port", str(port))

    async def roles(self) -> tuple[Process, Process, Process]:
        """Start one of each: orchestrator, worker, gateway."""
        return await asyncio.gather(self.orchestrator(), self.worker(), self.gateway())

    def owner_in(self, events: Sequence[Event]) -> Process:
        """Find the process that owns a session, by the last `owner_changed` of its events."""
        owner = [event["owner"] for event in events if event["type"] == "owner_changed"][-1]
        return next(process for process in self.processes if f"-{process.pid}-" in owner)

    def noted(self, what: str, session: str = "") -> list[tuple[int, float]]:
        """Give which calls (of one session, or of all) a tool noted as `begun` or `done`, and when, in order."""
        lines = (line.split() for line in self.journal.read_text().splitlines())
        return [(int(line[1]), float(line[3])) for line in lines if line[0] == what and session in ("", line[2])]

    async def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        for process in self.processes:
            process.signal(signal.SIGKILL)
        for process in self.processes:
            await process.exited()

    def last_words(self) -> str:
        return "\n\n".join(f"--- {process.name} {process.pid}\n{process.last_words()}" for process in self.processes)

    async def _start(self, name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Process:
        process = await Process.begin(name, arguments, {**self.variables, **(variables or {})})
        self.processes.append(process)
        await process.ready()
        return process
