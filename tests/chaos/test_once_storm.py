"""`once` under fire: processes are killed and suspended at random while many calls run, and none starts twice.

`make once-storm CALLS=500 SEED=1` is the whole of it. What happens follows from the seed as far as the machine lets it;
it is printed with the outcome.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.chaos.client import began_surely, check, viewing
from tests.chaos.executions import executions, hold, lates, unreported
from tests.chaos.processes import Process, Stage
from tests.chaos.tool_scenario import STORM_CALLS
from tests.history.folding import Folded

CALLS = int(os.environ.get("PLAYHEAD_STORM_CALLS", "60"))
SEED = int(os.environ.get("PLAYHEAD_STORM_SEED", "1"))
AT_ONCE = 2
"""Sessions that go on at the same time."""
END_SECONDS = 180.0
"""For one session: it may be struck again and again."""
LOST_SECONDS = 7
LULL_SECONDS = (0.2, 1.5)
"""Between two blows. The storm is weather, and waits for nobody."""
GUST, CALM_SECONDS = 4, LOST_SECONDS + 3.0
"""So many kills, and then none for longer than silence is put up with: an owner counts it in one life alone."""
SHORT_STOP_SECONDS = (0.2, 3.0)
LONG_STOP_SECONDS = (9.0, 12.0)
"""Longer than the session timeout, than a grant lasts, and than silence is put up with."""
LATE_SECONDS = 30.0


Again = Callable[[Process], Awaitable[Process]]
"""Starts a process in the place of one that was killed."""


@dataclass
class Storm:
    """What strikes the processes that run, and how often it has."""

    running: list[Process]
    again: Again
    kills: Counter[str] = field(default_factory=Counter[str])
    stops: Counter[str] = field(default_factory=Counter[str])

    async def rage(self) -> None:
        """Kill and suspend until cancelled. Each sort of blow has its own dice, so that they do not mix."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kill(random.Random(SEED)))
                group.create_task(self._suspend(random.Random(SEED + 1)))
        finally:
            for process in self.running:
                process.signal(signal.SIGCONT)

    async def _kill(self, chance: random.Random) -> None:
        while True:
            calm = sum(self.kills.values()) % GUST == GUST - 1
            await asyncio.sleep(CALM_SECONDS if calm else chance.uniform(*LULL_SECONDS))
            process = self._one(chance)
            place = self.running.index(process)
            self.kills[process.name] += 1
            await process.kill()
            self.running[place] = await self.again(process)

    async def _suspend(self, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(chance.uniform(*LULL_SECONDS))
            process = self._one(chance)
            if not process.is_running:
                continue
            self.stops[process.name] += 1
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(*chance.choice((SHORT_STOP_SECONDS, LONG_STOP_SECONDS))))
            process.signal(signal.SIGCONT)

    def _one(self, chance: random.Random) -> Process:
        role = chance.choice(sorted({process.name for process in self.running}))
        return chance.choice([process for process in self.running if process.name == role])


async def survived(url: str, storm: Storm) -> list[str]:
    """Have sessions of ten calls each go through the storm; give them when all have ended."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with room:
            session = await began_surely(url, "A storm, please.", f"storm-{number}")
            async with viewing(url, session) as viewer:
                await viewer.until_end(seconds=END_SECONDS)
            return session

    async with asyncio.TaskGroup() as group:
        raging = group.create_task(storm.rage())
        sessions = await asyncio.gather(*(one(number) for number in range(CALLS // STORM_CALLS)))
        raging.cancel()
    return sessions


async def judged(url: str, stage: Stage, session: str) -> tuple[Folded, Counter[str], int]:
    """Hold a session against what was noted; what was done by who lives must come, though it be late."""
    alive = [process.pid for process in stage.processes if process.is_running]
    async with viewing(url, session) as viewer:
        found = await check(url, session)
        missing = unreported(found, executions(stage.journal), alive)
        await viewer.until(lambda events: missing <= lates(events).keys(), LATE_SECONDS)
        noted = executions(stage.journal)
        late = lates(viewer.events)
    done = {one.call for one in noted if one.what == "done"}
    assert {call for call, event in late.items() if event["status"] == "ok"} <= done
    return found, hold(found, noted), len(late)


async def weathered(url: str, stage: Stage, storm: Storm) -> None:
    """See the storm through, and say what it came to."""
    began = time.monotonic()
    sessions = await survived(url, storm)
    seconds = time.monotonic() - began
    total, ends, late = Counter[str](), Counter[str](), 0
    for session in sessions:
        found, counts, came_late = await judged(url, stage, session)
        total += counts
        ends += Counter(found.ends.values())
        late += came_late
    begun = Counter(one.call for one in executions(stage.journal) if one.what == "begun")
    print(  # noqa: T201
        f"seed {SEED}: {len(sessions)} sessions of {STORM_CALLS} calls in {seconds:.0f} s: {dict(ends)}; "
        f"results {dict(total)}, {late} late; {len(begun)} started, none twice; "
        f"kills {dict(storm.kills)}, stops {dict(storm.stops)}"
    )
    assert ends == {"run_completed": len(sessions)}
    assert total.total() == len(sessions) * STORM_CALLS
    assert max(begun.values()) == 1
    assert sum(storm.kills.values()) > 0
    assert sum(storm.stops.values()) > 0


async def test_no_once_call_starts_twice_while_the_one_process_is_killed_and_suspended(tools: Stage) -> None:
    tools.variables["PLAYHEAD_LOST_SECONDS"] = str(LOST_SECONDS)
    dev = await tools.dev()
    await weathered(dev.url, tools, Storm([dev], lambda process: tools.dev(process.port)))


@pytest.mark.kafka
async def test_no_once_call_starts_twice_while_workers_and_orchestrators_are_killed_and_suspended(pool: Stage) -> None:
    pool.variables["PLAYHEAD_LOST_SECONDS"] = str(LOST_SECONDS)
    gateway, *running = await asyncio.gather(
        pool.gateway(), *(pool.orchestrator() for _ in range(2)), *(pool.worker() for _ in range(3))
    )

    def again(process: Process) -> Awaitable[Process]:
        return pool.worker() if process.name == "worker" else pool.orchestrator()

    await weathered(gateway.url, pool, Storm(running, again))
