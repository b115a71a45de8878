"""Durable Streams: the protocol's own suite as far as it is about reads, its stock client, and what it leaves open.

The first two need node and npm (and, once, the registry). Without them they are skipped; with PLAYHEAD_REQUIRE_NODE=1
they fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from playhead_gateway.server import Address, serve_app

from tests.clients.support import ROOT, a_session, installed_at, run, shown
from tests.gateway.durable_writer import Writer
from tests.gateway.support import CLOSED, World, deltas, serving

SOURCE = Path(__file__).parent / "durable"
DOCUMENT = ROOT / "docs" / "durable-streams.md"
SUITE_SECONDS_MAX = 240.0

Groups = dict[str, dict[str, str]]
SUITE: Groups = orjson.loads((SOURCE / "suite.json").read_bytes())
"""What of the suite is run: by group and name of a test, `read`, or why it is not."""


@pytest.fixture
async def folder(request: pytest.FixtureRequest) -> Path:
    found = await installed_at(request.config, SOURCE, "@durable-streams/server-conformance-tests")
    for path in (*SOURCE.glob("*.mjs"), SOURCE / "suite.json"):
        shutil.copy(path, found)
    return found


@asynccontextmanager
async def writing(world: World) -> AsyncGenerator[str, None]:
    """Serve a gateway, and before it what writes for the suite."""
    limits: dict[str, Any] = {"wait_seconds_max": 1.0, "allowed_origins": ("https://example.com",)}
    async with serving(world.parts(**limits)) as served, asyncio.TaskGroup() as group:
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        app = Writer(world, served.client).app
        group.create_task(serve_app(app, Address(port=0), stop=stop, on_ready=ready.set_result))
        yield f"http://{await ready}"
        stop.set()


async def test_the_protocols_own_suite_passes_as_far_as_it_is_about_reads(world: World, folder: Path) -> None:
    """Those of properties take most of the time: they are for CI."""
    report, everything = folder / "report.json", os.environ.get("PLAYHEAD_REQUIRE_NODE") == "1"
    async with writing(world) as url:
        command = ("node", "node_modules/vitest/vitest.mjs", "run", "--reporter=json", f"--outputFile={report}")
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=os.environ | {"SUITE_URL": url, "SUITE_ALL": "01"[everything]},
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(SUITE_SECONDS_MAX):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    (file,) = orjson.loads(report.read_bytes())["testResults"]
    found: Groups = {}
    for test in file["assertionResults"]:
        found.setdefault(" > ".join(test["ancestorTitles"]), {})[test["title"]] = test["status"]
    assert {group: list(tests) for group, tests in found.items()} == {
        group: list(tests) for group, tests in SUITE.items()
    }
    wrong = {
        f"{group} > {name}": found[group][name]
        for group, tests in SUITE.items()
        for name, why in tests.items()
        if (found[group][name] == "passed")
        != (why == "read" and (everything or not group.startswith("Property-Based")))
    }
    assert wrong == {}


async def follow(folder: Path, url: str, **asked: Any) -> dict[str, Any]:
    job = orjson.dumps({"url": url, **asked}).decode()
    out = await run("node", "follow.mjs", job, cwd=folder)
    said: dict[str, Any] = orjson.loads(out.splitlines()[-1])
    return said


@pytest.mark.parametrize("live", [False, "long-poll", "sse"])
async def test_the_stock_client_reads_a_session_to_its_end_and_on_from_any_offset(
    world: World, folder: Path, live: bool | str
) -> None:
    session = await a_session(world, words=600)
    events = [event for _, event in await shown(world, session)]
    async with serving(world.parts(page_events_max=100 if live else 2_000)) as served:
        url = f"http://{served.address}/v1/stream/{session}"
        whole = await follow(folder, url, live=live, offset="-1")
        assert whole["items"] == events
        assert whole["isClosed"]
        assert whole["offsets"] == sorted(whole["offsets"])
        middle = whole["offsets"][0] if live == "sse" else f"{300:016d}"
        seen = int(middle.partition("-")[0])
        assert (await follow(folder, url, live=live, offset=middle))["items"] == events[seen:]
        rest = await follow(folder, url, live=live, offset=whole["offset"])
        assert (rest["items"], rest["isClosed"]) == ([], True)


@pytest.mark.parametrize("live", ["long-poll", "sse"])
async def test_the_stock_client_follows_a_session_while_it_goes_on(world: World, folder: Path, live: str) -> None:
    session = await a_session(world, closed=False)
    async with serving(world.parts()) as served:
        job = orjson.dumps({"url": f"http://{served.address}/v1/stream/{session}", "live": live, "offset": "-1"})
        process = await asyncio.create_subprocess_exec(
            "node", "follow.mjs", job.decode(), cwd=folder, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(10):
                assert await process.stdout.readline() == b"begun\n"
                for event in deltas(20):
                    await world.write(session, event)
                await world.write(session, CLOSED)
                said = orjson.loads(await process.stdout.read())
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    assert said["items"] == [event for _, event in await shown(world, session)]
    assert said["isClosed"]


REASONS = {
    "write": "about creating, appending to, closing or deleting a stream, or about how an append is taken apart",
    "producer": "about idempotent producers, which write",
    "fork": "about forks, which are made by writing",
    "expiry": "about streams that expire: a session does not",
    "content-type": "about bodies of other content types than `application/json`, of which there are none",
    "subscription": "about subscriptions, an optional part that the suite leaves out unless told otherwise",
}


def listed() -> str:
    """Say which tests of the suite apply and which do not."""
    reasons = Counter(why for tests in SUITE.values() for why in tests.values())
    lines = [f"Of {reasons.total()} tests {reasons['read']} are about reads. The others are not run:", ""]
    lines += [f"- {reasons[why]} `{why}`: {told}." for why, told in REASONS.items()]
    lines += ["", "| group | tests | run | not run |", "|---|---|---|---|"]
    for group, tests in SUITE.items():
        count = Counter(tests.values())
        others = ", ".join(f"{count[why]} `{why}`" for why in REASONS if count[why])
        lines.append(f"| {group} | {len(tests)} | {count['read']} | {others} |")
    lines += ["", "Of the groups that are run in part, these are not run:", ""]
    for group, tests in SUITE.items():
        if "read" in tests.values():
            lines += [f"- {group}: {name} (`{why}`)" for name, why in tests.items() if why != "read"]
    return "\n".join(lines)


def test_the_documentation_says_which_tests_of_the_suite_apply() -> None:
    _, _, after = DOCUMENT.read_text().partition("<!-- made by tests/gateway/test_durable_streams.py -->\n")
    assert after == f"{listed()}\n<!-- end -->\n"
