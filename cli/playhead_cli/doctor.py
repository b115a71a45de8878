"""`playhead doctor`: looks at this machine and the deployment, and says on each line what to do about it."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from playhead.errors import PlayheadError
from playhead.queue import TopicSpec
from playhead.settings import Settings

from playhead_cli import compose, opening
from playhead_cli.render import Style, clean
from playhead_cli.terminal import Terminal

__all__ = ["Finding", "doctor"]

SYNCS = 15
SYNC_SLOW_SECONDS = 0.02
"""An append waits for one sync: past this, text comes in visible steps."""

STYLES: Mapping[str, Style] = {"ok": "tool", "warn": "mark", "fail": "error"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `advice` says what to do unless all is well."""

    level: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}" + (f": {self.advice}" if self.advice else "")


async def doctor(settings: Settings, terminal: Terminal, *, pools: Sequence[str]) -> int:
    """Check everything and print a line each. Returns 1 if anything fails."""
    failed = False
    for findings in (_machine(), await _data(settings), _keys(os.environ), await _cluster(settings, pools)):
        for finding in findings:
            failed |= _say(terminal, finding)
    return int(failed)


def _say(terminal: Terminal, finding: Finding) -> bool:
    terminal.line(clean(str(finding)), STYLES[finding.level])
    return finding.level == "fail"


def _machine() -> Iterator[Finding]:
    yield Finding("ok", f"Python {platform.python_version()}")  # an older one than 3.11 does not get this far
    if find_spec("uvloop") is None:
        yield Finding("warn", "no uvloop", "everything works, more slowly: `pip install uvloop`")
    else:
        yield Finding("ok", "uvloop")


async def _data(settings: Settings) -> list[Finding]:
    folder = settings.data
    try:
        seconds = _sync_seconds(folder)
        with tempfile.TemporaryDirectory(dir=_nearest(folder)) as there:
            tried = settings.model_copy(update={"data": Path(there)})
            async with opening.open_embedded(tried) as store:
                await store.log.create()
    except (OSError, PlayheadError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return [Finding("fail", f"data folder {folder} ({reason})", "give another with --data, or make it writable")]
    what = f"a sync to disk takes {seconds * 1000:.2f} ms"
    slow = Finding("warn", what, "each append waits for one: put --data on a faster disk")
    return [
        Finding("ok", f"data folder {folder} can hold sessions (SQLite)"),
        slow if seconds > SYNC_SLOW_SECONDS else Finding("ok", what),
    ]


def _nearest(folder: Path) -> Path:
    """Give the folder, or if it is not there yet the one that it would be made in."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())


def _sync_seconds(folder: Path) -> float:
    """Measure the median time of a sync where the data is, or would be: nothing is left behind."""
    with tempfile.TemporaryFile(dir=_nearest(folder)) as file:
        return statistics.median(_timed(lambda: _write_synced(file.fileno())) for _ in range(SYNCS))


def _write_synced(file: int) -> None:
    os.write(file, bytes(4096))
    os.fsync(file)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _keys(environment: Mapping[str, str]) -> Iterator[Finding]:
    present = [key for key in opening.EXAMPLE_MODELS if environment.get(key)]
    if present:
        yield Finding("ok", f"model keys: {', '.join(present)} set")
    else:
        advice = f"agents can only use the scripted model: set {' or '.join(opening.EXAMPLE_MODELS)}"
        yield Finding("warn", "no model key", advice)


async def _cluster(settings: Settings, pools: Sequence[str]) -> list[Finding]:
    if not settings.kafka:
        return [Finding("ok", "no Kafka named, none checked (--kafka HOST:PORT)")]
    specs = (*settings.topics.fixed, *compose.pool_topics(settings.topics, pools))
    try:
        async with opening.open_cluster(settings, client="doctor", wait_seconds=0) as store:
            found = await store.describe(specs)
    except PlayheadError as error:
        return [Finding("fail", "Kafka", str(error))]
    findings = [Finding("ok", f"Kafka at {settings.kafka} answers, {len(found.brokers)} broker(s)")]
    if len(found.brokers) < 3:
        advice = "a broker that is lost takes what only it kept: three, and PLAYHEAD_KAFKA_REPLICATION_FACTOR=3"
        findings.append(Finding("warn", "fewer than three brokers", advice))
    return [*findings, *(_topic(state.spec, state.partitions) for state in found.topics)]


def _topic(spec: TopicSpec, partitions: int) -> Finding:
    what = f"topic {spec.name}"
    if partitions == 0:
        return Finding("fail", f"{what} is missing", "run `playhead topics create`")
    if spec.grows and partitions < spec.partitions:
        return Finding(
            "warn", f"{what} has {partitions} of {spec.partitions} partitions", "run `playhead topics create`"
        )
    if partitions != spec.partitions and not spec.grows:
        advice = "set PLAYHEAD_SESSION_PARTITIONS and PLAYHEAD_POOL_PARTITIONS to what the topics were made with"
        return Finding("fail", f"{what} has {partitions} partitions, not {spec.partitions}", advice)
    return Finding("ok", f"{what}, {partitions} partition(s)")
