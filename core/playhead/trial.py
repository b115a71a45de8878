"""One call of a tool without a worker, a queue or a clock: what `Tool.test` runs. For unit tests.

It checks what a worker checks before and after (arguments, their limits, the declared result) and nothing is retried,
timed or confined: commands of a sandboxed tool run in the sandbox of a worker only.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_json

from playhead.content import Answer, Completed
from playhead.context import ToolContext
from playhead.errors import Invalid, Misconfigured
from playhead.guard import refusal
from playhead.ids import CallId, SessionId
from playhead.returns import OURS
from playhead.telemetry import logger

if TYPE_CHECKING:
    from playhead.tools import Tool

__all__ = ["Surroundings", "Trial", "attempt"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a test hands to the tool beside its arguments."""

    secrets: Mapping[str, str]
    resources: object
    answer: object


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a call: what the tool returned, each `progress` it made and each `chunk` it emitted."""

    value: Any
    progress: Sequence[tuple[float, float | None, str | None]]
    chunks: Sequence[Any]


async def attempt(tool: Tool[..., object], arguments: Mapping[str, object], surroundings: Surroundings) -> Trial:
    """Call a tool's function as a worker would. Raises `Invalid`, and whatever the function raises."""
    try:
        given = json.dumps(dict(arguments))
    except (TypeError, ValueError) as error:
        raise Invalid(tool.name, f"a model gives arguments as JSON, and these are none: {error}") from error
    parsed = tool.arguments.parse(given)
    refused = refusal(tool.limits, parsed)
    if refused is not None:
        raise Invalid(tool.name, refused)
    missing = [name for name in tool.secrets if name not in surroundings.secrets]
    if missing:
        raise Misconfigured(f"{tool.name} has secrets that the test does not give: test(secrets={{{missing[0]!r}: …}})")
    running = _Recorder()
    if tool.arguments.context is not None:
        parsed[tool.arguments.context] = _context(tool, surroundings, running)
    function = cast("Any", tool.function)
    if inspect.iscoroutinefunction(tool.function):
        value = await function(**parsed)
    else:
        value = await asyncio.to_thread(function, **parsed)
        value = await value if inspect.isawaitable(value) else value
    if tool.returns is not None:
        value = tool.returns.check(value)
    _check_carried(tool.name, value)
    return Trial(value, tuple(running.noted), tuple(running.chunks))


def _check_carried(name: str, value: object) -> None:
    """Check that a result can be turned into JSON; what stands for something else (a picture) is no matter of JSON."""
    items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,)
    try:
        to_json([item for item in items if not isinstance(item, OURS)], inf_nan_mode="strings", bytes_mode="utf8")
    except Exception as error:  # serialising runs code of the tool's own types
        raise Invalid(name, f"it returned what cannot be turned into JSON: {error}") from error


def _context(tool: Tool[..., object], surroundings: Surroundings, running: _Recorder) -> ToolContext:
    seconds = tool.soft_timeout_seconds or tool.timeout_seconds
    return ToolContext(
        session_id=SessionId("ses_test"),
        call_id=CallId("call_test"),
        idempotency_key="key_test",
        try_number=1,
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        log=logger(tool.function.__module__).bind(tool=tool.name),
        running=running,
        secrets=surroundings.secrets,
        resources=surroundings.resources,
        answer=cast("Answer | None", surroundings.answer),
        ticket="ticket_test",
    )


class _Done:
    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass(slots=True)
class _Recorder:
    """A try that is never stopped and writes down what the tool says. Any thread may say it."""

    noted: list[tuple[float, float | None, str | None]] = field(default_factory=list[Any])
    chunks: list[Any] = field(default_factory=list[Any])
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cancelled(self) -> bool:
        return False

    def remaining(self) -> float:
        return 60.0

    def progress(self, done: float, total: float | None, message: str | None) -> Awaitable[None]:
        with self.lock:
            self.noted.append((done, total, message))
        return _Done()

    def emit(self, output: object) -> Awaitable[None]:
        with self.lock:
            self.chunks.append(output)
        return _Done()

    async def run(self, argv: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Completed:
        raise Misconfigured("commands run in the sandbox of a worker only; test what your function makes of a result")

    async def deliver(self, ticket: str, output: object, error: str | None) -> None:
        with self.lock:
            self.chunks.append({"delivered": ticket, "output": output, "error": error})
