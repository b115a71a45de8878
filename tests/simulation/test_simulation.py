"""A slice of the simulations: that no invariant is violated, that a seed is one run, and that ablations are noticed.

`make simulate SEEDS=…` runs more, `make ablations` all of them. Simulations change what the whole process takes for the
time and for chance, so each command here is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.simulation.ablations import ABLATIONS, Ablation
from tests.simulation.nemesis import KINDS

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("PLAYHEAD_SIMULATION_SEEDS", "2000"))
SECONDS_PER_SEED_MAX = 0.15
"""Five minutes for the slice of every build."""
FAILED_ONCE = ("3632", "9298", "9642", "12432", "15430")
"""Seeds in which something was wrong when they were first run; what is in them has changed since, with every change."""
SURE = ("an input is acknowledged before its events are appended", "a cancelled run leaves its calls open")


async def simulated(*arguments: str, seconds_max: float = 60.0) -> tuple[int, str]:
    """Run the command; give its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.simulation", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds_max):
            out, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    code = process.returncode
    assert code is not None
    return code, out.decode()


async def test_no_seed_violates_an_invariant() -> None:
    code, said = await simulated("--seeds", str(SEEDS), seconds_max=60 + SEEDS * SECONDS_PER_SEED_MAX)
    print(said)  # noqa: T201 - the figures
    assert code == 0, said[-6_000:]
    assert f"{SEEDS:,} seeds" in said
    if SEEDS >= 500:
        for kind in KINDS:
            assert re.search(rf"\b{kind} [1-9]", said), f"no fault of the kind {kind}"
        for reached in ("void_record", "model_call_abandoned", "tool_unknown", "tool_result_late", "run_cancelled"):
            assert re.search(rf"\b{reached} [1-9]", said), f"nothing came to {reached}"


@pytest.mark.parametrize("seed", FAILED_ONCE)
async def test_a_seed_that_failed_once_does_not_fail_again(seed: str) -> None:
    code, said = await simulated("--seed", seed)
    assert code == 0, said


async def test_a_seed_is_one_run_whatever_ran_before_it_and_another_seed_is_another() -> None:
    runs = [await simulated("--seed", seed, "--trace") for seed in ("7", "7", "8")]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_a_safeguard_that_can_be_removed_is_there(ablation: Ablation) -> None:
    with ablation.applied():
        pass


@pytest.mark.parametrize("name", SURE)
async def test_without_a_safeguard_an_invariant_is_violated(name: str) -> None:
    code, said = await simulated("--ablations", name, "--seeds", "60")
    assert code == 0, said
    assert "NOT NOTICED" not in said


async def test_a_failing_seed_is_shrunk_to_what_it_needs_and_fails_so_again() -> None:
    without = ("--ablations", "a cancelled run leaves its calls open")
    code, said = await simulated("--ablations", without[1], "--seeds", "60")
    (seed,) = re.findall(r"open +(\d+) ", said)
    code, said = await simulated("--seed", seed, *without, "--shrink")
    assert code == 1
    first, command = said.splitlines()[-2:]
    code, said = await simulated(*command.split()[3:], *without)
    assert code == 1
    assert f"\n{first.partition(',')[0]}: " in said


async def test_a_seed_that_fails_in_nothing_cannot_be_shrunk() -> None:
    assert await simulated("--seed", "1", "--shrink") == (0, "seed 1 violates nothing\n")
