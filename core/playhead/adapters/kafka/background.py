"""Tasks that serve a store for as long as it is open. What breaks in one is logged: nobody awaits it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from playhead.errors import Unavailable
from playhead.telemetry import logger

__all__ = ["Background"]

_log = logger("playhead.kafka")


class Background:
    """The tasks of one store; closing it ends and awaits them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the store closes. Raises `Unavailable` when it has."""
        if self._closed:
            work.close()
            raise Unavailable("the store is closed")
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """End every task and wait until it has ended."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("what serves the store broke", exc_info=error)
