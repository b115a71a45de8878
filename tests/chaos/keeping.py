"""Roles that are always there: whatever ends one, another is started in its place, as supervisors do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.processes import Process, Stage
from tests.history.lines import History

__all__ = ["Death", "Keeper", "all_serving", "roles"]

AGAIN_SECONDS = 0.3
"""Between an end and the next start. A role that finds no broker ends by itself."""
LINES_KEPT = 5_000
"""Of each process, for the file in the stage's folder that its log is written to."""
STOP_SECONDS = 40.0
"""A role may be asked to stop while it is frozen, or while no broker answers."""
GATEWAY, ORCHESTRATOR, WORKER = "gateway", "orchestrator", "worker"


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended and was not asked to."""

    who: str
    code: int
    has_served: bool
    last_words: str


@dataclass
class Keeper:
    """Keeps one process of a role running. `process` is the one that runs now, or that ran last."""

    name: str
    role: str
    arguments: Sequence[str]
    stage: Stage
    history: History
    process: Process | None = None
    deaths: list[Death] = field(default_factory=list[Death])
    starts: int = 0
    pids: dict[int, str] = field(default_factory=dict[int, str])
    _ended: Process | None = None
    _serving: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.arguments[-1]}"

    async def keep(self) -> None:
        """Keep it running until cancelled."""
        try:
            while True:
                await self._live()
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            if self.process is not None:
                self.process.signal(signal.SIGKILL)
                await self.process.exited()

    async def serving(self) -> None:
        """Wait until it serves."""
        await self._serving.wait()

    def kill(self) -> None:
        """End it as a power failure would, frozen or not."""
        self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has; one that does not is killed, and that counts as a death."""
        process = self._end(signal.SIGTERM)
        if process is None:
            return
        try:
            await process.exited(STOP_SECONDS)
        except TimeoutError:
            self.deaths.append(Death(self.name, 0, True, f"did not stop: {process.last_words()}"))
            process.signal(signal.SIGKILL)

    def freeze(self) -> Process | None:
        if self.process is not None:
            self.process.signal(signal.SIGSTOP)
        return self.process

    def _end(self, number: signal.Signals) -> Process | None:
        process = self._ended = self.process
        if process is not None:
            self._serving.clear()
            process.signal(number)
        return process

    async def _live(self) -> None:
        process = self.process = await Process.begin(
            self.name, [self.role, *self.arguments], {**self.stage.variables, "PLAYHEAD_WAIT": "20"}, LINES_KEPT
        )
        self.starts += 1
        self.pids[process.pid] = self.name
        if await process.serves():
            self.history.note(self.name, "ready")
            if process is not self._ended:
                self._serving.set()
        try:
            code = await process.exited(None)
        finally:
            with (self.stage.folder / f"{self.name}.log").open("a") as log:
                log.write(f"--- {process.pid}\n{process.words()}\n")
        self._serving.clear()
        if process is not self._ended:
            self.deaths.append(Death(self.name, code, process.has_served, process.last_words()))


def roles(stage: Stage, history: History, ports: Sequence[int]) -> list[Keeper]:
    """Give two keepers of each role, the gateways on these ports; none is started yet."""
    kafka = ("--kafka", stage.kafka)
    arguments = {
        ORCHESTRATOR: [(stage.app, *kafka)] * 2,
        WORKER: [(stage.app, *kafka)] * 2,
        GATEWAY: [(*kafka, "--port", str(port)) for port in ports],
    }
    return [
        Keeper(f"{role}-{number}", role, given, stage, history)
        for role, many in arguments.items()
        for number, given in enumerate(many, 1)
    ]


async def all_serving(keepers: Sequence[Keeper], seconds: float) -> None:
    """Wait until every role serves."""
    async with asyncio.timeout(seconds):
        for keeper in keepers:
            await keeper.serving()
