"""The machine that is measured on: what it is, and who else is using it."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.systems import ROOT, cpu_seconds_of

__all__ = ["RESULTS", "Others", "machine", "repeatedly", "store"]

RESULTS = ROOT / "bench" / "results"

OTHERS_CORES_MAX = 0.2


def machine() -> dict[str, Any]:
    """Say on what this was measured, and when."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("anthropic", "openai", "fastapi", "uvicorn", "uvloop", "aiokafka")},
    }


def store(kind: str, where: Mapping[str, Any], found: Mapping[str, Any]) -> Path:
    """Keep what was found on a machine, under the time when that was; give the file. `kind` may be empty."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind}{'-' if kind else ''}{where['at'].replace(':', '')}.json"
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    return path


@contextmanager
def repeatedly(seconds: float, look: Callable[[], None]) -> Generator[None, None, None]:
    """Look at something every so often, in a thread of its own, for as long as the block lasts."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            look()

    thread = threading.Thread(target=watch, name="looking")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Others:
    """What other processes of the machine use meanwhile: their share of the noise."""

    def __init__(self) -> None:
        self._began = time.monotonic(), self._used()

    @property
    def cores(self) -> float:
        """How many cores they used, from the moment when this was made until now."""
        began, used = self._began
        return max(0.0, (self._used() - used) / (time.monotonic() - began))

    def say(self) -> str:
        """Say it."""
        cores = self.cores
        warning = "  <- the machine was not ours: expect noise" if cores > OTHERS_CORES_MAX else ""
        return f"processes that this did not start used {cores:.2f} of {os.cpu_count()} cores{warning}"

    def _used(self) -> float:
        machine = psutil.cpu_times()
        return machine.user + machine.system + machine.nice - cpu_seconds_of(os.getpid())
