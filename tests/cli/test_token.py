"""Commands that talk to a gateway which asks who they are: PLAYHEAD_TOKEN lets them in, without it they say so."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.support import CLOSED, OWNED, STARTED, a_turn, a_world, serving

KEY, OTHER = a_key(1), a_key(2)
SECONDS_MAX = 20


async def playhead(url: str, token: str | None, *arguments: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLAYHEAD_")}
    if token is not None:
        environment["PLAYHEAD_TOKEN"] = token
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "playhead_cli", *arguments, "--url", url),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("command", [("tail", "SESSION"), ("show", "SESSION"), ("ls",), ("tools", "ls")])
async def test_a_command_is_let_in_with_the_token_of_its_environment(command: tuple[str, ...], tmp_path: Path) -> None:
    world = await a_world()
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    path = access_file(tmp_path, key_table(KEY), key_table(OTHER, name="other", more='tenant = "acme"'))
    arguments = tuple(session if one == "SESSION" else one for one in command)
    async with serving(replace(world.parts(), authenticate=authenticator(path))) as served:
        url = f"http://{served.address}"
        code, _, err = await playhead(url, KEY.text, *arguments)
        assert code == 0, err
        for token in (None, "phk_wrong"):
            code, _, err = await playhead(url, token, *arguments)
            assert code == 1
            assert "Unauthorized" in err
        if "SESSION" in command:
            code, _, err = await playhead(url, OTHER.text, *arguments)
            assert code == 1
            assert "Not Found" in err
