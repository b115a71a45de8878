"""The Python files that an app is made of: which they are, whether they changed, and loading them afresh.

What is installed, Python's own library and Playhead itself are nobody's to load again, wherever the app's folder is:
in a container it may well be the root, at home it may hold the interpreter.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import cast

from playhead.errors import Misconfigured
from playhead.loading import App, load_app

__all__ = ["Sources"]

FILES_MAX = 2_000
"""How many files of an app are looked at."""

FOLDERS_MAX = 500
"""In how many folders files are looked for while an app is broken."""

PLAYHEAD = frozenset(
    f"playhead{part}" for part in ("", "_cli", "_gateway", "_orchestrator", "_schemas", "_tool_workers")
)
INSTALLED = frozenset({"site-packages", "dist-packages"})
LIBRARY = frozenset(
    path
    for name in ("stdlib", "platstdlib")
    for path in (Path(sysconfig.get_path(name)), Path(sysconfig.get_path(name)).resolve())
)

Stamp = tuple[int, int]


class Sources:
    """The files of an app: its own, and the modules that it imported from beside it."""

    def __init__(self, reference: str) -> None:
        """Take an app that is loaded."""
        self._reference = reference
        self._target = reference.partition(":")[0]
        self._file = Path(self._target).resolve() if self._target.endswith(".py") else None
        self._broken = False
        self._verdicts: dict[str, bool] = {}
        self._found: tuple[int, dict[str, ModuleType]] = 0, {}
        self._stamps = self._look()

    def changed(self) -> bool:
        """Tell whether a file is not what it was when this last said so."""
        before, self._stamps = self._stamps, self._look()
        return before != self._stamps

    def load(self) -> App:
        """Load the app from its files as they are now. Raises `Misconfigured`; then what was loaded stays."""
        try:
            app = self._load()
        except BaseException:
            self._broken = True
            raise
        else:
            self._broken = False
        finally:
            self._found = 0, {}
            # What is looked at from now on may be more or less, and that is no change. But a file that was looked at
            # before keeps its stamp: if it was written while the app was loading, it is still to be seen.
            self._stamps = {file: self._stamps.get(file, stamp) for file, stamp in self._look().items()}
        return app

    def _load(self) -> App:
        known = self._search()
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
            for name in self._search():
                del sys.modules[name]
            sys.modules.update(known)
            raise
        return app

    def _look(self) -> dict[str, Stamp]:
        stamps: dict[str, Stamp] = {}
        for file in islice(self._files(), FILES_MAX):
            with suppress(OSError):
                found = os.stat(file)  # noqa: PTH116 - as cheap as can be
                stamps[file] = (found.st_mtime_ns, found.st_size)
        return stamps

    def _files(self) -> Generator[str, None, None]:
        if self._file is not None:
            yield str(self._file)
        yield from sorted(str(module.__file__) for module in self._modules().values())
        folder = self._folder() if self._broken else None
        if folder is not None:
            # What it broke on may be a module that never was loaded, or that is not there yet.
            yield from _python_files(folder)

    def _modules(self) -> dict[str, ModuleType]:
        """Find the modules from the app's own folder.

        This is done all the time in a process that streams: it looks through what is loaded only if there is more, and
        at no file twice.
        """
        count, found = self._found
        if count != len(sys.modules):
            found = self._search()
            self._found = len(sys.modules), found
        return found

    def _search(self) -> dict[str, ModuleType]:
        folder = self._folder()
        if folder is None:
            return {}
        return {
            name: module
            for name, module in list(sys.modules.items())
            if name != "__main__"
            and name.partition(".")[0] not in PLAYHEAD
            and isinstance(file := getattr(module, "__file__", None), str)
            and self._is_own(file, folder)
        }

    def _is_own(self, file: str, folder: Path) -> bool:
        verdict = self._verdicts.get(file)
        if verdict is None:
            path = Path(file)
            verdict = self._verdicts[file] = path.is_relative_to(folder) and not _is_installed(path)
        return verdict

    def _folder(self) -> Path | None:
        if self._file is not None:
            return self._file.parent
        module = sys.modules.get(self._target.partition(".")[0])
        if module is None:
            return None
        # A package without `__init__.py` has no file, but a path.
        places = cast("Sequence[str | None]", (module.__file__, *getattr(module, "__path__", ())))
        return next((_as_folder(Path(place)) for place in places if place is not None), None)


def _as_folder(path: Path) -> Path:
    path = path.resolve()
    return path if path.is_dir() else path.parent


def _is_installed(file: Path) -> bool:
    return not INSTALLED.isdisjoint(file.parts) or any(file.is_relative_to(library) for library in LIBRARY)


def _python_files(folder: Path) -> Generator[str, None, None]:
    for here, folders, names in islice(os.walk(folder), FOLDERS_MAX):
        folders[:] = sorted(name for name in folders if name[0] not in "._" and name not in INSTALLED)
        yield from (f"{here}/{name}" for name in sorted(names) if name.endswith(".py"))
