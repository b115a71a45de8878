"""A call from its arrival to its published end: asked for if need be, started, heartbeats, progress, and one end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from playhead.commands import DeadLetter
from playhead.errors import PlayheadError, TooLarge
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_tool_workers.admission import admitted
from playhead_tool_workers.cache import ResultCache, key_of
from playhead_tool_workers.ends import Asks, Deferred, Ended, Outcome, ended
from playhead_tool_workers.execute import Around, Course, Execution, GivenUp
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.live import LiveTry, Reaching
from playhead_tool_workers.outcome import Failed, Try
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.reports import CallReports, Progress, Sender
from playhead_tool_workers.running import Call, End
from playhead_tool_workers.sandbox import Sandboxes
from playhead_tool_workers.stations import Station, station
from playhead_tool_workers.tries import Came, Tries

__all__ = ["Conductor", "Crew"]

UNKNOWN = "unknown"
"""The metric label of tools that this pool does not have: what strangers call them is not a bounded set."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works here: a worker's name, its pool, and how many calls it runs at a time."""

    worker: str
    pool: str
    concurrency: int
    limits: WorkerLimits


class Conductor:
    """Conducts the calls of one worker, as many at a time as it has slots. `share` is its part of the pool's work."""

    def __init__(self, parts: WorkerParts, crew: Crew, sender: Sender) -> None:
        self.share = 1.0
        self.resources: object = None
        self._parts = parts
        self._limits = crew.limits
        self._crew = crew
        self._sender = sender
        self._stations: dict[str, Station] = {}
        self._cache = ResultCache()
        self._tries = Tries(crew.concurrency, crew.limits)
        self._reaching = Reaching(sender, Sandboxes(), crew.limits.result_bytes_max, parts.redactor.redact)
        slots = asyncio.Semaphore(crew.concurrency)
        self._around = Around(
            parts, crew.limits, self._tries, slots, share=lambda: self.share, resources=lambda: self.resources
        )
        self._afterwards: set[asyncio.Task[None]] = set()

    def offer(self, tools: Sequence[Tool[..., object]]) -> None:
        """Take up these tools and no others. What is known of those that stay is kept. Raises `Misconfigured`."""
        topic = self._parts.topics.catalog.name

        def prepared(tool: Tool[..., object]) -> Station:
            known = self._stations.get(tool.name)
            if known is not None and known.tool is tool:
                return known
            return station(
                tool,
                self._parts,
                lambda said: self._later(self._sender.surely(topic, f"breaker/{said.pool}/{said.tool}", said)),
                self._crew.worker,
            )

        self._stations = {tool.name: prepared(tool) for tool in tools}

    async def conduct(self, call: Call) -> End | None:
        """Run a call and publish its end; `None` if it is somebody else's. Cancelled before that, none is published."""
        reports = CallReports(self._sender, call.command, self._crew.worker, self._parts.entropy)
        course = Course()
        try:
            outcome = await self._outcome(call, reports, course)
        except GivenUp:
            return None
        reports.close()
        elapsed = 0 if course.began_at is None else max(self._parts.clock() - course.began_at, 0)
        end = await self._report(reports, outcome, elapsed // 1_000)
        await self._parts.reach("worker.reported")
        if isinstance(outcome, Ended) and outcome.status != "ok":
            call.is_over = True
            if call.late is not None:
                await self._report_late(call, reports, call.late)
        status = outcome.status if isinstance(outcome, Ended) else "pending"
        self._count(call.command.name, status, None if course.began_at is None else elapsed)
        if course.hopeless is not None:
            await self._bury(call, course.hopeless)
        return end

    async def close(self) -> None:
        """Say what is being said, and then nothing more; stop whatever tools still run."""
        if self._afterwards:
            await asyncio.wait(self._afterwards, timeout=self._limits.cleanup_seconds)
        self._sender.close()
        await self._tries.close()
        for task in self._afterwards:
            task.cancel()
        if self._afterwards:
            await asyncio.wait(self._afterwards)

    async def _outcome(self, call: Call, reports: CallReports, course: Course) -> Outcome:
        command = call.command
        place = self._stations.get(command.name)
        arguments = admitted(None if place is None else place.tool, command, self._parts.redactor.redact)
        if place is None or isinstance(arguments, Ended):
            return arguments if isinstance(arguments, Ended) else _cancelled(call)
        if call.stop_reason is not None:
            return _cancelled(call)
        key = None
        # What a tool made of a user's answer is no answer to the next one who asks the same.
        if place.tool.cache_seconds is not None and command.effect == "read" and command.answer is None:
            key = key_of(command.name, place.tool.schema_hash, command.tenant, command.input)
            output = self._cache.get(key, time.monotonic(), place.tool.cache_seconds)
            if output is not None:
                self._parts.telemetry.tool_cache_hits.labels(self._crew.pool, command.name).inc()
                return Ended("ok", output, cached=True)
        outcome = await self._run(call, place, arguments, reports, course)
        if key is None or reports.streamed or course.archived:
            return outcome
        if isinstance(outcome, Ended) and outcome.status == "ok":
            self._cache.put(key, outcome.output, time.monotonic())
        return outcome

    async def _run(
        self, call: Call, place: Station, arguments: dict[str, object], reports: CallReports, course: Course
    ) -> Outcome:
        progress = Progress(reports, self._limits.progress_seconds, self._parts.redactor.redact)
        attendants: list[asyncio.Task[None]] = []

        async def begin() -> None:
            await self._be_allowed(call, reports)
            course.began_at = self._parts.clock()
            call.began = True
            self._note_start(call, place.tool, course.began_at)
            if call.claim is None and not call.command.reconcile:
                # The tool need not wait for this report; the reports after it do.
                group.create_task(self._say_started(reports))
            attendants.append(group.create_task(reports.heartbeats(self._limits.heartbeat_seconds)))
            attendants.append(group.create_task(progress.show()))
            attendants.append(group.create_task(self._note_slowness(call)))

        execution = Execution(
            around=self._around,
            station=place,
            command=call.command,
            arguments=arguments,
            course=course,
            reports=reports,
            live=lambda attempt, seconds: LiveTry(reports, progress, self._reaching, attempt, seconds),
            begin=begin,
            late=lambda came: self._came_late(call, reports, came),
            log=log.bind(session=call.command.session, run=call.command.run_id, call=call.command.call_id),
        )
        try:
            async with asyncio.TaskGroup() as group:
                work = call.work = group.create_task(_in_turn(call, execution))
                await asyncio.wait({work})
                for attendant in attendants:
                    attendant.cancel()
        finally:
            call.work = None
            if course.began_at is not None:
                self._parts.telemetry.tool_calls_running.labels(place.tool.pool).dec()
        if work.cancelled():
            return _cancelled(call)
        came = work.result()
        if isinstance(came, GivenUp):
            raise came
        return came

    async def _be_allowed(self, call: Call, reports: CallReports) -> None:
        """Ask the owner first: always for a `once` call, and for one that has been on its way for long.

        Raises `GivenUp` if the call is over, or another worker's.
        """
        command = call.command
        age = (self._parts.clock() - command.dispatched_at) / 1_000_000
        if command.reconcile or command.redriven or (command.effect != "once" and age < self._limits.old_seconds):
            return
        call.began = True  # who asks must see it through: a grant that nobody takes is a call that is lost
        call.claim = f"claim:{command.call_id}:{self._parts.entropy().hex()}"
        while True:
            call.asked_at.append(time.monotonic())
            call.verdict = asyncio.get_running_loop().create_future()
            await reports.ask(call.claim, len(call.asked_at))
            await self._parts.reach("worker.asked")
            try:
                async with asyncio.timeout(self._limits.ask_seconds):
                    asked_at = await call.verdict
            except TimeoutError:
                continue
            finally:
                call.verdict = None
            if asked_at is None:
                raise GivenUp
            # Who was suspended since then may find that the call was given up meanwhile: it is asked for again.
            if time.monotonic() - asked_at <= self._limits.grant_seconds:
                await self._parts.reach("worker.granted")
                return

    async def _say_started(self, reports: CallReports) -> None:
        await reports.started()
        await self._parts.reach("worker.started")

    async def _note_slowness(self, call: Call) -> None:
        await asyncio.sleep(self._limits.slow_seconds)
        command = call.command
        log.warning("a tool is slow", tool=command.name, seconds=self._limits.slow_seconds, call=command.call_id)

    def _came_late(self, call: Call, reports: CallReports, came: Came) -> None:
        """Report what came too late, if it says anything, and once the end is reported; only the first of it."""
        if isinstance(came, Deferred | Asks) or came.status == "cancelled" or call.late is not None:
            return
        call.late = came
        if call.is_over:
            self._later(self._report_late(call, reports, came))

    async def _report_late(self, call: Call, reports: CallReports, came: Try) -> None:
        self._parts.telemetry.tool_late_results.labels(self._crew.pool, call.command.name).inc()
        await self._sender.report(reports.late(ended(came), 0))

    async def _report(self, reports: CallReports, outcome: Outcome, elapsed_ms: int) -> End:
        """Publish the end of a call."""
        end = _end(reports, outcome, elapsed_ms)
        try:
            await self._sender.report(end)
        except TooLarge as error:  # what is cut out of an output may leave more than there was
            end = reports.result(ended(Failed("error", "ResultTooLarge", error.advice)), elapsed_ms)
            await self._sender.report(end)
        return end

    def _later(self, saying: Coroutine[None, None, None]) -> None:
        """Say something that nothing waits for. What cannot be said any more when the worker closes, is not."""
        task = asyncio.get_running_loop().create_task(_said(saying))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    async def _bury(self, call: Call, error: str) -> None:
        """Leave a call that failed to people too, with all that it takes to run it again."""
        command, parts = call.command, self._parts
        topic = parts.topics.tools(self._crew.pool).name
        where = call.messages[0] if call.messages else None
        letter = DeadLetter(
            topic=topic,
            partition=-1 if where is None else where.partition,
            offset=-1 if where is None else where.offset,
            key=command.key or command.call_id,
            value=parts.codec.encode(command),
            error=parts.redactor.redact(error),
            at=parts.clock(),
        )
        try:
            await self._sender.surely(parts.topics.deadletter.name, topic, letter)
        except TooLarge as failure:  # a call can be as large as a record, and a letter is a little more
            log.error("a failed call is too large to be set aside", call=command.call_id, error=str(failure))
            return
        parts.telemetry.dead_letters.labels(topic).inc()

    def _note_start(self, call: Call, tool: Tool[..., object], began_at: int) -> None:
        waited_seconds = max(began_at - call.command.dispatched_at, 0) / 1_000_000
        self._parts.telemetry.tool_queue_seconds.labels(tool.pool, tool.name).observe(waited_seconds)
        self._parts.telemetry.tool_calls_running.labels(tool.pool).inc()

    def _count(self, name: str, status: str, elapsed: int | None) -> None:
        label = name if name in self._stations else UNKNOWN
        pool = self._crew.pool
        self._parts.telemetry.tool_calls.labels(pool, label, status).inc()
        if elapsed is not None:
            self._parts.telemetry.tool_run_seconds.labels(pool, label).observe(elapsed / 1_000_000)


async def _in_turn(call: Call, execution: Execution) -> Outcome | GivenUp:
    if call.turn is not None:
        await call.turn.wait()
    try:
        return await execution.run()
    except GivenUp as given_up:  # raised from a task group, it would be one of a group
        return given_up


async def _said(saying: Coroutine[None, None, None]) -> None:
    try:
        await saying
    except PlayheadError as error:
        log.warning("something could not be said", error=str(error))


def _cancelled(call: Call) -> Ended:
    return ended(Failed("cancelled", "Cancelled", call.stop_reason or "the call was cancelled"))


def _end(reports: CallReports, outcome: Outcome, elapsed_ms: int) -> End:
    match outcome:
        case Ended():
            return reports.result(outcome, elapsed_ms)
        case Deferred():
            return reports.pending(outcome)
        case Asks():
            return reports.question(outcome)
