"""Every failpoint, the first time and a later one that it is reached, with all that can go wrong at it.

A whole system in one process: a death is the end of one node or of all at once, and others take their places. That the
same holds of real processes is tried in `tests/chaos/test_failpoints.py`, by kill -9.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
from playhead.failpoints import Action, actions_at, on_the_nth, points_of
from structlog.testing import capture_logs

from tests.failpoints.system import WAITS, Role, System
from tests.failpoints.users import asks_through_the_gateway, asks_through_the_queue
from tests.failpoints.verdict import hold, settled

FIRST, LATER = 1, 3
OTHERWISE = {"owner.prepare": 2, "gateway.prepare": 1, "worker.publish.results": 5}
"""Where a life comes to no third time, and where only then what is said is more than that calls begin."""
AT_ONCE = 12
PATIENCE_SECONDS = 90.0
"""For one trial, among others that take the same processor's time."""
LATE_SECONDS = WAITS.lost / 3
"""A machine that makes everything wait for so long can make a worker look lost."""
WATCH_SECONDS = 0.02
USERS = {
    "owner": asks_through_the_queue,
    "worker": asks_through_the_queue,
    "gateway": asks_through_the_gateway,
}
ROLES: dict[Role, tuple[Role, ...]] = {
    "owner": ("owner", "worker"),
    "worker": ("owner", "worker"),
    "gateway": ("owner", "worker", "gateway"),
}
ALL_DIE: Literal["all die"] = "all die"
"""As one process does that is all nodes: `playhead dev`."""
What = Action | Literal["all die"]
COLUMNS: tuple[What, ...] = (Action.KILL, ALL_DIE, Action.DELAY, Action.REFUSED, Action.LOST, Action.TWICE)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is done at which point, and the how many-th time that it is reached."""

    point: str
    nth: int
    what: What

    @property
    def role(self) -> Role:
        return "owner" if self.point.startswith("owner") else "worker" if self.point.startswith("worker") else "gateway"


def trials(role: Role) -> Iterator[Trial]:
    for point in points_of(role):
        boundary = point.rpartition(".")[0]
        later = OTHERWISE.get(boundary, LATER)
        for action in actions_at(point):
            if action is not Action.STOP:  # there is no process here to be stopped
                yield from (Trial(point, nth, action) for nth in sorted({FIRST, later}))
        yield from (Trial(point, nth, ALL_DIE) for nth in sorted({FIRST, later}))


@asynccontextmanager
async def lateness() -> AsyncGenerator[list[float], None]:
    """How late the event loop was, each time that it was looked at, in seconds."""
    loop, late = asyncio.get_running_loop(), list[float]()

    async def watch() -> None:
        while True:
            due = loop.time() + WATCH_SECONDS
            await asyncio.sleep(WATCH_SECONDS)
            late.append(loop.time() - due)

    watching = asyncio.create_task(watch())
    try:
        yield late
    finally:
        watching.cancel()


async def tried(trial: Trial) -> bool:
    """Make a trial; tell whether the point was reached so often. Raises `AssertionError` if anything does not hold."""
    action = Action.KILL if trial.what == ALL_DIE else trial.what
    decide, struck = on_the_nth(trial.point, trial.nth, action), list[Action]()

    def deciding(point: str) -> Action | None:
        action = decide(point)
        if action is not None:
            struck.append(action)
        return action

    system = System(deciding, one_process=trial.what == ALL_DIE)
    async with asyncio.timeout(PATIENCE_SECONDS), lateness() as late, system.running(*ROLES[trial.role]):
        runs = await USERS[trial.role](system)
        await settled(system, runs)
    was_late = action is Action.DELAY or max(late) > LATE_SECONDS
    may_lose = was_late or any(lives > 1 for lives in system.lives.values())
    await hold(system, runs, may_lose=may_lose)
    return bool(struck)


def table(results: dict[Trial, str]) -> str:
    """Show each point's row: what became of the first and of the later time, by action."""
    lines = [f"{'':36}" + "".join(f"{action:14}" for action in COLUMNS)]
    for point in dict.fromkeys(trial.point for trial in results):
        cells = [
            " ".join(f"{trial.nth}:{result}" for trial, result in results.items() if (trial.point, trial.what) == at)
            for at in ((point, action) for action in COLUMNS)
        ]
        lines.append(f"{point:36}" + "".join(f"{cell or '-':14}" for cell in cells))
    return "\n".join([*lines, f"{len(results)} trials: {dict(Counter(results.values()))}"])


@pytest.mark.parametrize("role", ["owner", "worker", "gateway"])
async def test_whatever_goes_wrong_at_any_point_every_run_completes_and_all_invariants_hold(role: Role) -> None:
    room, results = asyncio.Semaphore(AT_ONCE), dict[Trial, str]()
    failures = list[tuple[Trial, Exception]]()

    async def one(trial: Trial) -> None:
        async with room:
            try:
                results[trial] = "ok" if await tried(trial) else "never"
            except Exception as error:  # noqa: BLE001 - the others are tried too
                results[trial] = "FAILED"
                failures.append((trial, error))

    wanted = list(trials(role))
    results.update(dict.fromkeys(wanted, "?"))
    with capture_logs():  # to show what tools raise takes most of the time otherwise
        async with asyncio.TaskGroup() as tasks:
            for trial in wanted:
                tasks.create_task(one(trial))
    print(f"\n{table(results)}")  # noqa: T201 - what was covered
    if failures:
        raise ExceptionGroup(
            "\n".join(f"{trial.point}:{trial.nth}:{trial.what}: {error!r}" for trial, error in failures),
            [error for _, error in failures],
        )
    assert set(results.values()) == {"ok"}, "a point was never reached"
