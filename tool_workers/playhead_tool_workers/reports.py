"""What a worker says: reports of calls to their sessions' owners, announcements, and records set aside.

What must arrive is published again until it does; heartbeats and progress are only worth telling now.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress

from playhead.commands import (
    Command,
    Heartbeat,
    Report,
    ReportChunk,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportRetry,
    ReportStarted,
    RunTool,
)
from playhead.errors import Unavailable
from playhead.events import Failure, Json
from playhead.ids import digest
from playhead.telemetry import logger

from playhead_tool_workers.ends import Asks, Deferred, Ended
from playhead_tool_workers.hushing import redacted
from playhead_tool_workers.outcome import Redact, readable
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.retry import Backoff

__all__ = ["CallReports", "Progress", "Sender"]

log = logger(__name__)


class Sender:
    """Publishes commands. After `close` it publishes nothing more."""

    def __init__(self, parts: WorkerParts, backoff: Backoff) -> None:
        self._parts = parts
        self._backoff = backoff
        self._results = parts.topics.results.name
        self._closed = False

    def close(self) -> None:
        """Say nothing from now on: what is not reported yet will be run and reported by somebody else."""
        self._closed = True

    async def surely(self, topic: str, key: str, command: Command) -> None:
        """Publish, however long the queue cannot be reached. Raises `TooLarge`, `Misconfigured`, and once closed
        `Unavailable`: what was not said may not be taken for said.
        """
        value = self._parts.codec.encode(redacted(command, self._parts.redactor.redact))
        failures = 0
        while True:
            if self._closed:
                raise Unavailable("this worker says nothing any more")
            try:
                await self._parts.queue.publish(topic, key, value)
                return
            except Unavailable as error:
                failures += 1
                log.warning("cannot publish; trying again", topic=topic, failures=failures, error=str(error))
                await asyncio.sleep(self.delay_seconds(failures))

    async def report(self, report: Report) -> None:
        """Publish a report that must arrive."""
        await self.surely(self._results, report.session, report)

    async def perhaps(self, report: Report) -> None:
        """Publish a report that is of no use later."""
        if self._closed:
            return
        try:
            value = self._parts.codec.encode(redacted(report, self._parts.redactor.redact))
            await self._parts.queue.publish(self._results, report.session, value)
        except Unavailable as error:
            log.warning("a report was lost", report=type(report).__name__, call=report.call_id, error=str(error))

    def delay_seconds(self, failures: int) -> float:
        """Give the wait before the queue is tried again."""
        return self._backoff.delay_seconds(failures, jitter(self._parts.entropy))


class CallReports:
    """The reports of one call, in the order in which they are made. After `close` there are none."""

    def __init__(self, sender: Sender, command: RunTool, worker: str, entropy: Callable[[], bytes]) -> None:
        self._sender = sender
        self._command = command
        self._worker = worker
        self._entropy = entropy
        self._order = asyncio.Lock()
        self._closed = False
        self.streamed = False
        """Whether a part of the output was shown."""

    def close(self) -> None:
        """Take no more reports, whatever still runs on behalf of the call."""
        self._closed = True

    async def started(self) -> None:
        """Report that the call runs."""
        call = self._command
        await self._surely(ReportStarted(self._id("started"), call.session, call.call_id, call.lease, self._worker))

    async def ask(self, claim: str, asking: int) -> None:
        """Ask, for the `asking`th time, whether the call may run. However often, `claim` makes it one question."""
        call = self._command
        place = (call.session, call.call_id, call.lease)
        await self._surely(ReportStarted(claim, *place, self._worker, claim=True, pool=call.pool, asking=asking))

    async def heartbeats(self, every_seconds: float) -> None:
        """Say again and again that the call still runs, until cancelled."""
        call = self._command
        beat = Heartbeat(call.session, call.call_id, call.lease, self._worker)
        while True:
            await asyncio.sleep(every_seconds)
            await self._sender.perhaps(beat)

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Report how far the call is."""
        call = self._command
        async with self._order:
            if not self._closed:
                await self._sender.perhaps(
                    ReportProgress(self._id("progress"), call.session, call.call_id, call.lease, done, total, message)
                )

    async def chunk(self, output: Json) -> None:
        """Report a part of the output."""
        call = self._command
        self.streamed = True
        await self._surely(ReportChunk(self._id("chunk"), call.session, call.call_id, call.lease, output))

    async def retry(self, try_number: int, delay_seconds: float, failure: Failure) -> None:
        """Report that a try failed and another follows."""
        call = self._command
        report = ReportRetry(
            report_id=self._id("retry"),
            session=call.session,
            call_id=call.call_id,
            lease=call.lease,
            try_=try_number,
            delay_ms=round(delay_seconds * 1000),
            error=failure,
        )
        await self._surely(report)

    def result(self, ended: Ended, elapsed_ms: int) -> ReportResult:
        """Make the report that ends the call. Its id is the call's: however often it comes, it is one.

        That of a call which an operator had run again is another, since the call has ended once already.
        """
        return self._result(self._name("result"), ended, elapsed_ms, late=self._command.redriven)

    def late(self, ended: Ended, elapsed_ms: int) -> ReportResult:
        """Make the report of what came after the end."""
        return self._result(self._name("late"), ended, elapsed_ms, late=True)

    def pending(self, promised: Deferred) -> ReportPending:
        """Make the report that the result comes from outside."""
        call = self._command
        return ReportPending(
            report_id=f"pending:{call.call_id}",
            session=call.session,
            call_id=call.call_id,
            lease=call.lease,
            within_ms=round(promised.seconds * 1000),
            message=promised.message,
        )

    def question(self, asks: Asks) -> ReportQuestion:
        """Make the report that the user must answer first."""
        call = self._command
        return ReportQuestion(
            report_id=self._id("question"),
            session=call.session,
            call_id=call.call_id,
            lease=call.lease,
            question_id=f"q_{digest('question', call.call_id, call.answer or '')}",
            content=asks.content,
            schema=asks.schema,
            state=asks.state,
        )

    def _result(self, name: str, ended: Ended, elapsed_ms: int, *, late: bool) -> ReportResult:
        call = self._command
        return ReportResult(
            report_id=name,
            session=call.session,
            call_id=call.call_id,
            lease=call.lease,
            status=ended.status,
            output=ended.output,
            elapsed_ms=elapsed_ms,
            cached=ended.cached,
            late=late,
        )

    def _name(self, kind: str) -> str:
        call = self._command
        if not call.redriven:
            return f"{kind}:{call.call_id}"
        return f"redriven{'' if kind == 'result' else f'-{kind}'}:{call.call_id}:{call.dispatched_at}"

    async def _surely(self, report: Report) -> None:
        async with self._order:
            if not self._closed:
                await self._sender.report(report)

    def _id(self, kind: str) -> str:
        return f"{kind}:{self._command.call_id}:{self._entropy().hex()}"


class Progress:
    """A call's progress: noted as often as the tool likes, from any thread, and shown only so often."""

    def __init__(self, reports: CallReports, every_seconds: float, redact: Redact) -> None:
        self._reports = reports
        self._every_seconds = every_seconds
        self._redact = redact
        self._latest: tuple[float, float | None, str | None] | None = None
        self._reached = -math.inf
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def note(self, done: float, total: float | None, message: str | None) -> None:
        """Take note of progress, if it is any: it does not go back."""
        if threading.get_ident() == self._thread:
            self._note(done, total, message)
        else:
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who would look
                self._loop.call_soon_threadsafe(self._note, done, total, message)

    async def show(self) -> None:
        """Report what was noted last, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._latest is not None:
                await self._reports.progress(*self._latest)
                await asyncio.sleep(self._every_seconds)

    def _note(self, done: float, total: float | None, message: str | None) -> None:
        if not math.isfinite(done) or done < self._reached:
            return
        self._reached = done
        shown = None if total is None or not math.isfinite(total) else float(total)
        self._latest = (float(done), shown, None if message is None else readable(message, self._redact))
        self._changed.set()


def jitter(entropy: Callable[[], bytes]) -> float:
    """Draw a number in [0, 1)."""
    return int.from_bytes(entropy()[:4]) / 2**32
