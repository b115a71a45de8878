"""An orchestrator that was frozen, lost its sessions, and wakes up believing that they are still its own."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

import pytest
from playhead.commands import RunTool

from tests.chaos.client import Viewer, began, check, viewing
from tests.chaos.processes import Process, Stage
from tests.chaos.raw import Raw, raw, sorted_out
from tests.chaos.scenario import SLOW_SECONDS, WAITS

SESSIONS = 6
"""So many that the frozen one owns some, whatever the partitions."""
ROUNDS_MAX = 40


@pytest.mark.kafka
async def test_a_frozen_orchestrator_that_wakes_after_losing_its_sessions_changes_nothing(cluster: Stage) -> None:
    cluster.pace(SLOW_SECONDS)
    (victim, _, gateway), _ = await asyncio.gather(cluster.roles(), cluster.orchestrator())
    topics = f"{cluster.prefix}.tools.default"
    async with AsyncExitStack() as stack, raw(cluster.kafka) as broker:
        # While the second one joins, the first may own nothing for a moment: then others are begun.
        sessions, viewers, lost = list[str](), list[Viewer](), list[Viewer]()
        for _ in range(ROUNDS_MAX):
            sessions = await asyncio.gather(*(began(gateway.url, "Work, please.") for _ in range(SESSIONS)))
            viewers = [await stack.enter_async_context(viewing(gateway.url, session)) for session in sessions]
            for viewer in viewers:
                await viewer.until_type("text_delta", 2)
            lost = [viewer for viewer in viewers if cluster.owner_in(viewer.events) is victim]
            if lost:
                break
        assert lost, "the orchestrator that is to be frozen owns nothing"
        victim.signal(signal.SIGSTOP)
        for viewer in viewers:
            await viewer.until_end()
        dispatched = await runs(broker, topics, sessions)

        victim.signal(signal.SIGCONT)
        await until_it_owns_again(cluster, gateway, victim)
        assert victim.is_running
        assert await runs(broker, topics, sessions) == dispatched

        voids = 0
        for session, viewer in zip(sessions, viewers, strict=True):
            found = await check(gateway.url, session, viewer)
            assert len(found.results) == WAITS + 1
            assert {call for one, call in dispatched if one == session} <= found.calls.keys()
            stored = sorted_out(session, await broker.values(f"{cluster.prefix}.session.{session}"))
            assert stored.accepted == viewer.ids
            # what is void is of the epoch that was over, and the log has nothing of it after the epoch began
            assert stored.epochs == sorted(stored.epochs)
            assert all(epoch == 1 for epoch in stored.void)
            assert found.owners == (2 if viewer in lost else 1)
            voids += len(stored.void)
    print(f"{len(lost)} sessions were lost; the woken orchestrator stored {voids} void records")  # noqa: T201


async def runs(broker: Raw, topic: str, sessions: list[str]) -> list[tuple[str, str]]:
    """Give what was dispatched for these sessions: session and call."""
    commands = await broker.commands(topic)
    return [(one.session, one.call_id) for one in commands if isinstance(one, RunTool) and one.session in sessions]


async def until_it_owns_again(stage: Stage, gateway: Process, victim: Process) -> None:
    """Begin sessions until the process owns and ends one: by then it has dealt with all that it slept through."""
    for _ in range(ROUNDS_MAX):
        session = await began(gateway.url, "Brief, please.")
        async with viewing(gateway.url, session) as viewer:
            await viewer.until_end()
            if stage.owner_in(viewer.events) is victim:
                return
    raise AssertionError(f"the orchestrator that woke owned none of {ROUNDS_MAX} new sessions")
