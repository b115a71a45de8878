"""One long call beside many short ones on the same partition: none waits for it, and none of them runs again after it.

`make chaos` runs the long call for longer, beside more short ones.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from playhead.adapters.progress import decode_finished

from tests.chaos.client import Viewer, began, check, viewing
from tests.chaos.executions import Execution, executions, hold
from tests.chaos.processes import Process, Stage
from tests.chaos.tool_scenario import LASTING_SECONDS, SHORTS

ROUNDS = 20 if os.environ.get("PLAYHEAD_CHAOS_ALL") == "1" else 4
COMMITTED_SECONDS = 10.0
POLL_SECONDS = 0.05

Restart = Callable[[Process, bool], Awaitable[Process]]
"""Ends the process that runs the calls, in order or with kill -9, and starts another in its place."""


def narrow(stage: Stage) -> Stage:
    stage.variables["PLAYHEAD_POOL_PARTITIONS"] = "1"
    return stage


def runs(stage: Stage, what: str, *, long: bool) -> list[Execution]:
    noted = executions(stage.journal)
    return [one for one in noted if one.what == what and (one.given["seconds"] == LASTING_SECONDS) == long]


async def shorts(url: str, sessions: int) -> list[str]:
    """Have so many sessions call the short tool a hundred times each, one session after the other."""
    done: list[str] = []
    for _ in range(sessions):
        session = await began(url, "Shorts, please.")
        async with viewing(url, session) as viewer:
            await viewer.until_end()
        done.append(session)
    return done


async def outlasted(stage: Stage, url: str, worker: Process, restart: Restart) -> None:
    """See many short calls through beside a long one, over two restarts of the process that runs them."""
    session = await began(url, "Something lasting, please.")
    async with viewing(url, session) as viewer:
        await viewer.until_type("tool_started")
        others = await shorts(url, ROUNDS)
        assert not runs(stage, "done", long=True), "the short calls took longer than the long one"
        for in_order in (True, False):
            worker = await restart(worker, in_order)
            # Those that come first now are what was done already, if it was forgotten.
            others += await shorts(url, 1)
        assert not runs(stage, "done", long=True), "the short calls took longer than the long one"
        await lasted(stage, url, session, viewer)
    for other in others:
        hold(await check(url, other), executions(stage.journal))
    begun = Counter(one.call for one in runs(stage, "begun", long=False))
    assert len(begun) == len(others) * SHORTS
    assert {call: count for call, count in begun.items() if count > 1} == {}


async def lasted(stage: Stage, url: str, session: str, viewer: Viewer) -> None:
    await viewer.until_end(seconds=2 * LASTING_SECONDS + 20)
    found = await check(url, session, viewer)
    assert hold(found, executions(stage.journal)) == {"ok": 1}
    assert len({one.key for one in runs(stage, "begun", long=True)}) == 1
    assert len(runs(stage, "begun", long=True)) == 3
    assert len(runs(stage, "done", long=True)) == 1


async def test_many_short_calls_pass_a_long_one_and_are_not_run_again_embedded(tools: Stage) -> None:
    stage = narrow(tools)
    dev = await stage.dev()

    async def restart(process: Process, in_order: bool) -> Process:
        if in_order:
            await process.stop()
        else:
            await committed(stage, stored)
            await process.kill()
        return await stage.dev(process.port)

    await outlasted(stage, dev.url, dev, restart)


@pytest.mark.kafka
async def test_many_short_calls_pass_a_long_one_and_are_not_run_again_on_kafka(pool: Stage) -> None:
    stage = narrow(pool)
    _, worker, gateway = await stage.roles()

    async def restart(process: Process, in_order: bool) -> Process:
        if in_order:
            await process.stop()
        else:
            await committed(stage, asked)
            await process.kill()
        return await stage.worker()

    await outlasted(stage, gateway.url, worker, restart)


Commits = Callable[[Stage], Awaitable[tuple[int, str]]]
"""Gives what the pool's group has committed: an offset, and what is done after it."""


async def committed(stage: Stage, commits: Commits) -> None:
    """Wait until the commit names every short call that has been done: a crash before that may have some run again."""
    async with asyncio.timeout(COMMITTED_SECONDS):
        while True:
            offset, finished = await commits(stage)
            if offset + len(decode_finished(offset, finished)) >= len(runs(stage, "done", long=False)):
                return
            await asyncio.sleep(POLL_SECONDS)  # the stores tell nobody


async def stored(stage: Stage) -> tuple[int, str]:
    query = (
        "SELECT commits.place, ranges FROM commits JOIN finished USING (consumers, topic, partition) "
        "WHERE consumers = ? AND commits.place = finished.place"
    )
    with closing(sqlite3.connect(f"file:{stage.folder / 'log.db'}?mode=ro", uri=True)) as database:
        return database.execute(query, (group(stage),)).fetchone() or (0, "")


async def asked(stage: Stage) -> tuple[int, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    await admin.start()
    try:
        places = [TopicPartition(group(stage), 0)]
        (commit,) = (await admin.list_consumer_group_offsets(group(stage), partitions=places)).values()
    finally:
        await admin.close()
    return max(commit.offset, 0), commit.metadata


def group(stage: Stage) -> str:
    """The name of the pool's group, which is that of its topic."""
    return f"{stage.prefix}.tools.default"
