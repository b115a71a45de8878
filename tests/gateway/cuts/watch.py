"""Watches many URLs with one stock client of Python, or with curl: what `watch.js` does with those of npm.

Each goes on from its last id as its own documentation says; none of them but aiohttp-sse-client does it by itself.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import httpx
import httpx2
import httpx_sse
import orjson
from aiohttp_sse_client.client import EventSource

from tests.gateway.cuts.recording import Seen, digest_of
from tests.gateway.support import parse

Watch = Callable[[str], AsyncGenerator[Seen, None]]
"""Gives each event as the client has it, `ready` too, until one is `end` or the gateway says that nothing is left."""

CONNECTIONS_MAX = 10
"""More than the cuts of any URL."""
RETRY_SECONDS = 0.001
CURL_AT_ONCE = 250


@dataclass(frozen=True)
class Job:
    """What `watch.js` gets as well."""

    urls: list[str]
    expected: str
    at_once: int
    seconds_max: float


@asynccontextmanager
async def by_httpx2() -> AsyncGenerator[Watch, None]:
    async with httpx2.AsyncClient(timeout=20, verify=False, trust_env=False) as client:

        async def watch(url: str) -> AsyncGenerator[Seen, None]:
            last = ""
            for _ in range(CONNECTIONS_MAX):
                with suppress(httpx2.TransportError):
                    async with client.sse(url, headers={"Last-Event-ID": last} if last else {}) as source:
                        if source.response.status_code == 204:
                            return
                        async for event in source:
                            yield event.id, event.event, event.data
                            last = event.id or last  # `ready` has none
                await asyncio.sleep(RETRY_SECONDS)

        yield watch


@asynccontextmanager
async def by_httpx_sse() -> AsyncGenerator[Watch, None]:
    async with httpx.AsyncClient(timeout=20, verify=False, trust_env=False) as client:

        async def watch(url: str) -> AsyncGenerator[Seen, None]:
            last = ""
            for _ in range(CONNECTIONS_MAX):
                headers = {"Last-Event-ID": last} if last else {}
                with suppress(httpx.TransportError):
                    async with httpx_sse.aconnect_sse(client, "GET", url, headers=headers) as source:
                        if source.response.status_code == 204:
                            return
                        async for event in source.aiter_sse():
                            yield event.id, event.event, event.data
                            last = event.id or last  # `ready` has none
                await asyncio.sleep(RETRY_SECONDS)

        yield watch


@asynccontextmanager
async def by_aiohttp_sse_client() -> AsyncGenerator[Watch, None]:
    wait = timedelta(seconds=RETRY_SECONDS)
    async with aiohttp.ClientSession() as session:

        async def watch(url: str) -> AsyncGenerator[Seen, None]:
            last = ""
            for _ in range(CONNECTIONS_MAX):
                # Spelled as it spells it: in another case it would send both, and the older one first.
                headers = {"Last-Event-Id": last} if last else {}
                # It connects again by itself after an orderly end; what else it meets, it leaves to its user, even the
                # half of a character that the body ended with.
                with suppress(aiohttp.ClientError, UnicodeDecodeError):
                    try:
                        async with EventSource(url, reconnection_time=wait, session=session, headers=headers) as source:
                            async for event in source:
                                yield event.last_event_id, event.type or "message", event.data
                                last = event.last_event_id or last
                    except ConnectionAbortedError as refused:
                        if "204" in str(refused):
                            return
                        raise
                await asyncio.sleep(RETRY_SECONDS)

        yield watch


async def see(watch: Watch, url: str, seconds_max: float) -> list[Seen]:
    seen: list[Seen] = []
    try:
        async with asyncio.timeout(seconds_max), aclosing(watch(url)) as events:
            async for event in events:
                if event[1] == "end":
                    return seen
                if event[1] != "ready":
                    seen.append(event)
    except TimeoutError:
        seen.append(("", "", "nothing more came"))
    return seen


def say(job: Job, place: int, seen: list[Seen]) -> None:
    digest = digest_of(seen)
    line = [place, digest] if digest == job.expected else [place, digest, seen]
    print(orjson.dumps(line).decode(), flush=True)  # noqa: T201 - that is how it answers


async def watch_all(job: Job, client: str) -> None:
    places = iter(range(len(job.urls)))

    async def work(watch: Watch) -> None:
        for place in places:
            say(job, place, await see(watch, job.urls[place], job.seconds_max))

    async with CLIENTS[client]() as watch, asyncio.TaskGroup() as group:
        for _ in range(job.at_once):
            group.create_task(work(watch))


def curl_config(asked: Mapping[int, str], last: Mapping[int, str], folder: Path) -> str:
    """Say to curl what each of its transfers is, and that each is to say how it was answered."""
    said: list[str] = []
    for place, url in asked.items():
        header = 'header = "Accept: text/event-stream"\n'
        header += f'header = "Last-Event-ID: {last[place]}"\n' if place in last else ""
        answer = f'write-out = "{place} %{{http_code}}\\n"\n'
        said.append(f'url = "{url}"\noutput = "{folder / str(place)}"\nno-buffer\nsilent\n{header}{answer}')
    return "next\n".join(said)


async def by_curl(job: Job) -> None:
    """Do as a shell would: a transfer a connection, and the last whole frame's id for the next one."""
    for first in range(0, len(job.urls), CURL_AT_ONCE):
        left = dict(enumerate(job.urls[first : first + CURL_AT_ONCE], first))
        seen: dict[int, list[Seen]] = {place: [] for place in left}
        last: dict[int, str] = {}
        with tempfile.TemporaryDirectory() as name:
            for _ in range(CONNECTIONS_MAX):
                if left:
                    codes = await curl(curl_config(left, last, Path(name)))
                    left = {p: url for p, url in left.items() if not heard(Path(name, str(p)), codes[p], seen[p])}
                    last = {place: seen[place][-1][0] for place in left if seen[place]}
        for place, events in seen.items():
            say(job, place, events)


def heard(output: Path, code: str, seen: list[Seen]) -> bool:
    """Add what one transfer brought, and tell whether it was the last."""
    answer = output.read_bytes() if output.exists() else b""
    output.unlink(missing_ok=True)
    for frame in parse(answer):
        if frame.event == "end":
            return True
        if frame.event != "ready":
            data = frame.raw.partition(b"\ndata: ")[2].partition(b"\n")[0]
            seen.append((frame.id or "", frame.event, data.decode()))
    return code == "204"


async def curl(config: str) -> dict[int, str]:
    command = ("curl", "--disable", "--parallel", "--parallel-max", "50", "--parallel-immediate", "--config", "-")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it says of each cut that it was one
    )
    out, _ = await process.communicate(config.encode())
    return {int(place): code for place, code in map(str.split, out.decode().splitlines())}


CLIENTS = {"httpx2": by_httpx2, "httpx-sse": by_httpx_sse, "aiohttp-sse-client": by_aiohttp_sse_client}


def main() -> None:
    given = orjson.loads(sys.stdin.buffer.read())
    job = Job(given["urls"], given["expected"], given["at_once"], given["seconds_max"])
    client = sys.argv[1]
    asyncio.run(by_curl(job) if client == "curl" else watch_all(job, client))


if __name__ == "__main__":
    main()
