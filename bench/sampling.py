"""What a running deployment holds, taken from outside: its processes, what they say of themselves, and its broker.

And what the machine under it was like: how long its disk took, and what of its cores somebody else was given.

It refuses to know what load they are under.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from bench.footprint import MIB, bytes_of_folder
from bench.machine import repeatedly

__all__ = ["BrokerState", "Machine", "Processes", "database_mib", "open_broker", "open_machine"]

ANSWER_SECONDS_MAX = 5.0
SYNC_SECONDS = 1.0
"""How often a small file is synced. A database does so hundreds of times as often: nobody is slower for it."""
GAUGES = ("sessions_owned", "stream_clients", "tool_calls_running", "tasks")
GAUGE = re.compile(rf"^playhead_({'|'.join(GAUGES)})(?:\{{[^}}]*\}})? ([0-9.e+]+)$", re.MULTILINE)


class Processes:
    """Processes by name, each with its children (a broker is a script that starts a server)."""

    def __init__(self, pids: Mapping[str, int], metrics: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._metrics = metrics
        self._used: dict[str, tuple[float, float]] = {}

    async def sample(self) -> dict[str, float]:
        """Take memory, files, threads, CPU since the last time, and the gauges of those that have metrics."""
        found: dict[str, float] = {}
        for name, root in self._roots.items():
            family = [root, *root.children(recursive=True)]
            found[f"{name}.rss_mib"] = sum(member.memory_info().rss for member in family) / MIB
            found[f"{name}.fds"] = sum(member.num_fds() for member in family)
            found[f"{name}.threads"] = sum(member.num_threads() for member in family)
            times = [member.cpu_times() for member in family]
            used, now = sum(each.user + each.system for each in times), time.monotonic()
            if name in self._used:
                before, at = self._used[name]
                found[f"{name}.cores"] = (used - before) / (now - at)
            self._used[name] = used, now
        for name, port in self._metrics.items():
            text = await asyncio.to_thread(_asked, f"http://127.0.0.1:{port}/metrics")
            for gauge, value in GAUGE.findall(text):
                key = f"{name}.{gauge}"
                found[key] = found.get(key, 0.0) + float(value)
        return found


class Machine:
    """What the machine was like since the last sample. Where it stands still, so does all that runs on it."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._worst = 0.0
        self._stolen = psutil.cpu_times(), time.monotonic()

    def sample(self) -> dict[str, float]:
        """Give the longest sync, and the cores that a host gave to other machines (0 where no host says)."""
        worst, self._worst = self._worst, 0.0
        (before, since), now = self._stolen, (psutil.cpu_times(), time.monotonic())
        self._stolen = now
        stolen = getattr(now[0], "steal", 0.0) - getattr(before, "steal", 0.0)
        return {"disk.sync_ms": worst, "stolen.cores": max(0.0, stolen) / max(now[1] - since, 1e-9)}

    def sync(self) -> None:
        """Sync a byte, and note how long that took."""
        began = time.monotonic()
        os.pwrite(self._file, b"\0", 0)
        os.fsync(self._file)
        self._worst = max(self._worst, (time.monotonic() - began) * 1e3)


@contextmanager
def open_machine(folder: Path) -> Generator[Machine, None, None]:
    """Watch the disk that a folder is on."""
    with tempfile.TemporaryFile(dir=folder) as file:
        watched = Machine(file.fileno())
        with repeatedly(SYNC_SECONDS, watched.sync):
            yield watched


def _asked(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=ANSWER_SECONDS_MAX) as answer:
        return answer.read().decode()


def database_mib(folder: Path) -> float:
    """Give the size of an embedded log with its companions."""
    return bytes_of_folder(folder) / MIB


class BrokerState:
    """What a broker holds of one deployment: topics, partitions, and what its groups have not yet done with."""

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, prefix: str) -> None:
        self._admin = admin
        self._consumer: Any = consumer  # Any: aiokafka's methods are half annotated
        self._prefix = prefix

    async def sample(self) -> dict[str, float]:
        """Count topics and partitions, and add the lags of all groups up."""
        names = [name for name in await self._admin.list_topics() if name.startswith(self._prefix)]
        described: Sequence[dict[str, Any]] = await self._admin.describe_topics(names) if names else []
        return {
            "topics": float(len(names)),
            "partitions": float(sum(len(each["partitions"]) for each in described)),
            "lag": float(await self._lag()),
        }

    async def _lag(self) -> int:
        groups = [str(found[0]) for found in await self._admin.list_consumer_groups()]
        behind = 0
        for group in groups:
            if group.startswith(self._prefix):
                done = await self._admin.list_consumer_group_offsets(group)
                ends = await self._consumer.end_offsets(list(done))
                behind += sum(max(0, ends[place] - max(0, offset.offset)) for place, offset in done.items())
        return behind


@asynccontextmanager
async def open_broker(address: str, prefix: str) -> AsyncGenerator[BrokerState, None]:
    """Look at the topics and groups of a deployment."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    await admin.start()
    try:
        await consumer.start()
        try:
            yield BrokerState(admin, consumer, prefix)
        finally:
            await consumer.stop()
    finally:
        await admin.close()
