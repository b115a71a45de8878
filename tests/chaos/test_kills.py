"""kill -9, at any moment: nothing is lost, nothing twice, each run ends once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import pytest

from tests.chaos.client import ask, began, check, viewing
from tests.chaos.processes import Stage
from tests.chaos.scenario import SLOW_SECONDS, STORY, WAITS
from tests.history.folding import Event

MOMENTS = (1, 3, 9, 18, 27, 36)
"""After how many events the process is killed: while a model speaks, while calls run, between the two."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_one_process_killed_at_a_moment_goes_on_with_the_session(embedded: Stage, moment: int) -> None:
    embedded.pace(SLOW_SECONDS)
    dev = await embedded.dev()
    session = await began(dev.url, "Work, please.")
    async with viewing(dev.url, session) as viewer:
        await viewer.until(lambda events: len(events) >= moment)
        await dev.kill()
        embedded.pace(0)
        again = await embedded.dev(dev.port)
        await viewer.until_end()
        found = await check(again.url, session, viewer)
    assert list(found.ends.values()) == ["run_completed"]
    assert len(found.results) == WAITS + 1
    assert {result["status"] for result in found.results.values()} == {"ok"}
    assert found.outcomes("completed") == 3


async def test_the_one_process_killed_many_times_in_a_row_still_ends_the_session_once(embedded: Stage) -> None:
    kills = 6
    embedded.pace(SLOW_SECONDS)
    dev = await embedded.dev()
    session = await began(dev.url, "Tell me a story.")
    async with viewing(dev.url, session) as viewer:
        for kill in range(1, kills + 1):
            # Each life of the process is cut off a few deltas further into its attempt than the one before.
            await viewer.until(lambda events, kill=kill: _deltas_of_the_last_attempt(events, kill) >= 3 * kill)
            await dev.kill()
            embedded.pace(SLOW_SECONDS if kill < kills else 0)
            dev = await embedded.dev(dev.port)
        await viewer.until_end()
        found = await check(dev.url, session, viewer)
    assert found.outcomes("abandoned") == kills
    assert found.owners == kills + 1
    assert found.finals == [STORY]
    assert list(found.ends.values()) == ["run_completed"]


def _deltas_of_the_last_attempt(events: Sequence[Event], attempt: int) -> int:
    return sum(event["type"] == "text_delta" and event["attempt"] == attempt for event in events)


async def test_a_client_that_comes_after_all_kills_sees_what_the_live_ones_saw(embedded: Stage) -> None:
    embedded.pace(SLOW_SECONDS)
    dev = await embedded.dev()
    session = await began(dev.url, "Tell me a story.")
    async with viewing(dev.url, session) as live:
        await live.until_type("text_delta", 10)
        await dev.kill()
        embedded.pace(0)
        dev = await embedded.dev(dev.port)
        await live.until_end()
        await ask(dev.url, f"/v1/sessions/{session}/messages", {"content": "Brief, please."})
        await live.until_end(2)
        async with viewing(dev.url, session) as late:
            found = await check(dev.url, session, live, late)
    assert found.finals == [STORY, "Yes."]


@pytest.mark.kafka
async def test_a_second_orchestrator_takes_over_from_one_killed_in_mid_stream(cluster: Stage) -> None:
    cluster.pace(SLOW_SECONDS)
    (_, _, gateway), _ = await asyncio.gather(cluster.roles(), cluster.orchestrator())
    session = await began(gateway.url, "Tell me a story.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("text_delta", 5)
        await cluster.owner_in(viewer.events).kill()
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
        assert cluster.owner_in(viewer.events).is_running
    assert found.outcomes("abandoned") == 1
    assert found.owners == 2
    assert found.finals == [STORY]


@pytest.mark.kafka
async def test_calls_of_a_killed_worker_are_run_by_another(cluster: Stage) -> None:
    cluster.pace(0)
    _, worker, gateway = await cluster.roles()
    session = await began(gateway.url, "Work, please.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("tool_started")
        await worker.kill()
        await cluster.worker()
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
    assert len(found.results) == WAITS + 1
    assert {result["status"] for result in found.results.values()} == {"ok"}
    assert {number for number, _ in cluster.noted("done")} == set(range(WAITS + 1))


@pytest.mark.kafka
async def test_a_gateway_killed_in_the_middle_of_a_watch_is_missed_by_nobody(cluster: Stage) -> None:
    _, _, gateway = await cluster.roles()
    session = await began(gateway.url, "Tell me a story.")
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("text_delta", 5)
        await gateway.kill()
        gateway = await cluster.gateway(gateway.port)
        await viewer.until_end()
        found = await check(gateway.url, session, viewer)
    assert found.outcomes("abandoned") == 0
    assert found.finals == [STORY]


@pytest.mark.kafka
@pytest.mark.parametrize("placement", ["topic", "lanes"])
async def test_all_roles_killed_at_once_go_on_with_every_session(cluster: Stage, placement: str) -> None:
    # few lanes, so that the sessions share one
    cluster.variables |= {"PLAYHEAD_KAFKA_PLACEMENT": placement, "PLAYHEAD_KAFKA_LANES": "1"}
    cluster.pace(SLOW_SECONDS)
    first = await cluster.roles()
    gateway = first[2]
    telling = await began(gateway.url, "Tell me a story.")
    working = await began(gateway.url, "Work, please.")
    async with viewing(gateway.url, telling) as teller, viewing(gateway.url, working) as laborer:
        await laborer.until_type("tool_call")
        await teller.until_type("text_delta", 5)
        for process in first:
            process.signal(signal.SIGKILL)
        for process in first:
            await process.exited()
        cluster.pace(0)
        await asyncio.gather(cluster.orchestrator(), cluster.worker(), cluster.gateway(gateway.port))
        await teller.until_end()
        await laborer.until_end()
        told = await check(gateway.url, telling, teller)
        worked = await check(gateway.url, working, laborer)
    assert told.outcomes("abandoned") == 1
    assert told.finals == [STORY]
    assert list(worked.ends.values()) == ["run_completed"]
    assert {result["status"] for result in worked.results.values()} == {"ok"}
