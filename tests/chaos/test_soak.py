"""Roles are killed and stopped at random while sessions go on: `make soak` for as many rounds as one likes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack

import pytest

from tests.chaos.client import Viewer, began, check, viewing
from tests.chaos.processes import Process, Stage
from tests.chaos.scenario import STORY, WAITS

ROUNDS = int(os.environ.get("PLAYHEAD_SOAK_ROUNDS", "3"))
SEED = int(os.environ.get("PLAYHEAD_SOAK_SEED", "1"))
EVENTS_MAX = 25
"""A blow falls at latest after so many events of a session."""


async def replaced(stage: Stage, process: Process, how: signal.Signals) -> Process:
    """End a process one way or the other, and start another of its role."""
    process.signal(how)
    code = await process.exited()
    assert code == (0 if how is signal.SIGTERM else -how), process.last_words()
    match process.name:
        case "orchestrator":
            return await stage.orchestrator()
        case "worker":
            return await stage.worker()
        case _:
            return await stage.gateway(process.port)


@pytest.mark.kafka
async def test_every_session_completes_while_roles_are_killed_at_random(cluster: Stage) -> None:
    chance = random.Random(SEED)
    running = [*await cluster.roles(), *await asyncio.gather(cluster.orchestrator(), cluster.worker())]
    url = running[2].url
    watched: list[tuple[str, Viewer]] = []
    async with AsyncExitStack() as stack:
        for _ in range(ROUNDS):
            for text in ("Tell me a story.", "Work, please."):
                session = await began(url, text)
                watched.append((session, await stack.enter_async_context(viewing(url, session))))
            moment = chance.randint(1, EVENTS_MAX)
            await chance.choice(watched[-2:])[1].until(lambda events, moment=moment: len(events) >= moment)
            place = chance.randrange(len(running))
            how = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            running[place] = await replaced(cluster, running[place], how)
        for place, (session, viewer) in enumerate(watched):
            await viewer.until_end()
            found = await check(url, session, viewer)
            assert list(found.ends.values()) == ["run_completed"]
            if place % 2:
                assert {result["status"] for result in found.results.values()} == {"ok"}
                assert len(found.results) == WAITS + 1
            else:
                assert found.finals == [STORY]
