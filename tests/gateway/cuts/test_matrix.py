"""A recorded session, cut everywhere, resumed by stock clients: each ends with exactly the log, every time.

A sample of the cuts, the same each time; with PLAYHEAD_CUTS=all (`make cuts`) one after every byte. The clients of npm
need node and npm (and, once, the registry): without them they are skipped, or with PLAYHEAD_REQUIRE_NODE=1 it fails.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from tests.clients.support import installed_at
from tests.gateway.cuts.proxy import ExactCuts, body_of, exact_cuts
from tests.gateway.cuts.recording import Seen, digest_of, expected_of, sample, the_session
from tests.gateway.support import World, parse, serving

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

ALL = os.environ.get("PLAYHEAD_CUTS") == "all"
TORN, ENDED, MANY = 100, 50, 20
"""How many cuts a sample has: of the connection, of the body, and rows of cuts, one for each connection."""
AT_ONCE = 64
SECONDS_MAX = 3600 if ALL else 60
STUCK_SECONDS = 25

NPM = ("eventsource", "undici", "eventsource-client")
PYTHON = ("httpx2", "httpx-sse", "aiohttp-sse-client")


@dataclass(frozen=True)
class Recording:
    """A closed session behind a proxy that cuts: where it is, what its log has, and how it looks on the wire."""

    proxy: ExactCuts
    path: str
    log: list[Seen]
    answer: bytes

    @property
    def body(self) -> bytes:
        return body_of(self.answer)

    def url(self, how: str, *cuts: int) -> str:
        return f"{self.proxy.url}/{how}/{'.'.join(map(str, cuts)) or '-'}{self.path}"

    def urls(self) -> list[str]:
        torn, ended = range(len(self.answer)), range(len(self.body))
        chance = random.Random(1)
        many = [[chance.randrange(200, 4_000) for _ in range(8)] for _ in range(MANY)]
        return [
            *(self.url("torn", cut) for cut in (torn if ALL else sample(self.answer, TORN))),
            *(self.url("ended", cut) for cut in (ended if ALL else sample(self.body, ENDED))),
            *(self.url(how, *cuts) for cuts in many for how in ("torn", "ended")),
        ]


Wanted = Callable[[Recording], list[str]]


@asynccontextmanager
async def recorded(world: World) -> AsyncGenerator[Recording, None]:
    """Serve the session from two gateways: one reads the log and writes event by event, the other has all at hand."""
    session = await world.log.create()
    await world.write(session, *the_session(session))
    log = expected_of([record async for page in world.log.read(session) for record in page.records])
    slow, quick = world.parts(retry_ms=1, chunk_bytes_max=1, ring_bytes_max=4_000), world.parts(retry_ms=1)
    async with (
        serving(slow) as first,
        serving(quick) as second,
        exact_cuts(first.address.port, second.address.port) as proxy,
    ):
        path = f"/v1/sessions/{session}/events"
        answer = proxy.recordings[path[1:].encode()] = await whole(proxy, path)
        proxy.connections.clear()
        yield Recording(proxy, path, log, answer)


async def whole(proxy: ExactCuts, path: str) -> bytes:
    """Ask as a client does, and give the answer as it comes over the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(f"GET /torn/-{path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


async def run(command: Sequence[str], cwd: Path, said: bytes) -> tuple[bytes, str]:
    """Run a program to its end, and give what it printed and how it failed, if it did."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            out, err = await process.communicate(said)
    except TimeoutError:
        process.kill()
        await process.wait()
        return b"", f"not done after {SECONDS_MAX} s"
    return out, err.decode()[-2000:] if process.returncode else ""


@pytest.fixture
async def installed(request: pytest.FixtureRequest) -> Path:
    """Give a folder with the scripts and the clients of npm, kept between runs."""
    folder = await installed_at(request.config, HERE, "undici")
    for path in HERE.glob("*.js"):
        shutil.copy(path, folder)
    return folder


@dataclass(frozen=True)
class Outcome:
    """What one client made of all the cuts: how it failed, or the URLs after which it did not have the log, and why."""

    urls: int
    failed: str
    wrong: list[tuple[str, str]]
    resumed: int
    connections: int
    seconds: float


async def outcome_of(world: World, command: Sequence[str], cwd: Path, wanted: Wanted = Recording.urls) -> Outcome:
    """Let one client watch each of the URLs. Nothing is asserted while the gateways are up."""
    async with recorded(world) as recording:
        urls: list[str] = wanted(recording)
        expected, begun = digest_of(recording.log), time.monotonic()
        job = {
            "urls": urls,
            "types": sorted({kind for _, kind, _ in recording.log}),
            "expected": expected,
            "at_once": AT_ONCE,
            "seconds_max": STUCK_SECONDS,
        }
        out, failed = await run(command, cwd, orjson.dumps(job))
        seconds, asked = time.monotonic() - begun, recording.proxy.connections
    lines = sorted(cast("list[list[Any]]", [orjson.loads(line) for line in out.splitlines()]), key=itemgetter(0))
    if not failed and [line[0] for line in lines] != list(range(len(urls))):
        failed = f"it answered for {len(lines)} of {len(urls)} URLs"
    found: list[tuple[str, list[Seen]]]
    found = [(urls[line[0]], [(one[0], one[1], one[2]) for one in line[2]]) for line in lines if line[1] != expected]
    wrong = [(url, difference(recording.log, seen)) for url, seen in found]
    resumed = sum(count > 1 for count in asked.values())
    return Outcome(len(urls), failed, wrong, resumed, asked.total(), seconds)


async def check(world: World, command: Sequence[str], cwd: Path) -> None:
    found = await outcome_of(world, command, cwd)
    print(  # noqa: T201 - the figures of `make cuts`
        f"{command[-1]}: {found.urls} cut streams, {found.connections} connections, {found.seconds:.1f} s, "
        f"{len(found.wrong)} wrong"
    )
    assert found.failed == ""
    assert found.wrong[:5] == []
    # What is cut within its last bytes has said all that there is, and need not be asked again.
    assert found.resumed > found.urls * 0.95


def difference(log: Sequence[Seen], seen: Sequence[Seen]) -> str:
    """Say in short how what was seen is not the log."""
    place = next((place for place, (one, other) in enumerate(zip(log, seen, strict=False)) if one != other), -1)
    if place >= 0:
        return f"{len(seen)} of {len(log)} events; number {place + 1} is {seen[place]!r:.200}, not {log[place]!r:.200}"
    return f"{len(seen)} of {len(log)} events; the last is {seen[-1] if seen else None!r:.200}"


@pytest.mark.parametrize("client", NPM)
async def test_a_client_of_npm_that_is_cut_off_anywhere_ends_with_exactly_the_log(
    world: World, installed: Path, client: str
) -> None:
    """protocol:P40"""
    await check(world, ("node", "watch.js", client), installed)


@pytest.mark.parametrize("client", PYTHON)
async def test_a_client_of_python_that_is_cut_off_anywhere_ends_with_exactly_the_log(world: World, client: str) -> None:
    """protocol:P40"""
    await check(world, (sys.executable, "-m", "tests.gateway.cuts.watch", client), ROOT)


async def test_curl_that_is_cut_off_anywhere_ends_with_exactly_the_log(world: World) -> None:
    """protocol:P40"""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    await check(world, (sys.executable, "-m", "tests.gateway.cuts.watch", "curl"), ROOT)


async def test_the_recording_is_what_the_log_has_and_hard_to_carry(world: World) -> None:
    async with recorded(world) as recording:
        frames = parse(recording.body)[1:-1]
        assert [(frame.id, frame.event, frame.data) for frame in frames] == [
            (event, kind, orjson.loads(data)) for event, kind, data in recording.log
        ]
    assert 18_000 < len(recording.body) < 26_000
    for character in ("é", "€", "😀", "\\r\\n", "\\u2028", "\\u0085", "\ufeff"):
        assert recording.body.count(character.encode()) > 3


async def test_a_client_that_keeps_an_id_before_its_event_loses_that_at_one_byte_of_a_frame_and_nowhere_else(
    world: World, installed: Path
) -> None:
    """So does @microsoft/fetch-event-source 2.0.1, against the specification: this is why `id` comes last."""
    after_the_id: list[int] = []

    def around_ids(recording: Recording) -> list[str]:
        ends = [found.end() for found in re.finditer(rb"\nid: [^\n]+\n", recording.body)]
        after_the_id.extend(ends[::4])
        anywhere = [cut for cut in sample(recording.body, ENDED) if cut not in ends]
        cuts = [*anywhere, *(end + by for end in after_the_id for by in (-1, 0, 1))]
        return [recording.url("ended", cut) for cut in cuts]

    found = await outcome_of(world, ("node", "watch.js", "fetch-event-source"), installed, around_ids)
    assert found.failed == ""
    assert [f"/ended/{cut}/" for cut in after_the_id] == [
        re.findall("/ended/[0-9]+/", url)[0] for url, _ in found.wrong
    ]
    assert all(why.startswith("82 of 83 events") for _, why in found.wrong)


@pytest.mark.parametrize("client", [*NPM, "fetch-event-source"])
async def test_a_client_stays_away_from_a_session_of_which_it_has_seen_all(
    world: World, installed: Path, client: str
) -> None:
    """protocol:P36"""
    command = ("node", "watch.js", client)
    found = await outcome_of(world, command, installed, lambda one: [one.url("torn") + "?after=83"])
    assert found.failed == ""
    assert [why for _, why in found.wrong] == ["0 of 83 events; the last is None"]
    assert (found.connections, found.seconds < STUCK_SECONDS) == (1, True)
