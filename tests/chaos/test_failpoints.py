"""kill -9 of real processes at every failpoint: of a call's worker, its session's owner, the gateway (T1 to T6).

Much of such a trial is waiting, so a few go on at the same time, each with a system of its own. `make chaos`
(`PLAYHEAD_CHAOS_ALL=1`) tries every point with every effect, the first and a later time that it is reached; without it
a sample is tried, another one of each store. All that else may go wrong at these points is tried in one process, in
`tests/failpoints/test_every_failpoint.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playhead.failpoints import points_of
from playhead_gateway.access.keys import ENTROPY_BYTES, new_key

from tests.chaos.client import WAIT_SECONDS, began_surely, check, viewing
from tests.chaos.executions import executions, hold
from tests.chaos.patient import Patient
from tests.chaos.processes import Process, Stage
from tests.chaos.raw import raw
from tests.chaos.tool_scenario import EFFECTS, LARGE_CALLS, TOOL_SCENARIO, WORK_CALLS
from tests.history.folding import folded

ALL = os.environ.get("PLAYHEAD_CHAOS_ALL") == "1"
AT_ONCE = 4
SAMPLED = 5
"""Of so many points one is tried where not all are: an odd number, so that it is one before a boundary, then one after.
"""
DIED_SECONDS = 60.0 if ALL else 30.0
PATIENCE_SECONDS = 120.0 if ALL else WAIT_SECONDS
"""Whoever tries all has time, and a busy machine."""
CALLS = {**dict.fromkeys(EFFECTS, WORK_CALLS), "large": LARGE_CALLS}
"""How many calls a session has, by the word that it begins with."""

ONLY_ONCE = {"worker.asked", "worker.granted", "owner.granting", "owner.granted", "owner.publish.control"}
"""Only for `once` is a worker granted what it asks for."""
NOT_ONCE = {"worker.started", "worker.publish.deadletter"}
"""What may run at once is said to have started; what is granted is known to have. What fails for good is not set
aside."""
ONLY_LARGE = {"worker.put"}

OF_EACH_INPUT = {"owner.received", "owner.appended", "owner.acknowledging", "owner.acknowledged", "owner.append"}
AMID_CALLS = 6
"""The input of a session by which its calls are out."""
BEFORE_IT_IS_ASKED = {"owner.prepare", "owner.publish.catalog", "worker.prepare", "worker.publish.catalog"}
"""Where a process comes on its way to being ready. So it does to `gateway.prepare`, and to `receive` before."""
ONCE_IN_A_LIFE = {"gateway.prepare", "owner.publish.catalog", "worker.publish.deadletter"}
"""There is one topology, one agent, and one call that comes to nothing."""
NEEDS_A_STRANGER = {"owner.publish.deadletter"}
"""Only what nobody can read is set aside by an owner, and only into Kafka can a test write that."""
PROCESS = {"owner": "orchestrator", "worker": "worker", "gateway": "gateway"}


@dataclass(frozen=True, slots=True)
class Trial:
    """Which process dies where, and of what effect the calls of the session are."""

    point: str
    nth: int
    effect: str

    @property
    def failpoint(self) -> str:
        return f"{self.point}:{self.nth}"

    @property
    def role(self) -> str:
        return self.point.partition(".")[0]

    @property
    def boundary(self) -> str:
        """The point without its side: what it is before or after."""
        return boundary_of(self.point)


def boundary_of(point: str) -> str:
    return point.removesuffix(".before").removesuffix(".after")


def trials(role: str, store: str) -> Iterator[Trial]:
    """List the trials of a role's points; other stores sample other ones."""
    shift = 0 if store == "embedded" else SAMPLED // 2
    for place, point in enumerate(points_of(role)):
        boundary = boundary_of(point)
        effects = [effect for effect in CALLS if possible(boundary, effect)]
        nth = AMID_CALLS if boundary in OF_EACH_INPUT else 1
        if store == "embedded" and boundary in NEEDS_A_STRANGER:
            continue
        if ALL:
            times = (nth,) if boundary in ONCE_IN_A_LIFE else (nth, nth + 1)
            yield from (Trial(point, one, effect) for effect in effects for one in times)
        elif place % SAMPLED == shift:
            yield Trial(point, nth, effects[place // SAMPLED % len(effects)])


def possible(boundary: str, effect: str) -> bool:
    if boundary.startswith("gateway") or boundary in BEFORE_IT_IS_ASKED | NEEDS_A_STRANGER:
        return effect == "read"  # whatever the calls are
    if effect == "large" or boundary in ONLY_LARGE:
        return effect == "large" and boundary in ONLY_LARGE
    return boundary not in (NOT_ONCE if effect == "once" else ONLY_ONCE)


class Deadly(Stage):
    """A stage whose processes may die before they are ready."""

    async def _start(self, name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Process:
        try:
            return await super()._start(name, *arguments, variables=variables)
        except AssertionError:
            process = [one for one in self.processes if one.name == name][-1]
            if await process.exited() != -signal.SIGKILL:
                raise
            return process


@asynccontextmanager
async def staged(trial: Trial, folder: Path, kafka: str) -> AsyncGenerator[Deadly, None]:
    place = folder / f"{trial.point}-{trial.nth}-{trial.effect}"
    place.mkdir()
    variables = {
        "PLAYHEAD_SESSION_TIMEOUT_SECONDS": "4",
        "PLAYHEAD_LOST_SECONDS": "7",
        "PLAYHEAD_ARCHIVE": str(place / "archive"),
    }
    stage = Deadly(place, kafka, "tests.chaos.tool_app", TOOL_SCENARIO, variables=variables)
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


@dataclass
class Running:
    """A system with one process that will die, and how to replace that one. `url` is where it can be asked."""

    url: str
    replace: Callable[[], Awaitable[None]]


async def embedded(stage: Deadly, trial: Trial) -> Running:
    victim = await stage.dev(variables={"PLAYHEAD_FAILPOINT": trial.failpoint})
    if not victim.port:  # it never came so far as to serve
        await died(victim, trial)
        return Running((await stage.dev()).url, nothing)

    async def replace() -> None:
        await died(victim, trial)
        await stage.dev(victim.port)

    return Running(victim.url, replace)


async def cluster(stage: Deadly, trial: Trial) -> Running:
    armed = {"PLAYHEAD_FAILPOINT": trial.failpoint}
    how = {role: armed if role == trial.role else None for role in PROCESS}
    orchestrator, worker, gateway = await asyncio.gather(
        stage.orchestrator(variables=how["owner"]),
        stage.worker(variables=how["worker"]),
        stage._start(  # pyright: ignore[reportPrivateUsage] - a gateway with variables of its own
            "gateway", "gateway", "--kafka", stage.kafka, "--port", "0", variables=how["gateway"]
        ),
    )
    victim = {"owner": orchestrator, "worker": worker, "gateway": gateway}[trial.role]
    if trial.boundary in NEEDS_A_STRANGER:
        async with raw(stage.kafka) as stranger:
            await stranger.put_everywhere(f"{stage.prefix}.requests", b"nothing that anybody could read")

    async def replace() -> None:
        await died(victim, trial)
        match trial.role:
            case "owner":
                await stage.orchestrator()
            case "worker":
                await stage.worker()
            case _:
                await stage.gateway(victim.port)

    if not gateway.port:  # it never came so far as to serve
        await died(gateway, trial)
        return Running((await stage.gateway()).url, nothing)
    return Running(gateway.url, replace)


async def nothing() -> None:
    """It has been replaced."""


async def completed(stage: Deadly, running: Running, trial: Trial) -> Counter[str]:
    """Have a session go through the death of a process, and hold its log against what its tools did."""
    url = running.url
    async with asyncio.TaskGroup() as group:
        group.create_task(_awaited(running.replace()))
        session = await began_surely(url, f"{trial.effect}, please.", "the-one")
        async with viewing(url, session) as viewer:
            await viewer.until_end(seconds=PATIENCE_SECONDS)
    async with viewing(url, session) as late:
        found = await check(url, session, late)
    assert list(found.ends.values()) == ["run_completed"]
    assert len(found.results) == CALLS[trial.effect]
    return hold(found, executions(stage.journal))


async def answered(stage: Deadly, running: Running, patient: Patient) -> Counter[str]:
    """Ask a gateway, through its death, for all by which it leaves something behind."""
    patient.url = running.url
    async with asyncio.TaskGroup() as group:
        group.create_task(_awaited(running.replace()))
        sessions = [await ask(name) for name in ("first", "later") for ask in (patient.promised, patient.failed)]
    assert len(set(sessions)) == len(sessions)
    counts = Counter[str]()
    for session in sessions:
        found = folded(await patient.log_of(session))
        assert len(found.ends) == 1
        counts += hold(found, executions(stage.journal))
    return counts


async def _awaited(replacing: Awaitable[None]) -> None:
    await replacing


def letting_in(stage: Deadly) -> Patient:
    """Have the gateways of a stage ask who asks, and give somebody whom they let in."""
    key, file = new_key(os.urandom(ENTROPY_BYTES)), stage.folder / "access.toml"
    file.write_text(f'[[keys]]\nid = "{key.id}"\nname = "test"\nhash = "{key.hash}"\nscopes = {SCOPES}\n')
    stage.variables["PLAYHEAD_AUTH_FILE"] = str(file)
    return Patient(stage, key.text)


SCOPES = '["sessions:read", "sessions:write", "admin"]'

Begin = Callable[[Deadly, Trial], Coroutine[None, None, Running]]


async def tried(some: Iterator[Trial], begin: Begin, folder: Path, kafka: str) -> None:
    """Make the trials, a few at a time, and say how the calls of each ended. One that fails keeps no other from it."""
    room, done, failures = asyncio.Semaphore(AT_ONCE), Counter[str](), list[Exception]()

    async def one(trial: Trial) -> None:
        try:
            async with room, staged(trial, folder, kafka) as stage:
                if trial.role == "gateway":
                    patient = letting_in(stage)
                    counts = await answered(stage, await begin(stage, trial), patient)
                else:
                    counts = await completed(stage, await begin(stage, trial), trial)
        except Exception as error:  # noqa: BLE001 - the others are tried too
            failures.append(ExceptionGroup(f"{trial.failpoint} with {trial.effect}", [error]))
            return
        done[trial.point] += 1
        print(f"{trial.failpoint:38} {trial.effect:5} {dict(counts)}")  # noqa: T201

    async with asyncio.TaskGroup() as group:
        for trial in some:
            group.create_task(one(trial), name=str(trial))
    print(f"{done.total()} deaths at {len(done)} points")  # noqa: T201
    if failures:
        raise ExceptionGroup(f"{len(failures)} trials failed", failures)


@pytest.mark.parametrize("role", PROCESS)
async def test_a_death_at_any_point_leaves_each_call_with_one_end_embedded(role: str, tmp_path: Path) -> None:
    await tried(trials(role, "embedded"), embedded, tmp_path, "")


@pytest.mark.kafka
@pytest.mark.parametrize("role", PROCESS)
async def test_a_death_at_any_point_leaves_each_call_with_one_end_on_kafka(
    role: str, tmp_path: Path, kafka_bootstrap: str
) -> None:
    await tried(trials(role, "kafka"), cluster, tmp_path, kafka_bootstrap)
