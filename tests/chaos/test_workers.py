"""A pool of tool workers grows while its calls run."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Stage
from tests.chaos.scenario import CALLS

CONCURRENCY = 2
RATIO_MIN = 2.5
"""Of 4 workers to 1. Calls are dealt by their keys, so that one of four workers has more than its quarter."""


@pytest.mark.kafka
async def test_a_pool_that_grows_from_one_worker_to_four_loses_no_call_and_runs_more(cluster: Stage) -> None:
    cluster.pace(0)
    _, gateway, _ = await asyncio.gather(cluster.orchestrator(), cluster.gateway(), cluster.worker(CONCURRENCY))
    session = await began(gateway.url, "Many, please.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("tool_result", CALLS // 4)
        alone = rate([at for _, at in cluster.noted("done")])
        await asyncio.gather(*(cluster.worker(CONCURRENCY) for _ in range(3)))
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
    assert len(found.results) == CALLS
    assert {result["status"] for result in found.results.values()} == {"ok"}
    runs = [number for number, _ in cluster.noted("done")]
    assert set(runs) == set(range(CALLS))

    # A call that was dealt again may still run in the pool, although it has its result: what follows is told apart.
    session = await began(gateway.url, "Many, please.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_end()
        assert len((await check(gateway.url, session, viewer)).results) == CALLS
    times = [at for _, at in cluster.noted("done", session)]
    # The last calls of all are those of the worker that was dealt the most: they do not show what four can do.
    together = rate(times[: CALLS * 3 // 4])
    print(f"{alone:.1f} calls/s with 1 worker, {together:.1f} with 4; {len(runs) - CALLS} ran twice")  # noqa: T201
    assert together / alone >= RATIO_MIN
    assert len(times) == CALLS, "without a change in the pool no call runs twice"


def rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])
