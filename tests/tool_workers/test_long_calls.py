"""A call that takes long, beside hundreds that do not, all in one partition; and what is known of them afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from playhead import tool
from playhead.commands import Command, ReportResult, RunTool
from playhead.queue import Topics
from playhead_tool_workers.service import Worker

from tests.contract.stores import Store, memory_store, sqlite_store
from tests.tool_workers.workshop import QUICK, Workshop

SHORT_CALLS = 300


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Workshop]:
    """A workshop whose pool has one partition."""
    topics = Topics(prefix=f"long-{uuid4().hex[:12]}", pool_partitions=1)
    match cast("str", request.param):
        case "memory":
            store = memory_store()
        case "sqlite":
            store = sqlite_store(tmp_path, slow_commit_seconds=60)
        case _:
            store = _kafka(cast("str", request.getfixturevalue("kafka_bootstrap")), topics)
    made = Workshop((await store.client()).queue)
    made.topics, made.patience_seconds = topics, 2 * store.patience_seconds
    yield made
    await store.close()


def _kafka(bootstrap: str, topics: Topics) -> Store:
    from playhead.adapters.kafka import KafkaConnection, open_kafka  # noqa: PLC0415 - only where there is a broker

    return Store(lambda: open_kafka(KafkaConnection(bootstrap=bootstrap), topics=topics), patience_seconds=20.0)


class Work:
    """A tool that takes as long as it is told, and counts its runs."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.release = asyncio.Event()

        @tool(concurrency=64, effect="write")
        async def work(who: str) -> str:
            """Work, a long time if it is the long call."""
            self.runs[who] += 1
            if who == "long":
                await self.release.wait()
            return who

        self.tool = work

    def again(self) -> dict[str, int]:
        """Give what ran more than once."""
        return {who: runs for who, runs in self.runs.items() if runs > 1}


async def _send(shop: Workshop, who: str) -> RunTool:
    call = shop.call("work", {"who": who}, "write")
    topic = shop.topics.tools("default").name
    await shop.queue.publish(topic, call.call_id, shop.codec.encode(call))
    return call


async def _beside(shop: Workshop) -> RunTool:
    """Make the long call and then all the short ones; all but the first end."""
    long = await _send(shop, "long")
    async with asyncio.TaskGroup() as group:
        for number in range(SHORT_CALLS):
            group.create_task(_send(shop, str(number)))
    await shop.read(shop.topics.results.name, lambda seen: _ended(seen) == SHORT_CALLS)
    return long


def _ended(seen: Sequence[Command]) -> int:
    return sum(isinstance(one, ReportResult) for one in seen)


@asynccontextmanager
async def _cancelled(shop: Workshop, work: Work) -> AsyncGenerator[None]:
    """Run a worker that is cancelled at the end of the block."""
    worker = Worker(shop.parts(), [work.tool], "default", limits=QUICK, name="first")
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(asyncio.Event()))
        async with asyncio.timeout(shop.patience_seconds):
            await worker.ready.wait()
        yield
        serving.cancel()


@pytest.mark.parametrize("end", ["in order", "by cancellation"])
async def test_no_short_call_waits_for_a_long_one_and_after_a_restart_only_the_long_one_runs_again(
    shop: Workshop, end: str
) -> None:
    work = Work()
    limits = replace(QUICK, grace_seconds=0.05)
    first = shop.worker(work.tool, limits=limits) if end == "in order" else _cancelled(shop, work)
    async with first:
        long = await _beside(shop)
        assert work.runs.total() == SHORT_CALLS + 1
    work.release.set()
    async with shop.worker(work.tool, name="second", limits=QUICK):
        await shop.result(long)
        after = await _send(shop, "after")
        await shop.result(after)
    assert work.again() == {"long": 2}
    assert work.runs.total() == SHORT_CALLS + 3
