"""A try as its tool sees it: what it may ask and say while it runs. Any thread may use it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import dataclass

from playhead.commands import ReportResult, RunTool
from playhead.content import Completed
from playhead.errors import Misconfigured
from playhead.events import Json
from playhead.leases import read_ticket
from playhead.tools import ToolFailed

from playhead_tool_workers.outcome import Failed, Redact, Try, failed, returned
from playhead_tool_workers.reports import CallReports, Progress, Sender
from playhead_tool_workers.sandbox import Sandboxes
from playhead_tool_workers.tries import Attempt

__all__ = ["LiveTry", "Reaching", "ticket_of"]


@dataclass(frozen=True, slots=True)
class Reaching:
    """What tools reach through a try: the owners of other calls, and the sandbox. `output_bytes_max` bounds a part."""

    sender: Sender
    sandboxes: Sandboxes
    output_bytes_max: int
    redact: Redact


class _Noted:
    """What `progress` gives to await: there is nothing to wait for, so it only lets others run."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class LiveTry:
    """One try. `chunks` is what it has emitted so far, for when nothing more comes; together no more than a result."""

    def __init__(
        self, reports: CallReports, progress: Progress, reaching: Reaching, attempt: Attempt, seconds: float
    ) -> None:
        self.chunks: list[Json] = []
        self._room = reaching.output_bytes_max
        self._reports = reports
        self._progress = progress
        self._reaching = reaching
        self._attempt = attempt
        self._ends_at = time.monotonic() + seconds
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def cancelled(self) -> bool:
        """Whether the tool should come to an end."""
        return self._attempt.asked.is_set()

    def remaining(self) -> float:
        """Tell how many seconds are left."""
        return max(self._ends_at - time.monotonic(), 0.0)

    def progress(self, done: float, total: float | None, message: str | None) -> Awaitable[None]:
        """Note progress."""
        if not self._attempt.over.is_set():
            self._progress.note(done, total, message)
        return _Noted()

    def emit(self, output: object) -> Awaitable[None]:
        """Publish a part of the output. Raises `ToolFailed` for what JSON cannot carry."""
        if self._attempt.over.is_set():
            return _Noted()  # nobody listens any more
        came = returned(output, self._reaching.output_bytes_max)
        if isinstance(came, Failed):
            raise ToolFailed(f"emit: {came.message}")
        if threading.get_ident() == self._thread:
            self._remember(came.output)
            return self._reports.chunk(came.output)
        # A thread waits here, so that what it emits cannot pile up.
        self._loop.call_soon_threadsafe(self._remember, came.output)
        asyncio.run_coroutine_threadsafe(self._reports.chunk(came.output), self._loop).result(self.remaining())
        return _Noted()

    async def run(self, argv: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Completed:
        """Run a command in the tool's sandbox."""
        tool = self._attempt.tool
        if tool.sandbox is None:
            raise Misconfigured(f"tool {tool.name} runs a command and declares no sandbox: @tool(sandbox=True)")
        return await self._reaching.sandboxes.run(argv, tool.sandbox, seconds=self.remaining(), stdin=stdin, env=env)

    async def deliver(self, ticket: str, output: object, error: str | None) -> None:
        """Report the result of the pending call that a ticket is for.

        Raises `Invalid` for what is no ticket, `ToolFailed` for what JSON cannot carry.
        """
        session, call_id, lease = read_ticket(ticket)
        came: Try = returned(output, self._reaching.output_bytes_max)
        if error is not None:
            came = failed(ToolFailed(error), retryable=False, redact=self._reaching.redact)
        elif isinstance(came, Failed):
            raise ToolFailed(f"deliver: {came.message}")  # it is this call's fault, and the other still waits
        report = ReportResult(f"delivered:{call_id}", session, call_id, lease, came.status, came.output, 0)
        await self._reaching.sender.report(report)

    def _remember(self, chunk: Json) -> None:
        size = len(chunk.encode()) + len(", ")
        if size <= self._room:
            self._room -= size
            self.chunks.append(chunk)


def ticket_of(command: RunTool) -> str:
    """Give what entitles to give the result of a call: where it goes, and the lease that proves the right to."""
    return f"{command.session}.{command.call_id}.{command.lease}"
