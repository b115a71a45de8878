"""What a pool of tool workers does on a real Kafka: calls a second of 1, 2 and 4 workers, and what a call costs.

The load comes from here: calls are published to the pool's topic as an owner publishes them, and their results are
read from `agent.results`. No orchestrator and no log is between, so that the pool is what is measured. (Leases are for
owners to check; nobody does here.) Workers are processes, started as in a deployment: `playhead worker`.

Each worker has `CONCURRENCY` slots. With calls of 50 ms a slot does 20 a second, so that a worker can do 80, for which
it uses a small part of a core: it is bound by its slots, as a worker is whose tools wait for other services. With many
more slots four workers, the broker and this process together would need more cores than a small machine has, and the
ratio would be that of the machine.

Two phases. *Full*: all calls are published at once, and the time to the last result gives the calls a second; what a
call waits then is the queue. *Idle*: calls come at a quarter of what the pool can do, so that a slot is free for each;
what a call takes beyond the tool's own time is the overhead of the pool. All times are of one machine's monotonic
clock.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import uvloop
from playhead.adapters.kafka import KafkaStore, open_kafka
from playhead.adapters.kafka.connection import KafkaConnection
from playhead.codec import Codec
from playhead.commands import ReportResult, RunTool
from playhead.events import Json
from playhead.ids import CallId, RunId, digest, session_id
from playhead.queue import Topics

from bench.machine import machine, store
from bench.systems import ROOT, Process
from bench.table import quantile

__all__ = ["Figures", "main", "measure"]

CONCURRENCY = 4
POOL_SIZES = (1, 2, 4)
CALLS = 10_000
IDLE_CALLS = 400
IDLE_SHARE = 0.25
TOOL_SECONDS = 0.05
RATIO_MIN = 3.5
WARM_UP_CALLS = 40
QUIET_SECONDS = 30.0
"""Without any result for so long, calls have been lost."""
IN_FLIGHT_MAX = 64
"""How many publishes wait for the broker at the same time."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it went, in nanoseconds of the monotonic clock."""

    published: int
    began: int
    ended: int
    received: int
    pid: int

    @property
    def queue_ms(self) -> float:
        return (self.began - self.published) / 1e6

    @property
    def report_ms(self) -> float:
        return (self.received - self.ended) / 1e6

    @property
    def overhead_ms(self) -> float:
        """From publishing to the result, without what the tool took."""
        return self.queue_ms + self.report_ms


@dataclass(frozen=True, slots=True)
class Figures:
    """What one pool size came to. `cpu_ms` is of the workers, for each call."""

    workers: int
    per_second: float
    full: Sequence[Call]
    idle: Sequence[Call]
    cpu_ms: float
    twice: int


class Load:
    """Publishes calls and gathers their results."""

    def __init__(self, store: KafkaStore, topics: Topics, pool: str) -> None:
        self._queue = store.queue
        self._topics = topics
        self._pool = pool
        self._codec = Codec()
        self._published: dict[str, int] = {}
        self._calls: list[Call] = []
        self._more = asyncio.Event()
        self.reading = asyncio.Event()
        self.twice = 0

    async def read(self) -> None:
        """Take results until cancelled. One that comes twice is counted: nothing here gives a reason for it."""
        async with aclosing(self._results()) as results:
            async for result in results:
                now = time.monotonic_ns()
                if result.status != "ok":
                    raise RuntimeError(f"a call ended as {result.status}: {result.output}")
                published = self._published.pop(result.call_id, None)
                if published is None:
                    self.twice += 1
                    continue
                began, ended, pid = orjson.loads(result.output)
                self._calls.append(Call(published, began, ended, now, pid))
                self._more.set()

    async def run(self, count: int, per_second: float | None = None) -> list[Call]:
        """Publish calls, at once or evenly in time, and give them when all have ended."""
        self._calls = []
        started = time.monotonic()
        if per_second is None:
            room = asyncio.Semaphore(IN_FLIGHT_MAX)
            await asyncio.gather(*(self._publish(room) for _ in range(count)))
        else:
            for number in range(count):
                await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
                await self._publish()
        while len(self._calls) < count:
            self._more.clear()
            async with asyncio.timeout(QUIET_SECONDS):
                await self._more.wait()
        return self._calls

    async def _publish(self, room: asyncio.Semaphore | None = None) -> None:
        if room is not None:
            async with room:
                return await self._publish()
        command = self._command()
        self._published[command.call_id] = time.monotonic_ns()
        value = self._codec.encode(command)
        return await self._queue.publish(self._topics.tools(self._pool).name, command.call_id, value)

    def _command(self) -> RunTool:
        session = session_id(secrets.token_bytes(16))
        call = CallId(f"call_{digest('bench', session)}")
        return RunTool(
            session=session,
            run_id=RunId(f"run_{digest('bench', session)}"),
            call_id=call,
            name="nap",
            input=Json("{}"),
            effect="read",
            pool=self._pool,
            lease="",
            idempotency_key=call,
            # far in the future: a call that has waited for long is asked for first, and nobody is there to answer
            dispatched_at=(time.time_ns() // 1000) + 3_600_000_000,
        )

    async def _results(self) -> AsyncGenerator[ReportResult, None]:
        name = self._topics.results.name
        async with aclosing(self._queue.replay(name, since="end", follow=True)) as batches:
            async for messages in batches:
                self.reading.set()
                for message in messages:
                    command = self._codec.command(message.value)
                    if isinstance(command, ReportResult):
                        yield command


async def measure(kafka: str, workers: int, calls: int, idle_calls: int = IDLE_CALLS) -> Figures:
    """Start a pool of so many workers on topics of its own, and load it."""
    topics = Topics(f"bench-{secrets.token_hex(4)}")
    with tempfile.TemporaryDirectory() as folder:
        async with open_kafka(KafkaConnection(kafka), topics=topics) as store:
            await store.queue.prepare(*topics.fixed, topics.tools("default"), topics.control("default"))
            with pool(Path(folder), kafka, topics.prefix, workers) as processes:
                return await _loaded(Load(store, topics, "default"), processes, calls, idle_calls)


async def _loaded(load: Load, processes: Sequence[Process], calls: int, idle_calls: int) -> Figures:
    workers = len(processes)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(load.read())
        await load.reading.wait()
        await warm_up(load, workers)
        capacity = workers * CONCURRENCY / TOOL_SECONDS
        idle = await load.run(idle_calls, per_second=IDLE_SHARE * capacity)
        used = sum(process.cpu_seconds for process in processes)
        began = time.monotonic()
        full = await load.run(calls)
        seconds = time.monotonic() - began
        cpu_ms = (sum(process.cpu_seconds for process in processes) - used) * 1000 / calls
        reading.cancel()
    return Figures(workers, calls / seconds, full, idle, cpu_ms, load.twice)


async def warm_up(load: Load, workers: int) -> None:
    """Load the pool until all its workers take part: from then on the group does not change any more."""
    seen: set[int] = set()
    while len(seen) < workers:
        seen |= {call.pid for call in await load.run(WARM_UP_CALLS * workers)}
    load.twice = 0


@contextmanager
def pool(folder: Path, kafka: str, prefix: str, workers: int) -> Generator[list[Process], None, None]:
    """Start so many workers and wait until all take part."""
    playhead = str(Path(sys.executable).with_name("playhead"))
    command = [playhead, "worker", "bench.tools_app", "--kafka", kafka, "--concurrency", str(CONCURRENCY)]
    variables = {"PLAYHEAD_TOPIC_PREFIX": prefix, "PLAYHEAD_METRICS_PORT": "-1", "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        processes: list[Process] = []
        for number in range(workers):
            log = folder / f"worker-{number}.log"
            with log.open("wb") as err, log.with_suffix(".out").open("wb") as out:
                surroundings = {**os.environ, **variables}
                popen = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=out, stderr=err)
            processes.append(Process(f"worker {number}", popen, log))
            stack.callback(processes[-1].stop)
        for process in processes:
            process.wait_until("ready")
        yield processes


def table(figures: Sequence[Figures]) -> str:
    lines = ["workers  calls/s   ratio  CPU/call |  full: queue p50/p95/p99 ms |  idle: overhead p50/p95/p99 ms"]
    for each in figures:
        queue = spread([call.queue_ms for call in each.full])
        overhead = spread([call.overhead_ms for call in each.idle])
        ratio = each.per_second / figures[0].per_second
        lines.append(
            f"{each.workers:7}  {each.per_second:7.1f}  {ratio:5.2f}x  {each.cpu_ms:5.2f} ms | {queue} | {overhead}"
        )
    lines += [f"{each.twice} results came twice with {each.workers} workers" for each in figures if each.twice]
    first = figures[0].idle
    to_tool, back = spread([call.queue_ms for call in first]), spread([call.report_ms for call in first])
    lines.append(f"idle, 1 worker: publish to start {to_tool} ms, done to result read {back} ms")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return " / ".join(f"{quantile(values, share):8.2f}" for share in (0.5, 0.95, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure pools of tool workers on a Kafka.")
    parser.add_argument("--kafka", default="start", metavar="HOST:PORT", help="or `start`, for a broker of its own")
    parser.add_argument("--calls", type=int, default=CALLS)
    arguments = parser.parse_args()
    where = machine()
    with ExitStack() as stack:
        kafka = arguments.kafka
        if kafka == "start":
            broker = subprocess.Popen([sys.executable, "-m", "tests.support.broker"], stdout=subprocess.PIPE, text=True)
            stack.callback(broker.wait)
            stack.callback(broker.terminate)
            assert broker.stdout is not None
            kafka = broker.stdout.readline().strip()
        figures = [uvloop.run(measure(kafka, workers, arguments.calls)) for workers in POOL_SIZES]
    said = table(figures)
    print(said)
    path = store("tools", where, {"machine": where, "calls": arguments.calls, "table": said.splitlines()})
    print(f"stored in {path.name}")
    ratio = figures[-1].per_second / figures[0].per_second
    print(f"{POOL_SIZES[-1]} workers do {ratio:.2f} times what 1 does (at least {RATIO_MIN} wanted)")
    sys.exit(0 if ratio >= RATIO_MIN else 1)


if __name__ == "__main__":
    main()
