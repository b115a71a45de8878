"""kill -9 at every point of a call's life, in its worker and in its session's owner, for every effect (T1 to T6).

Much of such a trial is waiting, so a few go on at the same time, each with a system of its own. `make chaos`
(`PLAYHEAD_CHAOS_ALL=1`) tries every point with every effect, the first and a later time that it is reached; without it
every point is tried with one effect.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playhead.failpoints import OWNER_POINTS, WORKER_POINTS

from tests.chaos.client import began_surely, check, viewing
from tests.chaos.executions import executions, hold
from tests.chaos.processes import Process, Stage
from tests.chaos.tool_scenario import EFFECTS, TOOL_SCENARIO, WORK_CALLS

ALL = os.environ.get("PLAYHEAD_CHAOS_ALL") == "1"
AT_ONCE = 4
ONLY_ONCE = frozenset({"worker.asked", "worker.granted", "owner.granting", "owner.granted"})
"""Only for `once` is a worker granted what it asks for."""
NOT_ONCE = frozenset({"worker.started"})
"""What may run at once is said to have started; what is granted is known to have."""
OF_EACH_INPUT = frozenset({"owner.received", "owner.appended", "owner.acknowledging", "owner.acknowledged"})
AMID_CALLS = 6
"""The input of a session by which its calls are out."""
DIED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Which process dies where, and of what effect the calls of the session are."""

    point: str
    nth: int
    effect: str

    @property
    def failpoint(self) -> str:
        return f"{self.point}:{self.nth}"


def trials(points: tuple[str, ...], shift: int) -> Iterator[Trial]:
    """List the trials at these points; `shift` has other stores sample other effects."""
    for place, point in enumerate(points):
        effects = [effect for effect in EFFECTS if possible(point, effect)]
        nth = AMID_CALLS if point in OF_EACH_INPUT else 1
        if ALL:
            yield from (Trial(point, one, effect) for effect in effects for one in (nth, nth + 1))
        else:
            yield Trial(point, nth, effects[(place + shift) % len(effects)])


def possible(point: str, effect: str) -> bool:
    return point not in (NOT_ONCE if effect == "once" else ONLY_ONCE)


@asynccontextmanager
async def staged(trial: Trial, folder: Path, kafka: str) -> AsyncGenerator[Stage, None]:
    place = folder / f"{trial.point}-{trial.nth}-{trial.effect}"
    place.mkdir()
    short = {"PLAYHEAD_SESSION_TIMEOUT_SECONDS": "4", "PLAYHEAD_LOST_SECONDS": "7"}
    stage = Stage(place, kafka, "tests.chaos.tool_app", TOOL_SCENARIO, variables=short)
    stage.pace(0)
    try:
        yield stage
    except BaseException:
        print(f"{trial}\n{stage.last_words()}")  # noqa: T201 - shown with a test that failed
        raise
    finally:
        await stage.close()


async def died(process: Process, trial: Trial) -> None:
    """Wait until it has killed itself: a point that is never reached fails here."""
    try:
        code = await process.exited(DIED_SECONDS)
    except TimeoutError:
        raise AssertionError(f"nothing reached {trial.failpoint} with {trial.effect}") from None
    assert code == -signal.SIGKILL, process.last_words()


async def embedded(trial: Trial, folder: Path) -> Counter[str]:
    async with staged(trial, folder, "") as stage:
        victim = await stage.dev(variables={"PLAYHEAD_FAILPOINT": trial.failpoint})
        url = victim.url

        async def replace() -> None:
            await died(victim, trial)
            await stage.dev(victim.port)

        return await completed(stage, url, trial, replace())


async def cluster(trial: Trial, folder: Path, kafka: str) -> Counter[str]:
    async with staged(trial, folder, kafka) as stage:
        of_worker = trial.point in WORKER_POINTS
        armed = {"PLAYHEAD_FAILPOINT": trial.failpoint}
        orchestrator, worker, gateway = await asyncio.gather(
            stage.orchestrator(variables=None if of_worker else armed),
            stage.worker(variables=armed if of_worker else None),
            stage.gateway(),
        )

        async def replace() -> None:
            await died(worker if of_worker else orchestrator, trial)
            await (stage.worker() if of_worker else stage.orchestrator())

        return await completed(stage, gateway.url, trial, replace())


async def completed(stage: Stage, url: str, trial: Trial, replace: Coroutine[None, None, None]) -> Counter[str]:
    """Have a session go through the death of a process, and hold its log against what its tools did."""
    async with asyncio.TaskGroup() as group:
        group.create_task(replace)
        session = await began_surely(url, f"{trial.effect}, please.", "the-one")
        async with viewing(url, session) as viewer:
            await viewer.until_end()
    async with viewing(url, session) as late:
        found = await check(url, session, late)
    assert list(found.ends.values()) == ["run_completed"]
    assert len(found.results) == WORK_CALLS
    return hold(found, executions(stage.journal))


async def tried(some: Iterator[Trial], run: Callable[[Trial], Coroutine[None, None, Counter[str]]]) -> None:
    """Make the trials, a few at a time, and say how the calls of each ended."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(trial: Trial) -> None:
        async with room:
            counts = await run(trial)
            print(f"{trial.failpoint:22} {trial.effect:5} {dict(counts)}")  # noqa: T201

    async with asyncio.TaskGroup() as group:
        for trial in some:
            group.create_task(one(trial), name=str(trial))


@pytest.mark.parametrize("points", [WORKER_POINTS, OWNER_POINTS], ids=["worker", "owner"])
async def test_a_death_at_any_point_leaves_each_call_with_one_end_embedded(
    points: tuple[str, ...], tmp_path: Path
) -> None:
    await tried(trials(points, 0), lambda trial: embedded(trial, tmp_path))


@pytest.mark.kafka
@pytest.mark.parametrize("points", [WORKER_POINTS, OWNER_POINTS], ids=["worker", "owner"])
async def test_a_death_at_any_point_leaves_each_call_with_one_end_on_kafka(
    points: tuple[str, ...], tmp_path: Path, kafka_bootstrap: str
) -> None:
    await tried(trials(points, 1), lambda trial: cluster(trial, tmp_path, kafka_bootstrap))
