"""A stock SSE client that is cut off at random bytes, many times, ends with exactly the log."""

from __future__ import annotations

import pytest

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Stage
from tests.chaos.scenario import STORY
from tests.support.cutting import cutting

BYTES_MAX = 3_000
"""More than the largest event, else it would never come through."""
CUTS_MIN = 8


async def cut_while_it_streams_and_after(stage_url: str, ports: tuple[int, ...], seed: int) -> None:
    session = await began(stage_url, "Tell me a story.")
    async with (
        cutting(*ports, seed=seed, bytes_max=BYTES_MAX) as proxy,
        viewing(proxy.url, session) as live,
    ):
        await live.until_end()
        found = await check(stage_url, session, live)
        during = proxy.cuts
        async with viewing(proxy.url, session) as late:
            await check(stage_url, session, live, late)
        assert during >= CUTS_MIN
        assert proxy.cuts - during >= CUTS_MIN
    assert found.finals == [STORY]


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_that_is_cut_off_at_random_bytes_ends_with_exactly_the_log(embedded: Stage, seed: int) -> None:
    dev = await embedded.dev()
    await cut_while_it_streams_and_after(dev.url, (dev.port,), seed)


@pytest.mark.kafka
async def test_a_client_cut_off_from_two_gateways_in_turn_ends_with_exactly_the_log(cluster: Stage) -> None:
    _, _, one = await cluster.roles()
    other = await cluster.gateway()
    for seed in range(3):
        await cut_while_it_streams_and_after(one.url, (one.port, other.port), seed)
