"""A broker that is not there, and one that goes away for a while."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Process, Stage
from tests.chaos.scenario import SLOW_SECONDS, STORY, WAITS
from tests.support.broker import Broker, NoBroker

TOLD_SECONDS = 5.0
START_SECONDS = 3.0
"""What Python itself takes on a busy machine, before anything of ours can run."""
OUTAGE_SECONDS = 20.0
FROZEN_SECONDS = 1.0

ROLES = (("orchestrator", "tests.chaos.app"), ("worker", "tests.chaos.app"), ("gateway", "--port", "0"))


@pytest.mark.parametrize("role", ROLES, ids=[role[0] for role in ROLES])
@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
async def test_a_role_without_a_broker_says_within_5_seconds_what_to_do_and_exits_with_1(
    tmp_path: Path, role: tuple[str, ...], answers: bool
) -> None:
    stage = Stage(tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        if answers:
            nobody.listen()  # the kernel accepts, and nobody ever says a word
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        began_at = time.monotonic()
        process = await Process.begin(role[0], [*role, "--kafka", address], stage.variables)
        code = await process.exited()
        took = time.monotonic() - began_at
    assert code == 1
    assert took < TOLD_SECONDS + START_SECONDS
    assert not process.printed
    *_, said = process.logged
    assert said.startswith("playhead: "), process.last_words()
    assert address in said
    assert "--kafka" in said or "PLAYHEAD_KAFKA" in said or "--wait" in said, said


@pytest.fixture
async def own(tmp_path: Path) -> AsyncGenerator[tuple[Stage, Broker], None]:
    """A stage on a broker of its own, which may be killed."""
    broker = Broker(own=True)
    try:
        await asyncio.to_thread(broker.start)
    except NoBroker as reason:
        pytest.skip(f"no Kafka: {reason}")
    stage = Stage(tmp_path, broker.bootstrap)
    yield stage, broker
    await stage.close()
    await asyncio.to_thread(broker.close)
    print(stage.last_words())  # noqa: T201


@pytest.mark.kafka
async def test_a_broker_that_goes_away_and_comes_back_costs_nobody_anything(own: tuple[Stage, Broker]) -> None:
    stage, broker = own
    stage.pace(SLOW_SECONDS)
    roles = await stage.roles()
    gateway = roles[2]
    async with AsyncExitStack() as stack:
        telling = await began(gateway.url, "Tell me a story.")
        working = await began(gateway.url, "Work, please.")
        teller = await stack.enter_async_context(viewing(gateway.url, telling))
        laborer = await stack.enter_async_context(viewing(gateway.url, working))
        await laborer.until_type("tool_started")
        await teller.until_type("text_delta", 5)
        # Frozen first, it dies with requests unread: connections are then reset and not closed, which is harder.
        broker.freeze()
        await asyncio.sleep(FROZEN_SECONDS)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(OUTAGE_SECONDS)  # what is tested is the time that passes, not what happens in it
        assert all(process.is_running for process in roles), stage.last_words()
        await asyncio.to_thread(broker.restart)
        await teller.until_end()
        await laborer.until_end()
        assert (await check(gateway.url, telling, teller)).finals == [STORY]
        assert len((await check(gateway.url, working, laborer)).results) == WAITS + 1
        later = await began(gateway.url, "Work, please.")
        viewer = await stack.enter_async_context(viewing(gateway.url, later))
        await viewer.until_end()
        assert len((await check(gateway.url, later, viewer)).results) == WAITS + 1
    assert all(process.is_running for process in roles)
