"""A promised result comes after everybody who knew of the promise has been restarted."""

from __future__ import annotations

import asyncio
import signal

import httpx2
import pytest

from tests.chaos.client import began, check, viewing
from tests.chaos.executions import Execution, executions
from tests.chaos.processes import Process, Stage

LONG_SECONDS = 9.0
"""Longer than silence about a running call is put up with."""


def promised(stage: Stage) -> Execution:
    (one,) = [one for one in executions(stage.journal) if one.what == "promised"]
    return one


async def deliver(url: str, one: Execution, output: object, *, ticket: str | None = None) -> int:
    """Bring the result as a stranger does who was given the ticket; give the status of the answer."""
    headers = {"Authorization": f"Bearer {one.ticket if ticket is None else ticket}"}
    async with httpx2.AsyncClient(base_url=url, verify=False, trust_env=False) as client:
        response = await client.post(f"/v1/calls/{one.call}/result", json={"output": output}, headers=headers)
    return response.status_code


async def ended(processes: tuple[Process, ...], how: signal.Signals) -> None:
    for process in processes:
        process.signal(how)
    for process in processes:
        assert await process.exited() == (0 if how is signal.SIGTERM else -how)


async def brought(stage: Stage, url: str, session: str) -> None:
    """Bring the result twice, and once with a wrong ticket: it counts once."""
    one = promised(stage)
    async with viewing(url, session) as viewer:
        await viewer.until_type("tool_pending")
        assert await deliver(url, one, "forged", ticket=f"{one.ticket[:-4]}0000") == 401
        assert await deliver(url, one, {"paid": 12}) == 202
        await viewer.until_end()
        assert await deliver(url, one, "again") == 202
        await viewer.until_type("run_completed")
        found = await check(url, session, viewer)
    (result,) = found.results.values()
    assert (result["status"], result["output"]) == ("ok", {"paid": 12})
    assert list(found.ends.values()) == ["run_completed"]
    assert len(executions(stage.journal)) == 1


async def test_a_promised_result_comes_long_after_the_one_process_was_killed(tools: Stage) -> None:
    tools.variables["PLAYHEAD_LOST_SECONDS"] = "7"
    dev = await tools.dev()
    session = await began(dev.url, "A promise, please.")
    async with viewing(dev.url, session) as viewer:
        await viewer.until_type("tool_pending")
        await dev.kill()
    dev = await tools.dev(dev.port)
    await asyncio.sleep(LONG_SECONDS)  # a silent worker would be missed by now, and nobody is
    await brought(tools, dev.url, session)


@pytest.mark.kafka
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_promised_result_comes_after_worker_orchestrator_and_gateway_were_restarted(
    pool: Stage, how: signal.Signals
) -> None:
    roles = await pool.roles()
    session = await began(roles[2].url, "A promise, please.")
    async with viewing(roles[2].url, session) as viewer:
        await viewer.until_type("tool_pending")
    await ended(roles, how)
    _, _, gateway = await pool.roles()
    await brought(pool, gateway.url, session)


@pytest.mark.kafka
async def test_a_promised_result_is_delivered_by_another_worker(pool: Stage) -> None:
    orchestrator, worker, gateway = await pool.roles()
    session = await began(gateway.url, "A promise, please.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("tool_pending")
        await ended((orchestrator, worker), signal.SIGKILL)
        await asyncio.gather(pool.orchestrator(), pool.worker())
        await began(gateway.url, "Deliver it, please.")
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
    (result,) = found.results.values()
    assert (result["status"], result["output"]) == ("ok", {"delivered": 8})
