"""Writes sessions whose every delta says when it was due, and serves them where that is this process's to do.

`memory` is the reference: the list of `bench.memory`, behind uvicorn's defaults. `sqlite` is the session log on SQLite
with a Playhead gateway beside it, as `playhead dev` has them. `kafka` is the session log alone: its gateway is another
process, started as a deployment starts it. All three are paced by the same code.

A delta carries the time at which it was due, not at which it was written: a process that is too busy to write in time
makes its viewers wait, and that shows. What came due meanwhile is written as one append, as an orchestrator does.

It is spoken to by lines of JSON: it says `{"sessions": […]}`; to a line with seconds it writes for so long and answers
`{"last": […], "late_ms": …, "append_p50_ms": …, "append_p99_ms": …}`: the last seq of each session, how late the latest
append was begun, and how long appends took.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import orjson
import uvicorn
import uvloop
from playhead.accept import Head
from playhead.codec import Codec, Context
from playhead.events import Event, Json, OwnerChanged, SessionStarted, TextDelta
from playhead.ids import RunId, SessionId
from playhead.log import APPEND_RECORDS_MAX, SessionLog
from playhead.queue import Topics
from playhead.telemetry import Telemetry

from bench.table import quantile

__all__ = ["main"]

RUN = RunId("run_0123456789abcdef0123456789")
WORDS = "so it goes, and goes on, "
OPENED_AT_ONCE_MAX = 64


class Into(Protocol):
    """Where sessions are written."""

    async def begin(self) -> str:
        """Begin a session and give its name."""
        ...

    async def append(self, session: str, texts: Sequence[str]) -> int:
        """Append deltas as one unit; when this returns they are kept. Give the last one's seq."""
        ...


class IntoMemory:
    """The reference's lists."""

    def __init__(self) -> None:
        # Imported here: only the reference needs a model's SDK, and that would be in the others' memory.
        from bench import memory  # noqa: PLC0415

        self.app = memory.app
        self._memory = memory

    async def begin(self) -> str:
        session = self._memory.Session()
        self._memory.sessions[session.id] = session
        return session.id

    async def append(self, session: str, texts: Sequence[str]) -> int:
        kept = self._memory.sessions[session]
        for text in texts:
            kept.append("text_delta", step=1, attempt=1, text=text)
        return len(kept.frames)


class IntoLog:
    """A session log of ours, appended to as an owner does."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._codec = Codec()
        self._heads: dict[str, Head] = {}

    async def begin(self) -> str:
        session = await self._log.create()
        self._heads[session] = await self._log.end(session)
        await self._append(session, [SessionStarted("bench", "1", "scripted", Json("{}")), OwnerChanged(1, "bench")])
        return session

    async def append(self, session: str, texts: Sequence[str]) -> int:
        return await self._append(SessionId(session), [TextDelta(RUN, 1, 1, text) for text in texts])

    async def _append(self, session: SessionId, events: Sequence[Event]) -> int:
        context = Context(session, 1, None, time.time_ns() // 1000)
        records = self._codec.seal(self._heads[session], events, context)
        head = self._heads[session] = await self._log.append(session, self._heads[session], records)
        return head.seq


class Writing:
    """The sessions of one run of the benchmark, written at a steady rate, each at its own moment."""

    def __init__(self, into: Into, rate: float, padding: int) -> None:
        self._into = into
        self._period = 1 / rate
        self._tail = " " + WORDS + "." * padding
        self._took_ms: list[float] = []
        self.sessions: list[str] = []

    async def begin(self, count: int) -> None:
        """Begin so many sessions."""
        room = asyncio.Semaphore(OPENED_AT_ONCE_MAX)

        async def one() -> None:
            async with room:
                self.sessions.append(await self._into.begin())

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())

    async def write(self, seconds: float) -> dict[str, object]:
        """Write for so long; say where each session ended, and how appending went."""
        self._took_ms = []
        async with asyncio.TaskGroup() as group:
            shares = [self._period * number / len(self.sessions) for number in range(len(self.sessions))]
            tasks = [
                group.create_task(self._write(session, share, seconds))
                for session, share in zip(self.sessions, shares, strict=True)
            ]
        done = [task.result() for task in tasks]
        return {
            "last": [last for last, _ in done],
            "late_ms": max(late for _, late in done) * 1000,
            "append_p50_ms": quantile(self._took_ms, 0.5),
            "append_p99_ms": quantile(self._took_ms, 0.99),
        }

    async def _write(self, session: str, share: float, seconds: float) -> tuple[int, float]:
        # Counted, not timed: sums of periods round, and one delta more or less is a figure that does not hold.
        begun, number, count = time.monotonic() + share, 0, round(seconds / self._period)
        last, latest = 0, 0.0
        while number < count:
            due = begun + number * self._period
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now, texts = time.monotonic(), list[str]()
            latest = max(latest, now - due)
            while number < count and due <= now and len(texts) < APPEND_RECORDS_MAX:
                texts.append(f"@{round(due * 1e9):019d}{self._tail}")
                number += 1
                due = begun + number * self._period
            if texts:
                appending = time.perf_counter()
                last = await self._into.append(session, texts)
                self._took_ms.append((time.perf_counter() - appending) * 1000)
        return last, latest


@asynccontextmanager
async def memory(port: int) -> AsyncGenerator[Into, None]:
    """Serve the reference."""
    into = IntoMemory()
    server = uvicorn.Server(
        uvicorn.Config(into.app, port=port, access_log=False, log_level="error", timeout_graceful_shutdown=1)
    )
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn says it no other way
            await asyncio.sleep(0.01)
        yield into
        server.should_exit = True
        await serving


@asynccontextmanager
async def sqlite(port: int, folder: Path) -> AsyncGenerator[Into, None]:
    """Serve a Playhead gateway on a new database."""
    from playhead.adapters.sqlite import open_sqlite  # noqa: PLC0415 - as above
    from playhead_gateway.gateway import GatewayParts  # noqa: PLC0415
    from playhead_gateway.server import Address, serve  # noqa: PLC0415

    topics, stop, ready = Topics(), asyncio.Event(), asyncio.Event()
    async with open_sqlite(folder / "log.db") as store, asyncio.TaskGroup() as group:
        await store.queue.prepare(*topics.fixed)
        parts = GatewayParts(
            log=store.log,
            queue=store.queue,
            topics=topics,
            codec=Codec(),
            telemetry=Telemetry(),
            clock=lambda: time.time_ns() // 1000,
            entropy=lambda: os.urandom(16),
        )
        address = Address(port=port)
        group.create_task(serve(parts, address, stop=stop, grace_seconds=1.0, on_ready=lambda _: ready.set()))
        await ready.wait()
        yield IntoLog(store.log)
        stop.set()


@asynccontextmanager
async def kafka(bootstrap: str, prefix: str) -> AsyncGenerator[Into, None]:
    """Open a session log on a broker."""
    from playhead.adapters.kafka import KafkaConnection, open_kafka  # noqa: PLC0415 - as above

    async with open_kafka(KafkaConnection(bootstrap), topics=Topics(prefix)) as store:
        yield IntoLog(store.log)


async def run(arguments: argparse.Namespace) -> None:
    """Begin the sessions, and write whenever told to, until stdin ends."""
    async with AsyncExitStack() as stack:
        if arguments.into == "memory":
            into = await stack.enter_async_context(memory(arguments.port))
        elif arguments.into == "sqlite":
            into = await stack.enter_async_context(sqlite(arguments.port, arguments.folder))
        else:
            into = await stack.enter_async_context(kafka(arguments.kafka, arguments.prefix))
        writing = Writing(into, arguments.rate, arguments.padding)
        await writing.begin(arguments.sessions)
        _say({"sessions": writing.sessions})
        while line := await asyncio.to_thread(sys.stdin.readline):
            _say(await writing.write(orjson.loads(line)))


def _say(said: object) -> None:
    print(orjson.dumps(said).decode(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write sessions at a rate, and serve them.")
    parser.add_argument("--into", choices=("memory", "sqlite", "kafka"), required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kafka", metavar="HOST:PORT")
    parser.add_argument("--prefix", default="bench")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--rate", type=float, required=True, help="deltas a second of each session")
    parser.add_argument("--padding", type=int, default=0, help="how many characters to make each delta longer by")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
