"""One call: its tries, one after the other, until one returns or no more are allowed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import orjson
from playhead.archive import Archive
from playhead.commands import RunTool
from playhead.content import Answer
from playhead.context import Running, ToolContext
from playhead.errors import Invalid
from playhead.ids import SessionId
from playhead.tools import Companion, Tool
from structlog.stdlib import BoundLogger

from playhead_tool_workers.breaker import Refused
from playhead_tool_workers.ends import Ended, Outcome, ended, in_part, unknown
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.live import LiveTry, ticket_of
from playhead_tool_workers.outcome import Failed, Returned, Try, readable
from playhead_tool_workers.output import Output
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.reports import CallReports, jitter
from playhead_tool_workers.stations import Station
from playhead_tool_workers.tries import Attempt, Came, Keep, Tries

__all__ = ["Around", "Course", "Execution", "GivenUp"]


CIRCUIT_OPEN = "CircuitOpen"


class GivenUp(Exception):
    """The call is somebody else's, or over: nothing more is said of it."""


@dataclass(frozen=True, slots=True)
class Around:
    """What all calls of a worker share. `share` is its part of the pool; `slots` bound what runs at a time."""

    parts: WorkerParts
    limits: WorkerLimits
    tries: Tries
    slots: asyncio.Semaphore
    share: Callable[[], float]
    resources: Callable[[], object]


@dataclass(slots=True, eq=False)
class Course:
    """How far a call has come here. `began_at` in microseconds since the epoch.

    `hopeless` is what was wrong, if the call failed in a way that makes it worth running again once that is mended.
    `archived`: the output refers to what is kept for this session, and for no other.
    """

    began_at: int | None = None
    hopeless: str | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Execution:
    """What one call takes to run. `begin` is awaited once, with its first slot: it may raise `GivenUp`.

    `live` makes the tool's view of a try; `arguments` are checked.
    """

    around: Around
    station: Station
    command: RunTool
    arguments: dict[str, object]
    course: Course
    reports: CallReports
    live: Callable[[Attempt, float], LiveTry]
    begin: Callable[[], Awaitable[None]]
    late: Callable[[Came], None]
    log: BoundLogger

    @property
    def tool(self) -> Tool[..., object]:
        """The tool that is called."""
        return self.station.tool

    async def run(self) -> Outcome:
        """Try until it works, until trying again cannot help, or until no tries are left. Raises `GivenUp`."""
        if self.command.reconcile:
            return await self._reconcile()
        came = await self._tried()
        if isinstance(came, Failed) and (came.broken or came.retryable):
            return await self._instead(came)
        return ended(came) if isinstance(came, Returned | Failed) else came

    async def _tried(self) -> Came | Ended:
        try_number = 0
        while True:
            try_number += 1
            # A `once` call is not even refused without its owner's grant: another worker may be running it.
            refused = None if self.command.effect == "once" else self.station.refusal()
            if refused is not None:
                return _open(self.tool, refused)
            async with self._held():
                came = await self._try(try_number)
            last = try_number > self.tool.retries
            if not isinstance(came, Failed) or not came.retryable or last or came.kind == CIRCUIT_OPEN:
                return came
            # The slot is free for others meanwhile; the call's heartbeats go on.
            await self._wait_after(try_number, came)

    def _held(self) -> AbstractAsyncContextManager[None]:
        return self.station.held(self.around.slots, self.command.tenant, self.around.share)

    async def _begin(self) -> None:
        if self.course.began_at is None:
            await self.begin()

    async def _try(self, try_number: int) -> Came | Ended:
        breaker = self.station.breaker
        if breaker is None:
            return await self._run(try_number)
        admitted = breaker.admit()
        if isinstance(admitted, Refused):
            if self.command.effect == "once":
                await self._begin()
            return _open(self.tool, admitted)
        verdict: Literal["succeeded", "failed", "withdrawn"] = "withdrawn"
        try:
            came = await self._run(try_number)
            verdict = "failed" if isinstance(came, Failed) and came.broken else "succeeded"
            return came
        finally:
            breaker.settle(admitted, verdict)

    async def _run(self, try_number: int) -> Came | Ended:
        reach, seconds, context = self.around.parts.reach, self.tool.soft_timeout_seconds, self.tool.arguments.context
        await self._begin()
        arguments = dict(self.arguments)
        attempt = self._attempt(self.tool.function, arguments, self._keep)
        live = self.live(attempt, seconds or self.tool.timeout_seconds)
        if context is not None:
            arguments[context] = self._context(live, try_number)
        await reach("worker.starting")
        came = await self.around.tries.run(attempt)
        await reach("worker.ran")
        if isinstance(came, Failed) and came.status == "timeout" and live.chunks:
            return dataclasses.replace(came, partial=tuple(live.chunks))
        if seconds is not None and attempt.asked.is_set() and isinstance(came, Returned):
            return in_part(came, self.tool.name, seconds)
        return came

    async def _instead(self, came: Failed) -> Ended:
        """Give what stands in for the tool; if that does not work either, how the tool failed."""
        fallback, kept = self.tool.fallback, None
        if fallback is not None and fallback.function is None:
            kept = await self._kept(fallback.value)
        elif fallback is not None and fallback.function is not None:
            async with self.around.slots:  # not one of the tool's: those may all be stuck
                await self._begin()
                kept = await self._beside(fallback.function)
        if isinstance(kept, Returned):
            return Ended("fallback", kept.output)
        self.course.hopeless = came.failure.message
        return ended(came)

    async def _reconcile(self) -> Ended:
        """Find out what became of a call that was lost. What cannot be found out is unknown."""
        companion = self.tool.reconcile
        if companion is None:
            return unknown(f"{self.tool.name} cannot tell any more what became of the call")
        tries = self.around.limits.reconcile_tries
        for try_number in range(1, tries + 1):
            async with self._held():
                await self._begin()
                came = await self._beside(companion)
            if isinstance(came, Returned) or (isinstance(came, Failed) and not (came.broken or came.retryable)):
                return ended(came)
            if isinstance(came, Failed) and try_number < tries:
                await self._wait_after(try_number, came)
        return unknown("the worker was lost while it ran this call, and it could not be found out what became of it")

    async def _beside(self, companion: Companion) -> Came:
        """Call a function that stands beside the tool, with those of the arguments that it takes."""
        taken = companion.arguments.schema.get("properties", {})
        arguments = {name: value for name, value in self.arguments.items() if name in taken}
        attempt = self._attempt(companion.function, arguments, self._kept)
        if companion.arguments.context is not None:
            live = self.live(attempt, self.tool.timeout_seconds)
            arguments[companion.arguments.context] = self._context(live, 1)
        return await self.around.tries.run(attempt)

    def _attempt(self, function: Callable[..., object], arguments: dict[str, object], keep: Keep) -> Attempt:
        redact = self.around.parts.redactor.redact
        return Attempt(self.tool, function, arguments, keep, self.late, redact, self.log)

    async def _wait_after(self, try_number: int, came: Failed) -> None:
        around = self.around
        delay_seconds = around.limits.retry.delay_seconds(try_number, jitter(around.parts.entropy))
        around.parts.telemetry.tool_retries.labels(self.tool.pool, self.tool.name).inc()
        await self.reports.retry(try_number, delay_seconds, came.failure)
        await asyncio.sleep(delay_seconds)

    async def _keep(self, value: object) -> Try:
        """Turn what the tool returned into its output, if it is what the tool declares to return."""
        if self.tool.returns is not None:
            try:
                value = self.tool.returns.check(value)
            except Invalid as error:
                return Failed("error", "InvalidResult", readable(f"{self.tool.name} returned something else: {error}"))
        return await self._kept(value)

    async def _kept(self, value: object) -> Try:
        parts = self.around.parts
        archive = None if parts.archive is None else _NotedArchive(parts.archive, self.course)
        output = Output(self.command.session, archive, parts.redactor.redact, self.around.limits)
        return await output.keep(value)

    def _context(self, running: Running, try_number: int) -> ToolContext:
        command = self.command
        seconds = self.tool.soft_timeout_seconds or self.tool.timeout_seconds
        now = datetime.fromtimestamp(self.around.parts.clock() / 1_000_000, UTC)
        return ToolContext(
            session_id=command.session,
            call_id=command.call_id,
            idempotency_key=command.idempotency_key,
            try_number=try_number,
            deadline=now + timedelta(seconds=seconds),
            log=self.log.bind(tool=self.tool.name, try_number=try_number),
            running=running,
            tenant=command.tenant,
            secrets=self.station.secrets,
            resources=self.around.resources(),
            answer=None if command.answer is None else Answer(**orjson.loads(command.answer)),
            ticket=ticket_of(command),
        )


@dataclass(frozen=True, slots=True)
class _NotedArchive:
    """An archive, and the note that it was used."""

    archive: Archive
    course: Course

    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        self.course.archived = True
        await self.archive.put(session, name, data)

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        return await self.archive.get(session, name, bytes_max)


def _open(tool: Tool[..., object], refused: Refused) -> Failed:
    why = f"{tool.name} has failed too often lately and is not tried now; ask again in {refused.seconds:.0f} s"
    return Failed("error", CIRCUIT_OPEN, why, retryable=True, broken=True)
