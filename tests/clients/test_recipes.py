"""The recipes in `examples/clients`, each run as it stands, through connections that are cut."""

from __future__ import annotations

import shutil
import sys

import orjson
import pytest

from tests.clients.support import ROOT, Shown, a_session, installed_at, need_node, run, shown
from tests.gateway.support import World, a_world, serving
from tests.support.cutting import cutting

RECIPES = ROOT / "examples" / "clients"


@pytest.fixture
async def world() -> World:
    return await a_world()


async def command_of(config: pytest.Config, recipe: str) -> list[str]:
    """Give how a recipe is run; one that needs what is not there is skipped."""
    if recipe.endswith(".py"):
        return [sys.executable, str(RECIPES / recipe)]
    if recipe.endswith(".sh"):
        if shutil.which("curl") is None or shutil.which("bash") is None:
            pytest.skip("curl and bash are not installed")
        return ["bash", str(RECIPES / recipe)]
    need_node()
    if "eventsource" not in recipe:
        return ["node", str(RECIPES / recipe)]
    folder = await installed_at(config, RECIPES, "eventsource")
    shutil.copy(RECIPES / recipe, folder)
    return ["node", str(folder / recipe)]


ALL = sorted(path.name for path in RECIPES.glob("watch_with_*"))


def told(out: bytes) -> list[Shown]:
    lines = [line.partition(" ") for line in out.decode().split("\n")[:-1]]
    return [(cursor, orjson.loads(data)) for cursor, _, data in lines]


def test_there_are_recipes() -> None:
    assert len(ALL) == 4
    text = (RECIPES / "README.md").read_text()
    assert all(f"`{name}`" in text for name in ALL)


@pytest.mark.parametrize("recipe", ALL)
async def test_a_recipe_that_is_cut_off_again_and_again_prints_exactly_the_log(
    world: World, recipe: str, pytestconfig: pytest.Config
) -> None:
    """protocol:P40"""
    session, command = await a_session(world), await command_of(pytestconfig, recipe)
    async with (
        serving(world.parts(retry_ms=20)) as one,
        serving(world.parts(retry_ms=20, ring_bytes_max=4_000)) as other,
        cutting(one.address.port, other.address.port, seed=5, bytes_max=4_000) as cutter,
    ):
        out = await run(*command, cutter.url, session)
    assert told(out) == await shown(world, session)
    assert cutter.cuts > 2


@pytest.mark.parametrize("recipe", ALL)
async def test_a_recipe_that_is_refused_fails(world: World, recipe: str, pytestconfig: pytest.Config) -> None:
    command = await command_of(pytestconfig, recipe)
    async with serving(world.parts()) as served:
        with pytest.raises(AssertionError):
            await run(*command, f"http://{served.address}", "ses_" + "z" * 26, seconds_max=10)
