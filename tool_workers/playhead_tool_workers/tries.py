"""Where tools run: each try in a task of its own, and a function that is not `async` in a thread.

Nothing that a tool does may hurt the worker: not an exception, not `SystemExit`, not a cancellation of its own making,
not refusing to stop. A thread cannot be stopped and a task may ignore its cancellation, so a try can outlive its call.
This module owns those leaked tries: they are counted and bounded, and new tries wait once there are too many. Threads
are daemons, so that a stuck one does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass

from playhead.errors import Invalid
from playhead.tools import Tool, ToolContext, ToolFailed
from structlog.stdlib import BoundLogger

from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Returned, Try, failed, returned

__all__ = ["Attempt", "Tries"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call. `over` is set once nobody waits for it any more."""

    tool: Tool[..., object]
    input: str
    context: ToolContext
    over: threading.Event
    log: BoundLogger


class Tries:
    """Everything that tools run in, of one worker."""

    def __init__(self, concurrency: int, limits: WorkerLimits) -> None:
        self._limits = limits
        self._room = asyncio.Semaphore(concurrency + limits.leaked_max)
        self._tasks: set[asyncio.Task[Try]] = set()

    async def run(self, attempt: Attempt) -> Try:
        """Run a try to its end, or to the end of its time. Cancelled, it has told the tool to stop."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + attempt.tool.timeout_seconds
        try:
            async with asyncio.timeout_at(ends_at):
                await self._room.acquire()
        except TimeoutError:
            return _timed_out(attempt, "too many earlier calls were stopped and have not returned")
        task = loop.create_task(self._perform(attempt), name=f"tool {attempt.tool.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait({task}, timeout=max(ends_at - loop.time(), 0))
        except asyncio.CancelledError:
            await self._stop(attempt, task)
            raise
        if not task.done():
            await self._stop(attempt, task)
            return _timed_out(attempt, "it was stopped")
        if task.cancelled():
            return Failed("error", "CancelledError", "the tool cancelled itself", retryable=True)
        return task.result()

    async def close(self) -> None:
        """Stop what still runs, and wait for it as long as for any clean-up. Threads are left to the process's end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.cleanup_seconds)

    async def _stop(self, attempt: Attempt, task: asyncio.Task[Try]) -> None:
        attempt.over.set()
        task.cancel()
        await asyncio.wait({task}, timeout=self._limits.cleanup_seconds)
        if not task.done():
            attempt.log.warning("a tool ignores its cancellation and runs on", tool=attempt.tool.name)

    async def _perform(self, attempt: Attempt) -> Try:
        if not inspect.iscoroutinefunction(attempt.tool.function):
            came = await self._in_thread(attempt)
            return came if isinstance(came, Returned | Failed) else await self._awaited(attempt, came)
        try:
            came = _call(attempt, self._limits.result_bytes_max)
            return came if isinstance(came, Returned | Failed) else await self._awaited(attempt, came)
        finally:
            self._room.release()

    async def _awaited(self, attempt: Attempt, result: Awaitable[object]) -> Try:
        try:
            value = await result
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a tool call: also `SystemExit` is only its own end
            return _raised(attempt, error)
        return returned(value, self._limits.result_bytes_max)

    async def _in_thread(self, attempt: Attempt) -> Try | Awaitable[object]:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Try | Awaitable[object]] = loop.create_future()
        context = copy_context()

        def settle(came: Try | Awaitable[object]) -> None:
            self._room.release()
            if settled.cancelled():
                attempt.log.warning("a stopped tool returned at last", tool=attempt.tool.name)
            else:
                settled.set_result(came)

        def work() -> None:
            came = context.run(_call, attempt, self._limits.result_bytes_max)
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who waits
                loop.call_soon_threadsafe(settle, came)

        try:
            threading.Thread(target=work, name=f"tool {attempt.tool.name}", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            return failed(error, retryable=True)
        try:
            return await settled
        except asyncio.CancelledError:
            attempt.log.warning("a tool's thread cannot be stopped: it leaks until it returns", tool=attempt.tool.name)
            raise


def _call(attempt: Attempt, bytes_max: int) -> Try | Awaitable[object]:
    """Check the arguments and call the function. An `async` one gives what to await."""
    tool = attempt.tool
    try:
        try:
            arguments = tool.arguments.parse(attempt.input)
        except Invalid as error:
            return Failed("error", "InvalidArguments", error.advice)
        if tool.arguments.context is not None:
            arguments[tool.arguments.context] = attempt.context
        value = tool.function(**arguments)
    except BaseException as error:  # noqa: BLE001 - a tool call: also `SystemExit` is only its own end
        return _raised(attempt, error)
    return value if inspect.isawaitable(value) else returned(value, bytes_max)


def _raised(attempt: Attempt, error: BaseException) -> Failed:
    if isinstance(error, ToolFailed):
        return failed(error, retryable=False)
    attempt.log.warning("a tool raised", tool=attempt.tool.name, exc_info=error)
    return failed(error, retryable=True)


def _timed_out(attempt: Attempt, why: str) -> Failed:
    seconds = attempt.tool.timeout_seconds
    return Failed(
        "timeout", "Timeout", f"{attempt.tool.name} had no result within {seconds:g} s; {why}", retryable=True
    )
