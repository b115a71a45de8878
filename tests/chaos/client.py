"""Clients of a running system, all with stock parts: HTTP, and Server-Sent Events that go on from their last id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2

from tests.history.folding import ENDS, Event, Folded, folded
from tests.history.lines import History

__all__ = [
    "RETRY_SECONDS",
    "WAIT_SECONDS",
    "Viewer",
    "ask",
    "began",
    "began_surely",
    "check",
    "connection",
    "get",
    "log_of",
    "viewing",
]

WAIT_SECONDS = 40.0
"""The longest wait for anything: a crashed owner's session timeout, a model call and several restarts are in it."""

RETRY_SECONDS = 0.05
PAGE_EVENTS = 500


def connection(url: str = "") -> httpx2.AsyncClient:
    """Open what a client speaks through."""
    # Loopback needs neither certificates, which cost a tenth of a second to load, nor the environment's proxy.
    timeout = httpx2.Timeout(5, read=WAIT_SECONDS)
    return httpx2.AsyncClient(base_url=url, timeout=timeout, verify=False, trust_env=False)


async def ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST, and fail unless it was accepted."""
    async with connection(url) as client:
        response = await client.post(path, json=body)
    assert response.is_success, response.text
    return cast("dict[str, Any]", response.json())


async def get(url: str, path: str) -> dict[str, Any]:
    """GET, and fail unless it is there."""
    async with connection(url) as client:
        response = await client.get(path)
    assert response.is_success, response.text
    return cast("dict[str, Any]", response.json())


async def began(url: str, text: str) -> str:
    """Begin a session with a message and give its id."""
    return str((await ask(url, "/v1/sessions", {"input": text}))["id"])


async def began_surely(url: str, text: str, key: str) -> str:
    """Begin a session as a patient client does: with one key, until somebody lives long enough to answer."""
    async with asyncio.timeout(WAIT_SECONDS), connection(url) as client:
        while True:
            try:
                response = await client.post("/v1/sessions", json={"input": text}, headers={"Idempotency-Key": key})
                if response.is_success:
                    return str(response.json()["id"])
                assert response.status_code == 503, response.text
            except httpx2.TransportError:
                pass
            await asyncio.sleep(RETRY_SECONDS)


async def log_of(url: str, session: str) -> list[Event]:
    """Read a session's whole log as JSON pages."""
    events: list[Event] = []
    after = "0"
    while True:
        page = await get(url, f"/v1/sessions/{session}/events?after={after}&limit={PAGE_EVENTS}")
        events += page["events"]
        if not page["events"] or events[-1]["seq"] >= page["last_seq"]:
            return events
        after = page["next_after"]


class Viewer:
    """What a client has seen of a session, in the order in which it came. Nothing is sorted or taken out.

    With a `history`, it is written there too.
    """

    def __init__(self, url: str, session: str, history: History | None = None) -> None:
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.connections = 0
        self._url = f"{url}/v1/sessions/{session}/events"
        self._session = session
        self._history = history
        self._last = ""
        self._changed = asyncio.Event()

    async def until(self, wanted: Callable[[Sequence[Event]], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until what was seen is wanted."""
        try:
            async with asyncio.timeout(seconds):
                while not wanted(self.events):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            tail = [(event["seq"], event["type"]) for event in self.events[-8:]]
            raise AssertionError(f"did not see it in {seconds} s; {len(self.events)} events, last {tail}") from None

    async def until_type(self, kind: str, count: int = 1) -> None:
        """Wait for so many events of a type."""
        await self.until(lambda events: sum(event["type"] == kind for event in events) >= count)

    async def until_end(self, runs: int = 1, seconds: float = WAIT_SECONDS) -> None:
        """Wait for the end of so many runs."""
        await self.until(lambda events: sum(event["type"] in ENDS for event in events) >= runs, seconds)

    async def watch(self) -> None:
        """Connect again with the last id whenever the connection is gone, for ever or until the log says no more."""
        async with connection() as client:
            while True:
                self.connections += 1
                try:
                    if not await self._listen(client):
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, client: httpx2.AsyncClient) -> bool:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
        async with client.stream("GET", self._url, headers=headers) as response:
            if response.status_code == 204:
                self._note("ended")
                return False
            if response.status_code in (409, 410):
                self._note("refused", after=self._last, status=response.status_code)
            assert response.status_code == 200, (response.status_code, await response.aread(), self._last)
            self._note("opened", after=self._last)
            async for said in httpx2.EventSource(response):
                if said.event == "end":
                    self._note("ended")
                    return False
                if said.event in ("ready", "draining"):
                    continue
                event = cast("Event", said.json())
                assert said.id is not None
                assert said.event == event["type"]
                assert said.id.partition("-")[0] == str(event["seq"])
                self._last = said.id
                self.ids.append(said.id)
                self.events.append(event)
                self._note("seen", id=said.id, event=event)
                self._changed.set()
        return True

    def _note(self, op: str, **fields: object) -> None:
        if self._history is not None:
            self._history.note(f"viewer {id(self):x}", op, session=self._session, **fields)


@asynccontextmanager
async def viewing(url: str, session: str, history: History | None = None) -> AsyncGenerator[Viewer, None]:
    """Watch a session beside what else happens."""
    viewer = Viewer(url, session, history)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(viewer.watch())
        try:
            yield viewer
        finally:
            watching.cancel()


async def check(url: str, session: str, *viewers: Viewer) -> Folded:
    """Compare all that can be seen of a session with each other, and give what its log comes to.

    Its pages, what each viewer saw, the hashes in the ids, its folded state, and what a client is left with after
    dropping what was abandoned: all must tell the same.
    """
    events = await log_of(url, session)
    for viewer in viewers:
        await viewer.until(lambda seen: len(seen) >= len(events))
        assert viewer.events == events
        assert viewer.ids == viewers[0].ids
    found = folded(events)
    state = await get(url, f"/v1/sessions/{session}")
    assert state["last_seq"] == len(events)
    said = [message["content"] for message in state["messages"] if message["role"] == "assistant"]
    assert said == [message["content"] for message in found.messages]
    assert [message["content"] for message in state["messages"] if message["role"] == "user"] == found.questions
    if found.ends:
        assert state["status"] == "idle"
        assert state["pending"] == []
    return found
