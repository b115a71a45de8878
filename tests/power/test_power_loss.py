"""Nothing that SQLite's users were told is lost when the power fails, at any moment and whatever the disk then holds.

`PLAYHEAD_POWER_SEEDS` gives how many seeds are run (2), and from 3 on each moment is cut in all ways; `-s` shows what
was cut. A failure names the seed, the uptime, the moment and the fate, and leaves the disk in the test's folder.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from playhead.adapters.sqlite import SqliteStore, open_sqlite
from playhead.adapters.sqlite import writer as sqlite_writer
from playhead.adapters.sqlite.database import durability

from tests.power.disk import Fate, Image, Platter, Sync, SyncFolder, Trace, Write
from tests.power.ledger import Ledger
from tests.power.life import Script
from tests.power.machine import Machine, Uptime, Verdict
from tests.power.vfs import NoShim, Shim

SEEDS = int(os.environ.get("PLAYHEAD_POWER_SEEDS", "2"))
THOROUGH = SEEDS > 2
STRIDE = 1 if THOROUGH else 10
KILLS_QUICK = 8
OTHERS = (Fate.KEPT, Fate.ORDERED, Fate.REORDERED, Fate.SECTORS, Fate.TORN, Fate.TORN)
UPTIMES = 3
ABLATION_SEEDS_MAX = 3


@pytest.fixture(scope="module")
def shim() -> Shim:
    try:
        return Shim()
    except NoShim as reason:
        if os.environ.get("PLAYHEAD_REQUIRE_POWER") == "1":
            pytest.fail(f"PLAYHEAD_REQUIRE_POWER=1, and there is no shim: {reason}")
        pytest.skip(f"the power cannot be cut here: {reason}")


def everywhere(uptime: Uptime, random: Random) -> Callable[[int], Sequence[Fate]]:
    """Choose what to try: where most is waiting the hardest fate and another, and between now and then any."""
    syncs = frozenset(uptime.syncs)

    def fates(moment: int) -> Sequence[Fate]:
        if THOROUGH:
            return tuple(Fate)
        if moment in syncs:
            return Fate.LOST, random.choice(OTHERS)
        return (random.choice(tuple(Fate)),) if moment % STRIDE == 0 else ()

    return fates


async def cut_everywhere(machine: Machine, uptime: Uptime, random: Random) -> Verdict:
    """Judge every cut of an uptime and give one of them, for the next uptime to begin from."""
    verdicts: list[Verdict] = []
    async for verdict in machine.judge(uptime, everywhere(uptime, random), random):
        assert not verdict.wrong, f"{verdict.cut} of {uptime.trace.now}: {verdict.wrong}; disk: {machine.folder}"
        verdicts.append(verdict)
    return random.choice(verdicts)


def files_of(folder: Path) -> Image:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_whatever_was_acknowledged_is_there_after_any_power_cut(shim: Shim, tmp_path: Path, seed: int):
    """L1, L3, L4, L5, L9: several cuts in a row on one disk; in each uptime a process dies and another goes on."""
    random = Random(seed)
    machine = Machine(shim, tmp_path / "disk", slow_commit_seconds=-1 if seed % 2 else 60)
    uptime, moments, resets = Uptime(Trace({}), Ledger()), 0, 0
    for number in range(UPTIMES):
        script = Script(f"{seed}.{number}", rounds=3 if number == 0 else 1, stints=2 if number == 0 else 1)
        uptime = await machine.live(uptime, script)
        resets += uptime.resets
        moments += uptime.trace.now
        killed = uptime.killed(random.choice(uptime.syncs))
        await cut_everywhere(machine, uptime, random)
        uptime = await machine.live(killed, Script(f"{script.name}.again", rounds=1, stints=1))
        resets += uptime.resets
        moments += uptime.trace.now - uptime.start
        verdict = await cut_everywhere(machine, uptime, random)
        uptime = Uptime(Trace(verdict.image), verdict.after)
    assert resets >= 2, "no write-ahead log was begun anew: the workload is too small"
    print(f"\nseed {seed}: {moments} moments, {resets} resets, {dict(machine.losses)}")  # noqa: T201


async def test_what_a_new_process_shows_of_a_killed_one_is_on_the_disk(shim: Shim, tmp_path: Path):
    """L1, L3: killed between writing and syncing, then read or asked for the same again, and then the power fails."""
    random = Random("killed")
    machine = Machine(shim, tmp_path / "disk")
    life = await machine.live(Uptime(Trace({}), Ledger()), Script("killed", rounds=1, stints=1))
    syncs = life.syncs
    for moment in syncs if THOROUGH else random.sample(syncs, min(KILLS_QUICK, len(syncs))):
        again = await machine.live(life.killed(moment), Script(f"after {moment}", only_resume=True))
        async for verdict in machine.judge(again, lambda _: (Fate.LOST,), random):
            assert not verdict.wrong, f"killed at {moment}, {verdict.cut}: {verdict.wrong}; disk: {machine.folder}"
    print(f"\nkilled at each of {len(syncs)} syncs or at some: {dict(machine.losses)}")  # noqa: T201


def writer_to(synchronous: str) -> Callable[[SqliteStore], None]:
    def weaken(store: SqliteStore) -> None:
        writing = store._writer._connection  # pyright: ignore[reportPrivateUsage] - the product has no such setting
        writing.execute(f"PRAGMA synchronous = {synchronous}")

    return weaken


async def losses_of(machine: Machine, name: str) -> list[str]:
    """Make the same cuts of the same workload, until a loss is found."""
    for seed in range(ABLATION_SEEDS_MAX):
        random = Random(seed)
        uptime = await machine.live(Uptime(Trace({}), Ledger()), Script(f"weak {seed}"))
        async for verdict in machine.judge(uptime, everywhere(uptime, random), random):
            if verdict.wrong:
                print(f"\n{name}: caught after {machine.losses['cuts']} cuts: {verdict.wrong[:1]}")  # noqa: T201
                return list(verdict.wrong)
    return []


@pytest.mark.parametrize("synchronous", ["normal", "off"])
async def test_a_store_that_syncs_less_is_caught(shim: Shim, tmp_path: Path, synchronous: str):
    machine = Machine(shim, tmp_path / "disk", weaken=writer_to(synchronous))
    assert await losses_of(machine, synchronous)


async def test_a_store_whose_checkpoints_do_not_sync_is_caught(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both of the writer's ways to a checkpoint: each alone is made good by the other's sync, as a rule."""
    move = sqlite_writer._checkpoint  # pyright: ignore[reportPrivateUsage] - the product has no such setting

    def unsynced(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = off")
        move(connection)
        connection.execute("PRAGMA synchronous = full")

    monkeypatch.setattr(sqlite_writer, "_checkpoint", unsynced)
    assert await losses_of(Machine(shim, tmp_path / "disk"), "checkpoints")


async def test_the_products_own_settings_are_in_force_under_the_shim(shim: Shim, tmp_path: Path):
    trace = Trace({})
    with shim.recording(tmp_path, trace):
        async with open_sqlite(tmp_path / "log.db") as store:
            writer = store._writer  # pyright: ignore[reportPrivateUsage] - to ask its connections
            for connection in (writer._connection, writer._side):  # pyright: ignore[reportPrivateUsage]
                assert durability(connection) == ("wal", 2)
            assert store.durability == ("wal", 2)
            syncs = sum(isinstance(operation, Sync) for operation in trace.operations)
            transactions = store.transactions
            await store.log.create()
            commits = store.transactions - transactions
            assert commits >= 1
            assert sum(isinstance(operation, Sync) for operation in trace.operations) >= syncs + commits
    # What was noted is what was written: played again, it gives the same files.
    platter = Platter({}, {})
    for operation in trace.operations:
        platter.do(operation)
    image, _ = platter.cut(Fate.KEPT, Random(0))
    assert image == files_of(tmp_path)
    with sqlite3.connect(tmp_path / "log.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


def test_the_disk_keeps_what_was_synced_and_only_that_is_certain():
    operations = [Write(0, 0, b"a" * 1024), Sync(0), Write(0, 0, b"b" * 1024), Write(0, 1024, b"c" * 100)]
    trace = Trace({"file": b""}, operations)
    platter = Platter.of(trace.image)
    for operation in trace.operations:
        platter.do(operation)
    seen = {fate: {platter.cut(fate, Random(n))[0]["file"] for n in range(300)} for fate in Fate}
    assert seen[Fate.LOST] == {b"a" * 1024}
    assert seen[Fate.KEPT] == {b"b" * 1024 + b"c" * 100}
    assert b"a" * 1024 + b"c" * 100 in seen[Fate.REORDERED]
    assert b"b" * 10 + b"a" * 1014 in {image[:10] + b"a" * 1014 for image in seen[Fate.ORDERED]}
    assert b"a" * 512 + b"b" * 512 in seen[Fate.SECTORS]
    assert any(set(image) - set(b"abc\0") for image in seen[Fate.TORN])
    platter.do(Sync(0))
    assert platter.settled


def test_a_files_name_is_certain_once_its_folder_was_synced():
    trace = Trace({})
    number = trace.opened("new")
    trace.note(Write(number, 0, b"x"))
    trace.note(Sync(number))
    platter = Platter.of(trace.image)
    for operation in trace.operations:
        platter.do(operation)
    assert platter.cut(Fate.LOST, Random(0))[0] == {}
    platter.do(SyncFolder())
    assert platter.cut(Fate.LOST, Random(0))[0] == {"new": b"x"}
    trace.deleted("new")
    platter.do(trace.operations[-1])
    assert platter.cut(Fate.LOST, Random(0))[0] == {"new": b"x"}
    assert platter.cut(Fate.KEPT, Random(0))[0] == {}
