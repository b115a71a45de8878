"""Gateways are restarted one after the other behind a plain balancer: no viewer loses or repeats an event.

How long a viewer may be without news is what its gateway told it to wait before it comes back. A viewer that comes back
to a gateway which is just then sent away as well is told to wait once more. VIEWERS is 200 with `make rolling-restart`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from playhead_gateway.limits import Limits

from tests.chaos.client import WAIT_SECONDS, ask, began, log_of
from tests.chaos.processes import Process, Stage
from tests.gateway.support import CLOSED, OWNED, STARTED, World, a_world, deltas, serving
from tests.support.balancer import Balancer, balancing

VIEWERS = int(os.environ.get("PLAYHEAD_ROLLING_VIEWERS", "40"))
SESSIONS = 4
PACE_SECONDS = 0.1
STORY = "".join(f"{number:04d} ü😀 " for number in range(1_000))
"""At this pace for longer than the restarts take, on the slowest machine."""

CONNECT_SECONDS_MAX = 2.5
"""What there is to a wait beside what the gateway asked for: a connection, the way through the log to what is new, and
the time between two events themselves, for all viewers at once on a busy machine."""
RETRY_MS = 3_000
"""What a client that was told nothing yet waits, as browsers do."""


def wait_seconds_max(limits: Limits, times: int = 1) -> float:
    """Give the longest that a viewer may be without news that was sent away so often since its last event."""
    return times * (limits.retry_ms + limits.retry_jitter_ms) / 1_000 + CONNECT_SECONDS_MAX


@dataclass
class Viewer:
    """A stock SSE client that keeps its last id and waits as long as it is told to."""

    url: str
    session: str
    ids: list[str] = field(default_factory=list[str])
    data: list[str] = field(default_factory=list[str])
    waits: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """How long it was without an event, and how often it was sent away meanwhile: for each event but the first."""
    connections: int = 0
    retry_ms: int = RETRY_MS
    _seen_at: float = 0.0
    _sent_away: int = 0

    async def watch(self, client: httpx2.AsyncClient) -> None:
        """Watch until the session has ended."""
        while not await self._listen(client):
            self._sent_away += 1
            await asyncio.sleep(self.retry_ms / 1_000)

    async def _listen(self, client: httpx2.AsyncClient) -> bool:
        self.connections += 1
        headers = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
        try:
            async with client.sse(f"{self.url}/v1/sessions/{self.session}/events", headers=headers) as source:
                if source.response.status_code == 204:
                    return True
                assert source.response.status_code == 200, await source.response.aread()
                async for said in source:
                    self.retry_ms = said.retry or self.retry_ms
                    if said.event == "end":
                        return True
                    if said.event not in ("ready", "draining"):
                        self._see(said)
        except httpx2.TransportError:
            pass
        return False

    def _see(self, said: httpx2.ServerSentEvent) -> None:
        now = time.monotonic()
        if self.ids:
            self.waits.append((now - self._seen_at, self._sent_away))
        self._seen_at, self._sent_away = now, 0
        self.ids.append(said.id)
        self.data.append(said.data)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - it is looked for in many viewers at once
            await asyncio.sleep(0.02)


@asynccontextmanager
async def watched(url: str, sessions: Sequence[str]) -> AsyncGenerator[list[Viewer], None]:
    """Let viewers watch, from the moment that each has seen something until the sessions have ended."""
    viewers = [Viewer(url, sessions[number % len(sessions)]) for number in range(VIEWERS)]
    timeout = httpx2.Timeout(5, read=WAIT_SECONDS)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx2.AsyncClient(timeout=timeout, limits=limits, verify=False, trust_env=False) as client,
        asyncio.timeout(None) as patience,
        asyncio.TaskGroup() as group,
    ):
        for viewer in viewers:
            group.create_task(viewer.watch(client))
        await until(lambda: all(len(viewer.ids) > 3 for viewer in viewers))
        yield viewers
        patience.reschedule(asyncio.get_running_loop().time() + WAIT_SECONDS)


def check(viewers: Sequence[Viewer], logs: Mapping[str, Sequence[Any]], limits: Limits) -> None:
    """Compare what each viewer saw with the log, and how long it waited with what it was told; print the figures."""
    for viewer in viewers:
        assert [orjson.loads(data) for data in viewer.data] == logs[viewer.session]
        assert [int(cursor.partition("-")[0]) for cursor in viewer.ids] == [one["seq"] for one in logs[viewer.session]]
        assert viewer.connections > 1
    assert len({cursor for viewer in viewers for cursor in viewer.ids}) == sum(map(len, logs.values()))
    waits = [wait for viewer in viewers for wait in viewer.waits]
    for times in sorted({times for _, times in waits}):
        longest = max(seconds for seconds, sent_away in waits if sent_away == times)
        count = sum(sent_away == times for _, sent_away in waits)
        bound = wait_seconds_max(limits, times)
        print(f"sent away {times} times: {count} waits, longest {longest:.2f} s, bound {bound:.2f} s")  # noqa: T201
        assert longest <= bound


async def started(world: World, running: AsyncExitStack, limits: Mapping[str, Any]) -> int:
    served = await running.enter_async_context(serving(world.parts(**limits)))
    return served.address.port


async def all_see_more(viewers: Sequence[Viewer]) -> None:
    counts = [len(viewer.ids) for viewer in viewers]
    await until(lambda: all(len(viewer.ids) > count for viewer, count in zip(viewers, counts, strict=True)))


async def test_two_gateways_over_one_log_that_are_restarted_in_turn_lose_and_repeat_nothing() -> None:
    """protocol:P39 protocol:P40"""
    world = await a_world()
    short = {"retry_ms": 100, "retry_jitter_ms": 200}
    sessions = [await world.session_with(STARTED, OWNED, *deltas(3)) for _ in range(SESSIONS)]

    async def go_on() -> None:
        while True:
            for session in sessions:
                await world.write(session, *deltas(1))
            await asyncio.sleep(0.05)  # the pace of the model

    async with AsyncExitStack() as first, AsyncExitStack() as second, AsyncExitStack() as running:
        ports = [await started(world, one, short) for one in (first, second)]
        balancer = await running.enter_async_context(balancing(*ports))
        async with watched(balancer.url, sessions) as viewers, asyncio.TaskGroup() as group:
            going_on = group.create_task(go_on())
            for place, old in enumerate((first, second)):
                await old.aclose()
                balancer.ports[place] = await started(world, running, short)
                await all_see_more(viewers)
            going_on.cancel()
            for session in sessions:
                await world.write(session, CLOSED)
        logs = {str(session): await log_of(balancer.url, session) for session in sessions}
    check(viewers, logs, world.parts(**short).limits)


@pytest.fixture
async def telling(tmp_path: Path, kafka_bootstrap: str) -> AsyncGenerator[Stage, None]:
    """Topics on a real broker for roles whose model tells a long story."""
    steps = [{"delta_characters": 8}, {"say": STORY}]
    stage = Stage(tmp_path, kafka_bootstrap, scenario=[{"when": "story", "steps": steps}])
    stage.pace(PACE_SECONDS)
    yield stage
    await stage.close()
    print(stage.last_words())  # noqa: T201


async def replace(stage: Stage, gateways: list[Process], place: int, balancer: Balancer) -> None:
    """Tell a gateway to stop, and wait until another is ready in its stead."""
    old = gateways[place]
    old.signal(signal.SIGTERM)
    gateways[place] = await stage.gateway()
    balancer.ports[place] = gateways[place].port
    assert await old.exited() == 0


@pytest.mark.kafka
async def test_two_gateways_on_a_broker_that_are_restarted_in_turn_lose_and_repeat_nothing(telling: Stage) -> None:
    """protocol:P39 protocol:P40"""
    one, other, _ = await asyncio.gather(telling.gateway(), telling.gateway(), telling.orchestrator())
    gateways = [one, other]
    async with balancing(one.port, other.port) as balancer:
        sessions = [await began(balancer.url, "Tell me a story.") for _ in range(SESSIONS)]
        async with watched(balancer.url, sessions) as viewers:
            # First as fast as it goes, so that viewers who wait find that both are new; then so that all are back
            # in between, and those who went to the second are sent away again.
            for is_patient in (False, True):
                for place in range(len(gateways)):
                    await replace(telling, gateways, place, balancer)
                    if is_patient:
                        await all_see_more(viewers)
                await all_see_more(viewers)
            for session in sessions:
                await ask(balancer.url, f"/v1/sessions/{session}/cancel", {})
                await ask(balancer.url, f"/v1/sessions/{session}/close", {})
        logs = {str(session): await log_of(balancer.url, session) for session in sessions}
    assert len(balancer.carried) == 6
    print(f"{VIEWERS} viewers of {SESSIONS} sessions, {sum(map(len, logs.values()))} events")  # noqa: T201
    check(viewers, logs, Limits())
