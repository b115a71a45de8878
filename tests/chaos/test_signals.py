"""SIGTERM: each role finishes what it has begun, as far as its grace goes, and exits with 0."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Process, Stage
from tests.chaos.scenario import SLOW_SECONDS, STORY, WAITS

GRACE_SECONDS = 5.0
"""As the stage sets it."""
MARGIN_SECONDS = 5.0
"""For closing what is open, on a busy machine."""


async def terminated(process: Process) -> float:
    """Send SIGTERM, see that it exits with 0, and tell how long that took."""
    began_at = time.monotonic()
    process.signal(signal.SIGTERM)
    assert await process.exited() == 0, process.last_words()
    return time.monotonic() - began_at


async def test_the_one_process_is_stopped_in_mid_stream_and_goes_on_when_it_is_started_again(embedded: Stage) -> None:
    embedded.pace(SLOW_SECONDS)
    dev = await embedded.dev()
    session = await began(dev.url, "Tell me a story.")
    async with viewing(dev.url, session) as viewer:
        await viewer.until_type("text_delta", 3)
        assert await terminated(dev) < GRACE_SECONDS + MARGIN_SECONDS
        embedded.pace(0)
        dev = await embedded.dev(dev.port)
        await viewer.until_end()
        found = await check(dev.url, session, viewer)
    assert found.outcomes("abandoned") == 1
    assert found.finals == [STORY]


@pytest.mark.kafka
async def test_each_role_finishes_what_it_has_begun(cluster: Stage) -> None:
    orchestrator, worker, gateway = await cluster.roles()
    session = await began(gateway.url, "Tell me a story.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("text_delta", 3)
        assert await terminated(orchestrator) < GRACE_SECONDS + MARGIN_SECONDS
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
        assert found.outcomes("abandoned") == 0, "the answer fitted into the grace"

        orchestrator = await cluster.orchestrator()
        working = await began(gateway.url, "Work, please.")
        async with viewing(gateway.url, working) as laborer:
            await laborer.until_type("tool_started", WAITS)
            assert await terminated(worker) < GRACE_SECONDS + MARGIN_SECONDS
            await laborer.until_type("tool_result", WAITS)
            assert len(cluster.noted("done")) == WAITS
            await asyncio.gather(cluster.worker(), terminated(gateway))
            gateway = await cluster.gateway(gateway.port)
            await laborer.until_end()
            found = await check(gateway.url, working, laborer)
            await check(gateway.url, session, viewer)
    assert sorted(number for number, _ in cluster.noted("begun")) == list(range(WAITS + 1)), "no call ran twice"


@pytest.mark.kafka
async def test_an_orchestrator_whose_grace_is_over_leaves_the_run_to_the_next(cluster: Stage) -> None:
    cluster.pace(SLOW_SECONDS * 2)
    orchestrator, _, gateway = await cluster.roles()
    session = await began(gateway.url, "Tell me a story.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("text_delta", 3)
        assert await terminated(orchestrator) < GRACE_SECONDS + MARGIN_SECONDS
        cluster.pace(0)
        await cluster.orchestrator()
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
    assert found.outcomes("abandoned") == 1
    assert found.finals == [STORY]
