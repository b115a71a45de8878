"""Running services until a signal, and saying once that they serve.

The last of the lines begins with `ready`, and nothing is printed before all are: who waits for a line that says `ready`
may begin.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import typer
from playhead.redaction import Redactor
from playhead.service import serve, stop_on_signals
from playhead.settings import Settings
from playhead.telemetry import configure_logging

from playhead_cli.compose import Running
from playhead_cli.launch import begin_collecting

__all__ = ["begin_logging", "run"]

GRACE_MARGIN_SECONDS = 2.0
"""What services that keep the grace themselves have left to close what they hold."""


def begin_logging(settings: Settings) -> Redactor:
    """Send logs to stderr as the settings say, without the secrets that the redactor is told of from now on."""
    redactor = Redactor()
    style = ("console" if sys.stderr.isatty() else "json") if settings.log_style == "auto" else settings.log_style
    configure_logging(settings.log_level, style, redactor.redact)
    return redactor


async def run(
    services: Mapping[str, Running], lines: Callable[[], Sequence[str]], settings: Settings, began: float
) -> int:
    """Run services until SIGTERM or SIGINT, then drain. Prints `lines()` and how long it took once all are ready."""

    async def announce(stop: asyncio.Event) -> None:
        for service in services.values():
            await _either(service.ready, stop)
        if not stop.is_set():
            took = time.monotonic() - began
            typer.echo("\n".join([*lines(), f"ready in {took:.1f} s  (Ctrl-C to stop)"]))
            begin_collecting()
        await stop.wait()

    stop = asyncio.Event()
    with stop_on_signals(stop):
        named = {name: service.serve for name, service in services.items()}
        await serve(
            {**named, "announcement": announce}, stop=stop, grace_seconds=settings.grace_seconds + GRACE_MARGIN_SECONDS
        )
    return 0


async def _either(ready: asyncio.Event, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(event.wait()) for event in (ready, stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
