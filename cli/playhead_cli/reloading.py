"""Hot reload: what an app defines is served anew when a file of it changes, while the gateway and the store go on.

An app that cannot be loaded changes nothing: what it was is served until it is mended. A reload is a deploy in small:
the old orchestrator and workers stop as they do on any deploy, and the new ones go on from the log.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from types import ModuleType

from playhead.errors import Misconfigured
from playhead.loading import App, load_app
from playhead.service import serve
from playhead.telemetry import logger

from playhead_cli.compose import Running

__all__ = ["Generation", "Reloading", "Sources"]

LOOK_SECONDS = 0.5
"""How often files are looked at."""

FILES_MAX = 2_000
"""How many files of an app are looked at."""

_log = logger("playhead.cli.reload")

Generation = Callable[[App, App | None], AbstractAsyncContextManager[Mapping[str, Running]]]
"""Builds the services of an app, which follows another one or none; leaving it closes what they held."""

Stamp = tuple[int, int]


class Sources:
    """The files that an app is made of: its own, and the modules that it imported from beside it."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._stamps = self._look()

    def changed(self) -> bool:
        """Tell whether a file is not what it was when this last said so."""
        before, self._stamps = self._stamps, self._look()
        return before != self._stamps

    def load(self) -> App:
        """Load the app from its files as they are now. Raises `Misconfigured`; then what was loaded stays."""
        known = self._modules()
        for name, module in known.items():
            del sys.modules[name]
            with suppress(OSError, NotImplementedError):  # compiled code is told from its source by whole seconds
                Path(importlib.util.cache_from_source(str(module.__file__))).unlink(missing_ok=True)
        importlib.invalidate_caches()
        try:
            app = load_app(self._reference)
            if not app.agents:
                raise Misconfigured(f"{self._reference} defines no agent: make one with `Agent(…)`")
        except BaseException:
            for name in self._modules():
                del sys.modules[name]
            sys.modules.update(known)
            raise
        return app

    def _look(self) -> dict[str, Stamp]:
        stamps: dict[str, Stamp] = {}
        files = {str(module.__file__) for module in self._modules().values()} | self._own()
        for file in sorted(files)[:FILES_MAX]:
            with suppress(OSError):
                found = Path(file).stat()
                stamps[file] = (found.st_mtime_ns, found.st_size)
        return stamps

    def _own(self) -> set[str]:
        path = Path(self._reference.split(":")[0])
        return {str(path.resolve())} if path.suffix == ".py" else set()

    def _modules(self) -> dict[str, ModuleType]:
        """Find the modules from the app's own folder. What is installed is nobody's to reload."""
        folder = self._folder()
        return {
            name: module
            for name, module in list(sys.modules.items())
            if isinstance(file := getattr(module, "__file__", None), str)
            and name != "__main__"
            and folder is not None
            and Path(file).is_relative_to(folder)
            and "site-packages" not in Path(file).parts
        }

    def _folder(self) -> Path | None:
        target = self._reference.split(":")[0]
        if target.endswith(".py"):
            return Path(target).resolve().parent
        module = sys.modules.get(target.split(".")[0])
        file = None if module is None else module.__file__
        return None if file is None else Path(file).resolve().parent


class Reloading:
    """Serves one generation of an app after the other."""

    def __init__(self, sources: Sources, app: App, generation: Generation, grace_seconds: float) -> None:
        self.ready = asyncio.Event()
        self._sources = sources
        self._app = app
        self._generation = generation
        self._grace_seconds = grace_seconds

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        app, before = self._app, None
        while True:
            async with self._generation(app, before) as services:
                following = await self._until_changed(services, stop)
            if following is None:
                return
            _tell(app, following)
            app, before = following, app

    async def _until_changed(self, services: Mapping[str, Running], stop: asyncio.Event) -> App | None:
        """Serve a generation until there is another one to serve, or until `stop`."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            changing = group.create_task(self._changed(services))
            stopping = group.create_task(stop.wait())
            named = {name: service.serve for name, service in services.items()}
            serving = group.create_task(serve(named, stop=ended, grace_seconds=self._grace_seconds))
            await asyncio.wait({changing, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            ended.set()
            await serving
            following = changing.result() if changing.done() and not stop.is_set() else None
            changing.cancel()
            stopping.cancel()
        return following

    async def _changed(self, services: Mapping[str, Running]) -> App:
        """Wait until the app has changed, and can be loaded."""
        for service in services.values():
            await service.ready.wait()
        self.ready.set()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._sources.changed():
                try:
                    app = self._sources.load()
                except Misconfigured as error:
                    _log.error("not reloaded: what was there before is served", reason=str(error))
                else:
                    self._sources.changed()  # modules that it imports for the first time are no change
                    return app


def _tell(before: App, after: App) -> None:
    old, new = {tool.name for tool in before.tools}, {tool.name for tool in after.tools}
    changes = [f"+{name}" for name in sorted(new - old)] + [f"-{name}" for name in sorted(old - new)]
    agents = [agent.name for agent in after.agents]
    _log.info("reloaded", tools=len(new), changes=" ".join(changes) or "none added or gone", agents=" ".join(agents))
