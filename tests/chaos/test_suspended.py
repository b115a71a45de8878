"""A process stops between a claim and the start, for longer than anybody waits for it, and goes on (T3)."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.chaos.client import Viewer, began, check, viewing
from tests.chaos.executions import Execution, executions, hold, lates
from tests.chaos.processes import Process, Stage
from tests.history.folding import Folded

SUSPENDED_SECONDS = 9.0
"""Longer than a grant lasts, than `LOST`, and than the stage's session timeout."""
LOST = {"PLAYHEAD_LOST_SECONDS": "7"}


def stop_at(point: str) -> dict[str, str]:
    return {"PLAYHEAD_FAILPOINT": f"{point}:1:stop"}


def starts(stage: Stage, found: Folded) -> list[Execution]:
    (call,) = found.calls
    return [one for one in executions(stage.journal) if one.what == "begun" and one.call == call]


async def lost(stage: Stage, url: str, victim: Process, viewer: Viewer) -> None:
    """See the victim stopped, its call given up, and its partitions moved: another session ends."""
    await viewer.until_type("tool_started")
    await victim.stopped()
    await stage.worker()
    await viewer.until_end()
    async with viewing(url, await began(url, "Single, please.")) as other:
        await other.until_end()


@pytest.mark.kafka
async def test_a_worker_that_wakes_after_its_call_was_given_up_is_heard_as_late(pool: Stage) -> None:
    pool.variables |= LOST
    _, gateway, victim = await asyncio.gather(
        pool.orchestrator(), pool.gateway(), pool.worker(variables=stop_at("worker.granted"))
    )
    session = await began(gateway.url, "Single, please.")
    async with viewing(gateway.url, session) as viewer:
        await lost(pool, gateway.url, victim, viewer)
        assert not starts(pool, await check(gateway.url, session, viewer))
        victim.signal(signal.SIGCONT)
        await viewer.until_type("tool_result_late")
        assert await victim.stop() == 0
        found = await check(gateway.url, session, viewer)
    assert hold(found, executions(pool.journal)) == {"unknown": 1}
    assert [one.pid for one in starts(pool, found)] == [victim.pid]
    (late,) = lates(viewer.events).values()
    assert late["status"] == "ok"
    assert late["output"] == "number 0 is done"


@pytest.mark.kafka
async def test_a_worker_that_wakes_before_it_heard_its_grant_does_not_start(pool: Stage) -> None:
    pool.variables |= LOST
    _, gateway, victim = await asyncio.gather(
        pool.orchestrator(), pool.gateway(), pool.worker(variables=stop_at("worker.asked"))
    )
    session = await began(gateway.url, "Single, please.")
    async with viewing(gateway.url, session) as viewer:
        await lost(pool, gateway.url, victim, viewer)
        victim.signal(signal.SIGCONT)
        # Told to stop it sees through what it asked for: what it has not started by then, it never will.
        assert await victim.stop() == 0
        found = await check(gateway.url, session)
        assert len(starts(pool, found)) == 0
    assert hold(found, executions(pool.journal)) == {"unknown": 1}


@pytest.mark.kafka
@pytest.mark.parametrize("point", ["owner.granting", "owner.granted"])
async def test_an_owner_that_stops_as_it_grants_has_the_call_started_once_by_its_successor(
    pool: Stage, point: str
) -> None:
    victim, gateway, worker = await asyncio.gather(
        pool.orchestrator(variables=stop_at(point)), pool.gateway(), pool.worker()
    )
    session = await began(gateway.url, "Single, please.")
    async with viewing(gateway.url, session) as viewer:
        await victim.stopped()
        await pool.orchestrator()
        await viewer.until_end()
        victim.signal(signal.SIGCONT)
        assert await victim.stop() == 0
        assert await worker.stop() == 0
        found = await check(gateway.url, session, viewer)
    assert hold(found, executions(pool.journal)) == {"ok": 1}
    assert len(starts(pool, found)) == 1
    assert found.owners == 2


async def test_the_one_process_that_was_suspended_after_a_grant_goes_on_as_if_nothing_had_been(tools: Stage) -> None:
    tools.variables |= LOST
    dev = await tools.dev(variables=stop_at("worker.granted"))
    session = await began(dev.url, "Single, please.")
    async with viewing(dev.url, session) as viewer:
        await dev.stopped()
        await asyncio.sleep(SUSPENDED_SECONDS)  # nothing happens meanwhile, and that is what is tried
        dev.signal(signal.SIGCONT)
        await viewer.until_end()
        found = await check(dev.url, session, viewer)
    assert hold(found, executions(tools.journal)) == {"ok": 1}
    assert len(starts(tools, found)) == 1
