"""Running long-lived services together: stop, drain, cancel is written here, once.

A service is a coroutine function that takes the stop event. It serves until the event is set, then finishes
what it has begun and returns. It knows nothing of signals, of grace or of the services beside it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import cast

from playhead.telemetry import logger

__all__ = ["Service", "serve", "stop_on_signals"]

Service = Callable[[asyncio.Event], Coroutine[object, object, None]]

_log = logger("playhead.service")


async def serve(services: Mapping[str, Service], *, stop: asyncio.Event, grace_seconds: float) -> None:
    """Run services until `stop` is set, let each drain, and cancel those that have not after `grace_seconds`.

    A service that raises brings all the others down and its error is raised here: the log still holds its
    work, and a fresh process is easier to trust than a wounded one. A service that returns unasked sets
    `stop` for the others.
    """
    unfinished = set(services)

    async def run(name: str, service: Service) -> None:
        await service(stop)
        unfinished.discard(name)
        stop.set()

    try:
        async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
            for name, service in services.items():
                group.create_task(run(name, service), name=name)
            await stop.wait()
            patience.reschedule(asyncio.get_running_loop().time() + grace_seconds)
    except TimeoutError:
        # Only `patience` can raise this bare; a service's own arrives in a group.
        _log.warning("gave up on services that did not drain", services=sorted(unfinished), grace_seconds=grace_seconds)
    except BaseExceptionGroup as failures:
        alone = _only(failures)
        if alone is None:
            raise
        raise alone from alone.__cause__


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Generator[None, None, None]:
    """Set `stop` on the first SIGTERM or SIGINT. A second one has its usual effect: it ends the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def asked() -> None:
        restore()
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        restore()


def _only(failure: BaseException) -> BaseException | None:
    """Give the one error in nested groups, or None if there are several."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    first, *others = cast("BaseExceptionGroup[BaseException]", failure).exceptions
    return None if others else _only(first)
