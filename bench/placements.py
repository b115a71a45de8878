"""What the two placements cost by themselves: session logs on Kafka, each in a topic of its own or all in lanes.

No model, no orchestrator, no gateway: what they add is in `bench.run`.

    python -m bench.placements [--sessions 10,1000,10000] [--placements topic,lanes] [--rounds 3] [--rate 1000] …

One process opens 10, 1,000 or 10,000 sessions, follows each of them, and appends deltas: each session as often as every
0.2 s, all together at most 1,000 times a second. A delta carries the time at which it was due, so what a busy process
or broker makes it wait is in the figure. Then the same is written again beside a process that follows sessions of which
none is written: what that uses is for others' records, which it looks at in lanes. At last a second client, to which
all sessions are new, looks for the ends of some and reads them. Each measurement has a broker of its own, because
topics that are over stay on it. What did not work is not tried again.

Exits with 1 if a follower did not get each delta exactly once and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import orjson
import psutil
import uvloop
from playhead.adapters.kafka import KafkaConnection, open_kafka
from playhead.errors import Unavailable
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.queue import Topics

from bench.footprint import MIB, bytes_of_topics
from bench.machine import Others, machine, store
from bench.raw import STAMP, delay_ms
from bench.sampling import Processes
from bench.stage import Broker, Result, ask, in_turn, say, start_broker
from bench.systems import ROOT, NotStarted
from bench.table import Figures, quantile
from bench.writing import Into, IntoLog, Writing

__all__ = ["ROWS", "Broken", "Followers", "main", "measure", "rows"]

PREFIX = "bench"
LANES = 64
WARM_UP_SESSIONS = 20
WARM_UP_SECONDS = 3.0
"""A broker that has just begun is slow."""
SAMPLED = 100
"""How many sessions the second client looks at."""
SILENT = 256
"""How many sessions the process beside follows: in 64 lanes they are in all of them, or all but one or two."""
BESIDE_SECONDS_MAX = 30.0
"""How long the process beside may take to begin, and to answer."""
SETTLE_SECONDS = 1.0
"""Until what it follows is fetched as it will be."""
USED = b"CPU seconds used: "
MEASURE_SECONDS_MAX = 900.0
CAUGHT_UP_SECONDS_MAX = 60.0
"""How long followers may take after the last append."""

PROBLEMS_SHOWN_MAX = 3


class Broken(Exception):
    """What was to be measured did not work."""


Case = tuple[str, int]
"""A placement and how many sessions are live."""


@dataclass(frozen=True, slots=True)
class Pace:
    """For how long is written, how many deltas a second over all sessions at most, and how many to one."""

    seconds: float
    rate: float
    rate_each: float

    def of(self, count: int) -> float:
        """Give the deltas a second of each of so many sessions."""
        return min(self.rate_each, self.rate / count)


ROWS: Sequence[tuple[str, str, str]] = (  # a title, the figure's name, and that of what stands beside it
    ("beginning a session: created, first event kept, p50 / p99 (ms)", "start_p50", "start_p99"),
    ("sessions opened a second, 64 at once", "opened_per_second", ""),
    ("append, p50 / p99 (ms)", "append_p50", "append_p99"),
    ("a delta from when it was due to its follower, p50 / p99 (ms)", "arrival_p50", "arrival_p99"),
    ("CPU for an append and its follower (µs)", "cpu_us", ""),
    ("memory of that process (MiB)", "rss_mib", ""),
    ("CPU of a process that follows none of them, for a delta (µs)", "others_us", ""),
    ("a client that is new: until its first answer (ms)", "second_ready", ""),
    ("its look for the end of a session, p50 (ms)", "end_p50", ""),
    ("its reading of a session, p50 (ms)", "read_p50", ""),
    ("broker: cores", "broker.cores", ""),
    ("broker: memory (MiB)", "broker.rss_mib", ""),
    ("broker: open files", "broker.fds", ""),
    ("broker: bytes of a delta", "broker_bytes", ""),
)


def rows(figures: Figures) -> list[str]:
    """Write the table as Markdown, a column a case: medians, with the range of the rounds where there are several."""
    lines = [f"| | {' | '.join(figures)} |", f"|---|{'---|' * len(figures)}"]
    for title, name, beside in ROWS:
        cells = [_cell(found.get(name, ()), found.get(beside, ())) for found in figures.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _cell(figures: Sequence[float], beside: Sequence[float]) -> str:
    if not figures:
        return "–"
    shown = _short(median(figures))
    if len(figures) > 1:
        shown += f" ({_short(min(figures))}–{_short(max(figures))})"
    return f"{shown} / {_short(median(beside))}" if beside else shown


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


class Timed:
    """Where sessions are written, and how long each took to begin."""

    def __init__(self, into: Into) -> None:
        self._into = into
        self.began_ms: list[float] = []
        self.append = into.append

    async def begin(self) -> str:
        """Begin a session and give its name."""
        began = time.perf_counter()
        session = await self._into.begin()
        self.began_ms.append((time.perf_counter() - began) * 1000)
        return session


class Followers:
    """Follows sessions, and notes when each delta came."""

    def __init__(self, log: SessionLog, tasks: asyncio.TaskGroup) -> None:
        self._log = log
        self._tasks = tasks
        self._last: dict[str, int] = {}
        self._moved = asyncio.Event()
        self._followed: list[asyncio.Task[None]] = []
        self.delays_ms: list[float] = []
        self.problems: list[str] = []

    def follow(self, sessions: Sequence[str]) -> None:
        """Begin to follow."""
        self._followed += [self._tasks.create_task(self._follow(session)) for session in sessions]

    async def reach(self, last: Mapping[str, int]) -> None:
        """Wait until each session has come to a seq. Raises `TimeoutError`."""
        async with asyncio.timeout(CAUGHT_UP_SECONDS_MAX):
            while any(self._last.get(session, 0) < seq for session, seq in last.items()):
                self._moved.clear()
                await self._moved.wait()

    def stop(self) -> None:
        """Follow no more."""
        for task in self._followed:
            task.cancel()

    async def _follow(self, session: str) -> None:
        async with aclosing(self._log.read(SessionId(session), follow=True)) as pages:
            async for page in pages:
                for record in page.records:
                    if record.seq != self._last.get(session, 0) + 1:
                        self.problems.append(f"{session}: {record.seq} came after {self._last.get(session, 0)}")
                    self._last[session] = record.seq
                    if STAMP.search(record.value):
                        self.delays_ms.append(delay_ms(record.value))
                self._moved.set()


def _topics(placement: str) -> Topics:
    return Topics(PREFIX, lane_count=LANES if placement == "lanes" else 0)


async def measure(case: Case, pace: Pace, broker: Broker) -> dict[str, float]:
    """Measure one case in this process. Raises `Broken`, `TimeoutError`."""
    placement, count = case
    topics, connection = _topics(placement), KafkaConnection(broker.address)
    async with open_kafka(connection, topics=topics) as store:
        await store.queue.prepare(*topics.lane_topics)
        async with asyncio.TaskGroup() as tasks:
            followers = Followers(store.log, tasks)
            store.warm()
            warming = Writing(IntoLog(store.log), pace.of(WARM_UP_SESSIONS), 0)
            await warming.begin(WARM_UP_SESSIONS)
            await warming.write(WARM_UP_SECONDS)
            into = Timed(IntoLog(store.log))
            began = time.perf_counter()
            writing = Writing(into, pace.of(count), 0)
            try:
                await writing.begin(count)
            except* Unavailable as failures:
                raise Broken(f"with {len(writing.sessions):,} sessions open: {failures.exceptions[0]}") from failures
            figures = {
                "opened_per_second": count / (time.perf_counter() - began),
                "start_p50": quantile(into.began_ms, 0.5),
                "start_p99": quantile(into.began_ms, 0.99),
            }
            figures |= await _live(writing, followers, pace.seconds, broker)
            figures |= await _others(writing, followers, pace.seconds, placement, broker)
            figures |= await _second(connection, topics, writing.sessions)
            followers.stop()
    if followers.problems:
        raise Broken("; ".join(followers.problems[:PROBLEMS_SHOWN_MAX]))
    return figures


async def _live(writing: Writing, followers: Followers, seconds: float, broker: Broker) -> dict[str, float]:
    """Write while everything is followed."""
    followers.follow(writing.sessions)
    await followers.reach(dict.fromkeys(writing.sessions, 2))
    kept = sum(bytes_of_topics(broker.address, PREFIX).values())
    looked = Processes({"broker": broker.pid} if broker.pid else {}, {})
    await looked.sample()  # from now on CPU is counted
    used = time.process_time()
    wrote = await _written(writing, followers, seconds)
    delays = followers.delays_ms
    return {
        "append_p50": wrote["append_p50_ms"],
        "append_p99": wrote["append_p99_ms"],
        "arrival_p50": quantile(delays, 0.5),
        "arrival_p99": quantile(delays, 0.99),
        "cpu_us": (time.process_time() - used) / len(delays) * 1e6,
        "rss_mib": psutil.Process().memory_info().rss / MIB,
        "broker_bytes": (sum(bytes_of_topics(broker.address, PREFIX).values()) - kept) / len(delays),
        **await looked.sample(),
    }


async def _others(
    writing: Writing, followers: Followers, seconds: float, placement: str, broker: Broker
) -> dict[str, float]:
    """Write beside a process that follows other sessions."""
    what = ["--kafka", broker.address, "--placements", placement, "--beside"]
    beside = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.placements", *what, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert beside.stdin is not None
    try:
        before, known = await _used(beside), len(followers.delays_ms)
        await _written(writing, followers, seconds)
        beside.stdin.close()
        used = await _used(beside) - before
    finally:
        if beside.returncode is None:
            beside.kill()
        await beside.wait()
    return {"others_us": used / (len(followers.delays_ms) - known) * 1e6}


async def _written(writing: Writing, followers: Followers, seconds: float) -> dict[str, Any]:
    """Write for so long, and until all of it was followed; give what the writing came to."""
    wrote: dict[str, Any] = await writing.write(seconds)
    await followers.reach(dict(zip(writing.sessions, wrote["last"], strict=True)))
    return wrote


async def _used(beside: Process) -> float:
    """Read what CPU time a process says that it has used. Raises `Broken`."""
    assert beside.stdout is not None
    async with asyncio.timeout(BESIDE_SECONDS_MAX):
        async for line in beside.stdout:
            if line.startswith(USED):
                return float(line.removeprefix(USED))
    raise Broken("the process beside has ended")


async def _follow_silent(connection: KafkaConnection, topics: Topics) -> None:
    """Follow sessions that nobody writes; say the CPU time used so far, and again when stdin ends."""
    async with open_kafka(connection, topics=topics) as store, asyncio.TaskGroup() as tasks:
        ready = asyncio.Semaphore(0)

        async def follow() -> None:
            async with aclosing(store.log.read(await store.log.create(), follow=True)) as pages:
                async for _ in pages:
                    ready.release()

        following = [tasks.create_task(follow()) for _ in range(SILENT)]
        for _ in following:
            await ready.acquire()
        await asyncio.sleep(SETTLE_SECONDS)
        print(f"{USED.decode()}{time.process_time()}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(f"{USED.decode()}{time.process_time()}", flush=True)
        for task in following:
            task.cancel()


async def _second(connection: KafkaConnection, topics: Topics, sessions: Sequence[str]) -> dict[str, float]:
    """Look at some sessions as a client to which all are new."""
    chosen = random.Random(1).sample(list(sessions), min(SAMPLED, len(sessions)))
    began = time.perf_counter()
    async with open_kafka(connection, topics=topics) as second:
        await second.log.end(SessionId(chosen[0]))
        ready = (time.perf_counter() - began) * 1000
        ends = [await _timed(lambda name=name: second.log.end(SessionId(name))) for name in chosen[1:]]
        reads = [await _timed(lambda name=name: _read(second.log, name)) for name in chosen]
    return {"second_ready": ready, "end_p50": quantile(ends, 0.5), "read_p50": quantile(reads, 0.5)}


async def _timed(do: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await do()
    return (time.perf_counter() - began) * 1000


async def _read(log: SessionLog, session: str) -> None:
    async with aclosing(log.read(SessionId(session))) as pages:
        async for _ in pages:
            pass


def _apart(case: Case, pace: Pace, broker: Broker) -> dict[str, float]:
    """Measure in a process of its own, so that memory is this case's. Raises `Broken`."""
    placement, count = case
    where = ["--kafka", broker.address, "--broker", str(broker.pid or 0)]
    what = ["--placements", placement, "--sessions", str(count)]
    what += ["--seconds", str(pace.seconds), "--rate", str(pace.rate), "--rate-each", str(pace.rate_each)]
    try:
        said = ask("placements", "--here", *where, *what, seconds=MEASURE_SECONDS_MAX)
    except subprocess.SubprocessError as error:
        raise Broken(str(error)) from error
    if "problem" in said:
        raise Broken(said["problem"])
    return said


def _here(case: Case, pace: Pace, broker: Broker) -> dict[str, Any]:
    """Measure in this process; give the figures, or what went wrong."""
    said: dict[str, Any] = {}
    try:
        said = dict(uvloop.run(measure(case, pace, broker)))
    except* (Broken, TimeoutError, Unavailable) as failures:
        said = {"problem": str(failures.exceptions[0]) or "a follower did not come to the end"}
    return said


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.placements", description=__doc__)
    parser.add_argument("--sessions", default="10,1000,10000", help="how many are live at once")
    parser.add_argument("--placements", default="topic,lanes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long is written")
    parser.add_argument("--rate", type=float, default=1_000.0, help="deltas a second over all sessions, at most")
    parser.add_argument("--rate-each", type=float, default=5.0, help="and to one session")
    parser.add_argument("--kafka", metavar="HOST:PORT", default="start", help="a broker; `start` starts one each time")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--broker", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.placements = arguments.placements.split(",")
    if unknown := set(arguments.placements) - {"topic", "lanes"}:
        parser.error(f"no such placement: {', '.join(sorted(unknown))}; there are topic and lanes")
    arguments.sessions = [int(count) for count in arguments.sessions.split(",")]
    arguments.pace = Pace(arguments.seconds, arguments.rate, arguments.rate_each)
    return arguments


def _all(arguments: argparse.Namespace) -> Result:
    cases = {
        f"{placement}, {count:,}": (placement, count)
        for count in arguments.sessions
        for placement in arguments.placements
    }
    result = Result({name: {} for name in cases})
    broken: set[str] = set()
    for number in range(arguments.rounds):
        for name in in_turn(number, [name for name in cases if name not in broken]):
            say(f"round {number + 1} of {arguments.rounds}: {name} sessions")
            with ExitStack() as stack:
                broker = start_broker(stack) if arguments.kafka == "start" else Broker(arguments.kafka)
                try:
                    for row, figure in _apart(cases[name], arguments.pace, broker).items():
                        result.add(name, row, figure)
                except Broken as error:
                    broken.add(name)
                    result.problems.append(f"{name} sessions: {error}")
    return result


def main() -> int:
    """Measure; exit with 1 if something was lost, repeated, out of order, or did not work at all."""
    arguments = _arguments()
    if arguments.beside:
        uvloop.run(_follow_silent(KafkaConnection(arguments.kafka), _topics(arguments.placements[0])))
        return 0
    if arguments.here:
        broker = Broker(arguments.kafka, arguments.broker or None)
        said = _here((arguments.placements[0], arguments.sessions[0]), arguments.pace, broker)
        print(orjson.dumps(said).decode())
        return 0
    others, where = Others(), machine()
    try:
        result = _all(arguments)
    except NotStarted as error:
        say(str(error))
        return 1
    print("\n".join(rows(result.figures)))
    print(f"\n{where['cores']} cores, {where['at']}; {others.say()}")
    for problem in result.problems:
        print(f"PROBLEM: {problem}")
    path = store("placements", where, {"machine": where, **asdict(result)})
    print(f"stored in {path.relative_to(ROOT)}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
