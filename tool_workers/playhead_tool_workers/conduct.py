"""A call from its arrival to its published result: started, heartbeats, progress, and one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from playhead.commands import ReportResult
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_tool_workers.execute import Execution, Slots
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Try, readable
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.reports import CallReports, Progress, Sender
from playhead_tool_workers.running import Call
from playhead_tool_workers.tries import Tries

__all__ = ["Conductor", "Crew"]

UNKNOWN = "unknown"
"""The metric label of tools that this pool does not have: what strangers call them is not a bounded set."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works here: a worker's name, its pool's tools, and how many calls it runs at a time."""

    worker: str
    pool: str
    tools: tuple[Tool[..., object], ...]
    concurrency: int
    limits: WorkerLimits


class Conductor:
    """Conducts the calls of one worker, as many at a time as it has slots."""

    def __init__(self, parts: WorkerParts, crew: Crew, sender: Sender) -> None:
        self._parts = parts
        self._limits = crew.limits
        self._crew = crew
        self._sender = sender
        self._tools = {tool.name: tool for tool in crew.tools}
        self._slots = asyncio.Semaphore(crew.concurrency)
        self._slots_of = {tool.name: asyncio.Semaphore(tool.concurrency) for tool in crew.tools}
        self._tries = Tries(crew.concurrency, crew.limits)

    async def conduct(self, call: Call) -> ReportResult:
        """Run a call and publish its result. Cancelled before that, no result is published."""
        command = call.command
        reports = CallReports(self._sender, command, self._crew.worker, self._parts.entropy)
        came, began_at = await self._outcome(call, reports)
        reports.close()
        elapsed = 0 if began_at is None else max(self._parts.clock() - began_at, 0)
        result = reports.result(came, elapsed // 1_000)
        await self._sender.report(result)
        self._count(command.name, result.status, None if began_at is None else elapsed)
        return result

    async def close(self) -> None:
        """Say nothing more, and stop whatever tools still run."""
        self._sender.close()
        await self._tries.close()

    async def _outcome(self, call: Call, reports: CallReports) -> tuple[Try, int | None]:
        command = call.command
        tool = self._tools.get(command.name)
        if tool is None:
            why = f"pool {self._crew.pool} has no tool named {command.name}"
            return Failed("error", "UnknownTool", readable(why)), None
        if command.effect not in {"read", "write"}:
            why = f"this worker cannot keep the promise of effect {command.effect!r}"
            return Failed("error", "UnsupportedEffect", readable(why)), None
        if call.stop_reason is not None:
            return _cancelled(call), None
        return await self._run(call, tool, reports)

    async def _run(self, call: Call, tool: Tool[..., object], reports: CallReports) -> tuple[Try, int | None]:
        progress = Progress(reports, self._limits.progress_seconds)
        attendants: list[asyncio.Task[None]] = []
        began_at: int | None = None

        def began() -> None:
            nonlocal began_at
            began_at = self._parts.clock()
            call.began = True
            self._note_start(call, tool, began_at)
            # The tool need not wait for this report; the reports after it do.
            group.create_task(reports.started())
            attendants.append(group.create_task(reports.heartbeats(self._limits.heartbeat_seconds)))
            attendants.append(group.create_task(progress.show()))

        execution = self._execution(call, tool, reports, progress, began)
        try:
            async with asyncio.TaskGroup() as group:
                work = call.work = group.create_task(execution.run())
                await asyncio.wait({work})
                for attendant in attendants:
                    attendant.cancel()
        finally:
            call.work = None
            if began_at is not None:
                self._parts.telemetry.tool_calls_running.labels(tool.pool).dec()
        return (_cancelled(call) if work.cancelled() else work.result()), began_at

    def _execution(
        self, call: Call, tool: Tool[..., object], reports: CallReports, progress: Progress, began: Callable[[], None]
    ) -> Execution:
        command = call.command
        return Execution(
            parts=self._parts,
            limits=self._limits,
            tries=self._tries,
            slots=Slots(self._slots, self._slots_of[tool.name]),
            tool=tool,
            command=command,
            reports=reports,
            progress=progress,
            began=began,
            log=log.bind(session=command.session, run=command.run_id, call=command.call_id),
        )

    def _note_start(self, call: Call, tool: Tool[..., object], began_at: int) -> None:
        waited_seconds = max(began_at - call.command.dispatched_at, 0) / 1_000_000
        self._parts.telemetry.tool_queue_seconds.labels(tool.pool, tool.name).observe(waited_seconds)
        self._parts.telemetry.tool_calls_running.labels(tool.pool).inc()

    def _count(self, name: str, status: str, elapsed: int | None) -> None:
        label = name if name in self._tools else UNKNOWN
        pool = self._crew.pool
        self._parts.telemetry.tool_calls.labels(pool, label, status).inc()
        if elapsed is not None:
            self._parts.telemetry.tool_run_seconds.labels(pool, label).observe(elapsed / 1_000_000)


def _cancelled(call: Call) -> Failed:
    return Failed("cancelled", "Cancelled", call.stop_reason or "the call was cancelled")
