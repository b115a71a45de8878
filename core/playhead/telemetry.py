"""Metric names and log fields, in one place. Made once a process by the composition root and handed down.

Labels are bounded sets only: never a session, a run, a call or a user.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog import configure, contextvars, dev, processors, stdlib

__all__ = ["OncePerWhile", "Telemetry", "configure_logging", "logger"]

AIOKAFKA_REPEAT_SECONDS = 10.0
"""How soon aiokafka may say the same again."""

REMEMBERED_MAX = 1000
"""How many of a library's messages are remembered."""

FAST = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)


class Telemetry:
    """Every metric of Playhead, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.events_appended = Counter(
            "playhead_events_appended", "Events accepted into session logs", ["type"], registry=registry
        )
        self.append_seconds = Histogram(
            "playhead_append_seconds",
            "From handing a batch to the log to its acknowledgement",
            buckets=FAST,
            registry=registry,
        )
        self.time_to_first_token_seconds = Histogram(
            "playhead_time_to_first_token_seconds",
            "From starting a model call to its first delta",
            ["provider", "model"],
            buckets=SLOW,
            registry=registry,
        )
        self.model_calls = Counter(
            "playhead_model_calls",
            "Model calls by how they ended",
            ["provider", "outcome"],
            registry=registry,
        )
        self.runs = Counter("playhead_runs", "Runs by how they ended", ["agent", "outcome"], registry=registry)
        self.sessions_owned = Gauge(
            "playhead_sessions_owned", "Sessions that this process appends to", registry=registry
        )
        self.tool_queue_seconds = Histogram(
            "playhead_tool_queue_seconds",
            "From dispatching a call to a worker starting it: the signal to scale a pool by",
            ["pool", "tool"],
            buckets=SLOW,
            registry=registry,
        )
        self.tool_run_seconds = Histogram(
            "playhead_tool_run_seconds",
            "From start to end of a tool call",
            ["pool", "tool"],
            buckets=SLOW,
            registry=registry,
        )
        self.tool_calls = Counter(
            "playhead_tool_calls",
            "Tool calls by how they ended",
            ["pool", "tool", "status"],
            registry=registry,
        )
        self.tool_calls_running = Gauge(
            "playhead_tool_calls_running", "Tool calls running now", ["pool"], registry=registry
        )
        self.tool_retries = Counter(
            "playhead_tool_retries", "Tries of tool calls that failed and were followed by another", ["pool", "tool"],
            registry=registry,
        )  # fmt: skip
        self.tool_cache_hits = Counter(
            "playhead_tool_cache_hits", "Tool calls answered from the result cache", ["pool", "tool"], registry=registry
        )
        self.tool_late_results = Counter(
            "playhead_tool_late_results",
            "Results that came after their call had ended without",
            ["pool", "tool"],
            registry=registry,
        )
        self.tool_breaker = Gauge(
            "playhead_tool_breaker", "Circuit breakers: 0 closed, 1 half open, 2 open", ["pool", "tool"],
            registry=registry,
        )  # fmt: skip
        self.stream_clients = Gauge("playhead_stream_clients", "Open event streams", ["transport"], registry=registry)
        self.stream_resumes = Counter(
            "playhead_stream_resumes",
            "Streams opened with a cursor, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.stream_dropped = Counter(
            "playhead_stream_dropped", "Streams that the gateway ended early", ["reason"], registry=registry
        )
        self.dead_letters = Counter("playhead_dead_letters", "Records set aside", ["topic"], registry=registry)
        Gauge(
            "playhead_tasks", "Tasks of the event loop: they follow sessions and streams, or something leaks",
            registry=registry,
        ).set_function(_tasks)  # fmt: skip

    def exposition(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked from outside the loop
        return 0


def logger(name: str) -> stdlib.BoundLogger:
    """Give a module's logger. Bind `session`, `run` and `call` where they are known."""
    return stdlib.get_logger(name)


class OncePerWhile(logging.Filter):
    """Lets a library say the same thing once in a while: aiokafka repeats itself ten times a second in an outage."""

    def __init__(self, library: str, seconds: float) -> None:
        super().__init__()
        self._library = library
        self._seconds = seconds
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be written."""
        if not record.name.startswith(self._library):
            return True
        key, now = (record.name, record.msg), record.created
        if key in self._said and now - self._said[key] < self._seconds:
            return False
        if len(self._said) >= REMEMBERED_MAX:
            self._said.clear()
        self._said[key] = now
        return True


class _Formatter(stdlib.ProcessorFormatter):
    """Makes a record's line, with its traceback, and takes out of it what may not be shown."""

    def __init__(self, redact: Callable[[str], str], **options: Any) -> None:  # what structlog takes, handed on
        super().__init__(**options)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr. Of a record that cannot be formatted it says whose it is, not what: that is not redacted."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        where, why = f"{record.name} ({record.filename}:{record.lineno})", type(sys.exception()).__name__
        with suppress(OSError, ValueError):  # stderr itself may be what fails
            self.stream.write(f"a log record of {where} cannot be written: {why}\n")


def configure_logging(
    level: str = "INFO", style: Literal["json", "console"] = "json", redact: Callable[[str], str] | None = None
) -> None:
    """Send all logs, ours and the libraries', to stderr in one form. Called once, by the command line.

    `redact` is given each finished line, and what it returns is written.
    """
    shared = [
        contextvars.merge_contextvars,
        stdlib.add_logger_name,
        stdlib.add_log_level,
        processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of local variables: those may be secrets.
    console = dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=dev.plain_traceback)
    last = [processors.format_exc_info, processors.JSONRenderer()] if style == "json" else [console]
    configure(
        processors=[*shared, stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=stdlib.BoundLogger,
        logger_factory=stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            redact or _as_it_is,
            foreign_pre_chain=shared,
            processors=[stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    if level != "DEBUG":
        handler.addFilter(OncePerWhile("aiokafka", AIOKAFKA_REPEAT_SECONDS))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # aiokafka logs every assignment with all its partitions at INFO
    logging.getLogger("aiokafka").setLevel(logging.ERROR if level != "DEBUG" else logging.INFO)
    # and httpx2 every model call, which the log of the session says already
    logging.getLogger("httpx2").setLevel(logging.WARNING if level != "DEBUG" else logging.INFO)


def _as_it_is(line: str) -> str:
    return line
