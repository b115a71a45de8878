"""What the clients' tests stand on: Node, if it is there, and a session that has something of everything."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from playhead.accept import Record
from playhead.events import Event, Json, ModelCallAbandoned, ModelCallStarted, TextDelta, ToolProgress, ToolResultChunk
from playhead.ids import SessionId, call_id
from playhead_gateway.projections.sse import Projection

from tests.gateway.support import CLOSED, CODEC, OWNED, RUN, STARTED, World, a_turn

__all__ = ["HERE", "ROOT", "Shown", "a_session", "installed_at", "need_node", "run", "shown"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALL_SECONDS_MAX = 120.0
RUN_SECONDS_MAX = 60.0

Shown = tuple[str, dict[str, Any]]
"""An event as a client has it: its cursor, and its JSON."""


def need_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        give_up("node and npm are not installed: no client in JavaScript is tried")


def give_up(why: str) -> None:
    if os.environ.get("PLAYHEAD_REQUIRE_NODE") == "1":
        pytest.fail(why)
    pytest.skip(why)


async def run(*command: str, cwd: Path = ROOT, seconds_max: float = RUN_SECONDS_MAX) -> bytes:
    """Run a program to its end, and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds_max):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()[-2000:]
    return out


async def installed_at(config: pytest.Config, source: Path, package: str) -> Path:
    """Give a folder with the packages of a lock file (among them this one), kept between runs."""
    need_node()
    assert config.cache is not None
    folder = Path(str(config.cache.mkdir(f"npm-{source.name}")))
    with (folder / "in-use").open("w") as in_use:
        await asyncio.to_thread(fcntl.flock, in_use, fcntl.LOCK_EX)  # another process of this test run may install it
        await _install(folder, source, package)
    return folder


async def _install(folder: Path, source: Path, package: str) -> None:
    lock = folder / "package-lock.json"
    fresh = lock.exists() and lock.read_bytes() == (source / lock.name).read_bytes()
    if not (fresh and (folder / "node_modules" / package).is_dir()):
        for name in ("package.json", lock.name):
            shutil.copy(source / name, folder)
        command = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
        try:
            await run(*command, cwd=folder, seconds_max=INSTALL_SECONDS_MAX)
        except (AssertionError, TimeoutError) as failure:
            lock.unlink()
            give_up(f"npm could not install {package}: {failure}")


async def a_session(world: World, *, closed: bool = True, words: int = 60) -> SessionId:
    """Write a session: a lost attempt, calls that report, characters of every size, and its end."""
    session = await world.log.create()
    turn = a_turn(session, question="\u2028 é 😀 \r\n", words=words)
    call = call_id(session, RUN, 1, 0)
    events: list[Event] = [
        STARTED,
        OWNED,
        *turn[:3],
        TextDelta(RUN, 1, 1, "lost 日本"),
        ModelCallAbandoned(RUN, 1, 1, "crash"),
        ModelCallStarted(RUN, 1, 2, "scripted:plain", "scripted"),
        *turn[3:5],
        ToolProgress(RUN, 1, 2, call, 1.0, 2.0, "half"),
        ToolResultChunk(RUN, 1, 2, call, Json('"so far"')),
        *turn[5:],
    ]
    await world.write(session, *events, *([CLOSED] if closed else []))
    return session


async def shown(world: World, session: SessionId) -> list[Shown]:
    """Give what a client must have seen of a session in the end."""
    projection = Projection(CODEC)
    records: list[Record] = [record async for page in world.log.read(session) for record in page.records]
    return [(str(record.cursor), orjson.loads(projection.event(record) or b"")) for record in records]
