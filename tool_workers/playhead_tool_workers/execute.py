"""One call: its tries, one after the other, until one returns or no more are allowed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from playhead.commands import RunTool
from playhead.tools import Tool, ToolContext, ToolFailed
from structlog.stdlib import BoundLogger

from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Returned, Try, returned
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.reports import CallReports, Progress, jitter
from playhead_tool_workers.tries import Attempt, Tries

__all__ = ["Execution", "Slots"]


@dataclass(frozen=True, slots=True)
class Slots:
    """What a try holds while it runs: one of its tool's slots and one of the worker's."""

    worker: asyncio.Semaphore
    tool: asyncio.Semaphore

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None, None]:
        """Wait for both. The tool's comes first: a call that waits for it keeps no other tool from running."""
        async with self.tool, self.worker:
            yield


@dataclass(frozen=True, slots=True)
class Execution:
    """What one call takes to run. `began` is called once, when it has its first slot."""

    parts: WorkerParts
    limits: WorkerLimits
    tries: Tries
    slots: Slots
    tool: Tool[..., object]
    command: RunTool
    reports: CallReports
    progress: Progress
    began: Callable[[], None]
    log: BoundLogger

    async def run(self) -> Try:
        """Try until it works, until trying again cannot help, or until no tries are left."""
        try_number = 0
        while True:
            try_number += 1
            async with self.slots.held():
                if try_number == 1:
                    self.began()
                came = await self.tries.run(self._attempt(try_number))
            if isinstance(came, Returned) or not came.retryable or try_number > self.tool.retries:
                return came
            # The slot is free for others meanwhile; the call's heartbeats go on.
            await self._wait_after(try_number, came)

    async def _wait_after(self, try_number: int, came: Failed) -> None:
        delay_seconds = self.limits.retry.delay_seconds(try_number, jitter(self.parts.entropy))
        await self.reports.retry(try_number, delay_seconds, came.failure)
        await asyncio.sleep(delay_seconds)

    def _attempt(self, try_number: int) -> Attempt:
        over = threading.Event()
        seconds = self.tool.timeout_seconds
        now = datetime.fromtimestamp(self.parts.clock() / 1_000_000, UTC)
        running = _LiveTry(self.reports, self.progress, over, self.limits.result_bytes_max, seconds)
        context = ToolContext(
            session_id=self.command.session,
            call_id=self.command.call_id,
            idempotency_key=self.command.idempotency_key,
            try_number=try_number,
            deadline=now + timedelta(seconds=seconds),
            log=self.log.bind(tool=self.tool.name, try_number=try_number),
            running=running,
        )
        return Attempt(self.tool, self.command.input, context, over, self.log)


class _Noted:
    """What `progress` gives to await: there is nothing to wait for, so it only lets others run."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _LiveTry:
    """A try as its tool sees it. Any thread may ask."""

    def __init__(
        self, reports: CallReports, progress: Progress, over: threading.Event, bytes_max: int, seconds: float
    ) -> None:
        self._reports = reports
        self._progress = progress
        self._over = over
        self._bytes_max = bytes_max
        self._ends_at = time.monotonic() + seconds
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def cancelled(self) -> bool:
        return self._over.is_set()

    def remaining(self) -> float:
        return max(self._ends_at - time.monotonic(), 0.0)

    def progress(self, done: float, total: float | None, message: str | None) -> Awaitable[None]:
        if not self._over.is_set():
            self._progress.note(done, total, message)
        return _Noted()

    def emit(self, output: object) -> Awaitable[None]:
        if self._over.is_set():
            return _Noted()  # nobody listens any more
        came = returned(output, self._bytes_max)
        if isinstance(came, Failed):
            raise ToolFailed(f"emit: {came.message}")
        if threading.get_ident() == self._thread:
            return self._reports.chunk(came.output)
        # A thread waits here, so that what it emits cannot pile up.
        asyncio.run_coroutine_threadsafe(self._reports.chunk(came.output), self._loop).result(self.remaining())
        return _Noted()
