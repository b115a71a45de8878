"""The stock EventSource of npm, cut off again and again, ends with exactly the log.

Needs node and npm (and, once, the registry). Without them it is skipped; with PLAYHEAD_REQUIRE_NODE=1 it fails.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import orjson
import pytest

from tests.gateway.cutting import cutting
from tests.gateway.support import CLOSED, OWNED, SSE, STARTED, World, a_turn, parse, serving

SOURCE = Path(__file__).parent / "eventsource"
INSTALL_SECONDS_MAX = 120
WATCH_SECONDS_MAX = 20


def give_up(why: str) -> None:
    if os.environ.get("PLAYHEAD_REQUIRE_NODE") == "1":
        pytest.fail(why)
    pytest.skip(why)


async def run(*command: str, cwd: Path, seconds_max: int) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds_max):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 1, b"", f"not done after {seconds_max} seconds".encode()
    return process.returncode or 0, out, err


@pytest.fixture
async def installed(request: pytest.FixtureRequest) -> Path:
    """Give a folder with the script and its client, installed as the lock file says, kept between runs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        give_up("node and npm are not installed: the stock EventSource client is not tried")
    folder = Path(str(request.config.cache.mkdir("eventsource"))) if request.config.cache else SOURCE
    lock = folder / "package-lock.json"
    fresh = lock.exists() and lock.read_bytes() == (SOURCE / lock.name).read_bytes()
    for path in SOURCE.glob("*.js*"):
        shutil.copy(path, folder)
    if not (fresh and (folder / "node_modules" / "eventsource").is_dir()):
        command = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
        code, _, err = await run(*command, cwd=folder, seconds_max=INSTALL_SECONDS_MAX)
        if code:
            lock.unlink()
            give_up(f"npm could not install the stock EventSource client: {err.decode()[-500:]}")
    return folder


async def test_the_stock_client_that_is_cut_off_again_and_again_ends_with_exactly_the_log(
    world: World, installed: Path
) -> None:
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, question="\u2028 é \r\n", words=60), CLOSED)
    parts = world.parts(retry_ms=20)
    async with serving(parts) as one, serving(world.parts(retry_ms=20, ring_bytes_max=4_000)) as other:
        url = f"/v1/sessions/{session}/events"
        frames = parse((await one.client.get(url, headers=SSE)).content)
        async with cutting([one.address.port, other.address.port], 5, 4_000) as cutter:
            target = f"http://127.0.0.1:{cutter.port}{url}"
            code, out, err = await run("node", "watch.js", target, cwd=installed, seconds_max=WATCH_SECONDS_MAX)
            assert code == 0, err.decode()
    result = orjson.loads(out)
    assert result["seen"] == [[frame.id, frame.event, frame.data["seq"]] for frame in frames[1:-1]]
    assert result["breaks"] > 3


async def test_the_stock_client_stays_away_from_a_session_that_has_ended(world: World, installed: Path) -> None:
    session = await world.session_with(STARTED, OWNED, CLOSED)
    async with serving(world.parts(retry_ms=20)) as served:
        target = f"http://{served.address}/v1/sessions/{session}/events?after=3"
        code, out, err = await run("node", "watch.js", target, cwd=installed, seconds_max=WATCH_SECONDS_MAX)
    assert code == 0, err.decode()
    assert orjson.loads(out) == {"seen": [], "readies": 0, "breaks": 1}
