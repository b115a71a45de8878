"""A record that nobody can read, in any topic: set aside or skipped, and everything else goes on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from playhead.codec import Codec
from playhead.commands import DeadLetter, StopTool
from playhead.ids import CallId

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Stage
from tests.chaos.raw import raw, sorted_out
from tests.chaos.scenario import SLOW_SECONDS, STORY, WAITS

GARBAGE = b"\x00\x00\x00\x00\x07 not Avro at all \xff"
TOPICS = ("requests", "results", "tools.default", "control.default", "sessions", "catalog")
SET_ASIDE = ("requests", "results", "tools.default")
"""The topics whose records are somebody's work: what cannot be read there is kept for an operator."""


@pytest.mark.kafka
async def test_poison_in_every_topic_is_set_aside_or_skipped_and_all_else_goes_on(cluster: Stage) -> None:
    cluster.pace(SLOW_SECONDS)
    misplaced = Codec().encode(StopTool(CallId("call_of_nobody"), "cancelled"))
    roles = await cluster.roles()
    gateway = roles[2]
    async with AsyncExitStack() as stack, raw(cluster.kafka) as broker:
        session = await began(gateway.url, "Tell me a story.")
        live = await stack.enter_async_context(viewing(gateway.url, session))
        await live.until_type("text_delta", 3)
        log = f"{cluster.prefix}.session.{session}"
        genuine = await broker.values(log)
        for topic in TOPICS:
            await broker.put_everywhere(f"{cluster.prefix}.{topic}", GARBAGE, b"", None, misplaced)
        # and in the session's own log: garbage, a command, and a copy of what is there already
        await broker.put_everywhere(log, GARBAGE, b"", None, misplaced, genuine[1], genuine[-1])
        await live.until_end()
        assert (await check(gateway.url, session, live)).finals == [STORY]
        stored = sorted_out(session, await broker.values(log))
        assert stored.accepted == live.ids
        assert len(stored.void) >= 6

        # Everybody who was there goes on, and so does who comes later and reads it all from the beginning.
        cluster.pace(0)
        assert all(process.is_running for process in roles)
        await works(stack, gateway.url)
        later = await asyncio.gather(cluster.orchestrator(), cluster.worker(), cluster.gateway())
        for process in roles[:2]:
            assert await process.stop() == 0
        await works(stack, later[2].url)
        async with viewing(later[2].url, session) as late:
            await check(later[2].url, session, live, late)
        letters = [one for one in await broker.commands(f"{cluster.prefix}.deadletter") if isinstance(one, DeadLetter)]
    for topic in SET_ASIDE:
        kept = [letter.value for letter in letters if letter.topic == f"{cluster.prefix}.{topic}"]
        assert GARBAGE in kept
        assert misplaced in kept


async def works(stack: AsyncExitStack, url: str) -> None:
    """Run a session with calls from its beginning to its end."""
    session = await began(url, "Work, please.")
    viewer = await stack.enter_async_context(viewing(url, session))
    await viewer.until_end()
    found = await check(url, session, viewer)
    assert len(found.results) == WAITS + 1
    assert {result["status"] for result in found.results.values()} == {"ok"}
