"""Hot reload: what an app defines is served anew when a file of it changes, while the gateway and the store go on.

An app that cannot be loaded, or cannot be served, changes nothing: what was there before is served until it is mended.
A reload is a deploy in small: the old orchestrator and workers stop as they do on any deploy, and the new ones go on
from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import cast

from playhead.errors import Misconfigured
from playhead.loading import App
from playhead.service import serve
from playhead.telemetry import logger

from playhead_cli.compose import Running
from playhead_cli.sources import Sources

__all__ = ["Generation", "Reloading"]

LOOK_SECONDS = 0.5
"""How often files are looked at."""

NOT_RELOADED = "not reloaded: what was there before is served"

_log = logger("playhead.cli.reload")

Generation = Callable[[App, App | None], AbstractAsyncContextManager[Mapping[str, Running]]]
"""Builds the services of an app, which follows another one or none; leaving it closes what they held."""


class Reloading:
    """Serves one generation of an app after the other."""

    def __init__(self, sources: Sources, app: App, generation: Generation, grace_seconds: float) -> None:
        """Take an app as its sources are. `grace_seconds`: how long a generation has to end."""
        self.ready = asyncio.Event()
        self._sources = sources
        self._app = app
        self._generation = generation
        self._grace_seconds = grace_seconds
        self._sound: App | None = None
        """The last app that was ready."""
        self._next: App | None = None
        """What the app has become."""

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop`. Raises `Misconfigured` if the first generation cannot be served."""
        app, before = self._app, None
        while True:
            self._next = None
            try:
                async with self._generation(app, before) as services:
                    await self._until_changed(app, services, stop)
            except* Misconfigured as failures:
                if stop.is_set() or self._following(app) is None:
                    raise
                said = NOT_RELOADED if self._next is None else "what was there before did not end well"
                _log.error(said, reason="; ".join(_sentences(failures)))
            following = self._following(app)
            if stop.is_set() or following is None:
                return
            app, before = following, app

    def _following(self, app: App) -> App | None:
        """Say what is served after an app: what it has become, or, if it never was ready, the last that was."""
        return self._next if self._next is not None or app is self._sound else self._sound

    async def _until_changed(self, app: App, services: Mapping[str, Running], stop: asyncio.Event) -> None:
        """Serve a generation until there is another one to serve, or until `stop`."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            named = {name: service.serve for name, service in services.items()}
            serving = group.create_task(serve(named, stop=ended, grace_seconds=self._grace_seconds))
            noting = group.create_task(self._note_ready(app, services))
            looking, stopping = group.create_task(self._look()), group.create_task(stop.wait())
            await asyncio.wait({looking, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (noting, looking, stopping):
                task.cancel()
            ended.set()

    async def _note_ready(self, app: App, services: Mapping[str, Running]) -> None:
        for service in services.values():
            await service.ready.wait()
        if self._sound is not None and self._sound is not app:
            _tell(self._sound, app)
        self._sound = app
        self.ready.set()

    async def _look(self) -> None:
        """Wait until the app has changed, and can be loaded."""
        while self._next is None:
            await asyncio.sleep(LOOK_SECONDS)
            if self._sources.changed():
                try:
                    self._next = self._sources.load()
                except Misconfigured as error:
                    _log.error(NOT_RELOADED, reason=str(error))


def _sentences(failure: BaseException) -> list[str]:
    if not isinstance(failure, BaseExceptionGroup):
        return [str(failure)]
    group = cast("BaseExceptionGroup[BaseException]", failure)
    return [sentence for each in group.exceptions for sentence in _sentences(each)]


def _tell(before: App, after: App) -> None:
    old, new = {tool.name for tool in before.tools}, {tool.name for tool in after.tools}
    changes = [f"+{name}" for name in sorted(new - old)] + [f"-{name}" for name in sorted(old - new)]
    agents = [agent.name for agent in after.agents]
    _log.info("reloaded", tools=len(new), changes=" ".join(changes) or "none added or gone", agents=" ".join(agents))
