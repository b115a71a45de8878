"""Users and viewers who live through a storm as patient clients do, and note all that they were told.

A user says a thing with one key until somebody answers. A viewer comes back with its last id, to another gateway each
time, and now and then of its own will. Neither knows of faults.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2

from tests.history.folding import ENDS, Event
from tests.history.lines import History

__all__ = ["Crowd", "Spectator", "client"]

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 12.0
SILENCE_SECONDS = 13.0
"""A stream without a heartbeat for so long is dead: they come each 10 s."""
RETRY_SECONDS = 0.3
END_SECONDS = 300.0
"""For one session from its first message to its last event, through whatever strikes."""
HANG_UP_EVENTS = (5, 120)
"""A viewer hangs up of its own will after so many events, and comes back."""
WATCHERS = 2
OK, BUSY = (200, 201, 202), (500, 502, 503, 504)


@dataclass
class Crowd:
    """Everybody who uses the system. `texts` are what is said; each names a turn of the model."""

    history: History
    urls: Sequence[str]
    texts: Sequence[str]
    chance: random.Random
    name: str = "storm"
    """What their keys begin with: two crowds with one would have the same sessions."""
    surprises: list[str] = field(default_factory=list[str])
    """What no client should ever be told."""
    sessions: dict[str, int] = field(default_factory=dict[str, int])
    """How many runs each session has."""
    going: dict[str, str] = field(default_factory=dict[str, str])
    """The owner of each session that goes on now, as far as anybody has seen."""
    answers: Counter[str] = field(default_factory=Counter[str])
    late: set[str] = field(default_factory=set[str])
    """Sessions that had not ended when nobody waited any longer."""
    is_under_way: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has seen something."""
    _number: int = 0

    async def sit(self, until: asyncio.Event, at_once: int) -> None:
        """Have so many sessions at a time go on, one after the other, until it is said that no more should begin."""

        async def seat() -> None:
            while not until.is_set():
                self._number += 1
                await self.session(self._number)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(seat())

    async def session(self, number: int) -> None:
        """Have one session from its first message to its end."""
        key, chance = f"{self.name}-{number}", random.Random(self.chance.random())
        session, run = await self.said("", f"{key}-1", chance)
        self.sessions[session] = 1
        self.going[session] = ""
        try:
            async with asyncio.timeout(END_SECONDS), asyncio.TaskGroup() as group:
                watchers = [Spectator(self, f"viewer-{number}-{which}", session, chance) for which in range(WATCHERS)]
                for watcher in watchers:
                    group.create_task(watcher.watch())
                if chance.random() < 0.4:
                    self.sessions[session] = 2
                    await self.said(session, f"{key}-2", chance)
                if chance.random() < 0.15:
                    await asyncio.sleep(chance.uniform(0.1, 2.0))
                    await self.cancelled(session, run, f"{key}-cancel")
                await watchers[0].until_ends(self.sessions[session])
                await self.closed(session)
        except TimeoutError:
            self.late.add(session)
        finally:
            self.going.pop(session, None)

    async def said(self, session: str, key: str, chance: random.Random) -> tuple[str, str]:
        """Say something, in a session or in a new one. Gives session and run."""
        content = f"{chance.choice(self.texts)}, please ({key})."
        path = f"/v1/sessions/{session}/messages" if session else "/v1/sessions"
        body = {"content": content} if session else {"input": content}
        known = {"session": session} if session else {}
        said = {"op": "message", "key": key, "content": content, **known}
        answer = await self._asked(path, body, said)
        return session or str(answer["id"]), str(answer["run_id"])

    async def cancelled(self, session: str, run: str, key: str) -> None:
        said = {"op": "cancel", "key": key, "session": session, "run": run}
        await self._asked(f"/v1/sessions/{session}/cancel", {"run_id": run}, said)

    async def closed(self, session: str) -> None:
        await self._asked(f"/v1/sessions/{session}/close", {}, None)

    async def _asked(self, path: str, body: dict[str, Any], said: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Idempotency-Key": said["key"]} if said and said["op"] == "message" else {}
        while True:
            self._note(said, "invoke")
            answer = await self._once(path, body, headers)
            if isinstance(answer, dict):
                found = {"session": str(answer["id"])} if "id" in answer else {}
                found |= {"run": str(answer["run_id"])} if answer.get("run_id") else {}
                self._note(said, "ok", **found)
                return answer
            self.answers[answer] += 1
            self._note(said, "info")
            await asyncio.sleep(RETRY_SECONDS)

    async def _once(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any] | str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), client(self.chance.choice(self.urls)) as http:
                response = await http.post(path, json=body, headers=headers)
        except (httpx2.TransportError, TimeoutError) as error:
            return type(error).__name__
        if response.status_code in OK:
            return cast("dict[str, Any]", response.json() if response.content else {})
        if response.status_code not in BUSY or response.status_code == 500:
            self.surprises.append(f"POST {path}: {response.status_code} {response.text}")
        return str(response.status_code)

    def _note(self, said: dict[str, Any] | None, phase: str, **found: str) -> None:
        if said is not None:
            rest = {name: value for name, value in said.items() if name != "op"}
            self.history.note("user", said["op"], phase=phase, **{**rest, **found})


@dataclass
class Spectator:
    """One viewer of one session."""

    crowd: Crowd
    name: str
    session: str
    chance: random.Random
    last: str = ""
    ends: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Watch until the log says that nothing more comes."""
        turn = self.chance.randrange(len(self.crowd.urls))
        while True:
            url = self.crowd.urls[turn % len(self.crowd.urls)]
            turn += 1
            try:
                async with client(url) as http:
                    if await self._listen(http):
                        self._note("ended")
                        return
            except (httpx2.TransportError, TimeoutError) as error:
                self.crowd.answers[f"viewer {type(error).__name__}"] += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def until_ends(self, runs: int) -> None:
        while self.ends < runs:
            self._changed.clear()
            await self._changed.wait()

    async def _listen(self, http: httpx2.AsyncClient) -> bool:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last} if self.last else {})
        path = f"/v1/sessions/{self.session}/events"
        async with http.stream("GET", path, headers=headers) as response:
            if response.status_code == 204:
                return True
            if response.status_code != 200:
                await self._turned_away(response)
                return False
            self._note("opened", after=self.last)
            left = self.chance.randint(*HANG_UP_EVENTS)
            async for said in httpx2.EventSource(response):
                if said.event == "end":
                    return True
                if said.event in ("ready", "draining"):
                    continue
                self._see(str(said.id), cast("Event", said.json()))
                left -= 1
                if not left:
                    break
        return False

    def _see(self, cursor: str, event: Event) -> None:
        self._note("seen", id=cursor, event=event)
        self.crowd.is_under_way.set()
        self.last = cursor
        if event["type"] == "owner_changed" and self.session in self.crowd.going:
            self.crowd.going[self.session] = event["owner"]
        if event["type"] in ENDS:
            self.ends += 1
            self._changed.set()

    async def _turned_away(self, response: httpx2.Response) -> None:
        status = response.status_code
        text = (await response.aread()).decode(errors="replace")
        self.crowd.answers[f"viewer {status}"] += 1
        if status in (409, 410):
            self._note("refused", after=self.last, status=status)
        if status not in BUSY or status == 500:
            self.crowd.surprises.append(f"GET {self.session} after {self.last!r}: {status} {text}")

    def _note(self, op: str, **fields: Any) -> None:
        self.crowd.history.note(self.name, op, session=self.session, **fields)


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """A client of one gateway. Loopback needs neither certificates nor the environment's proxy."""
    timeout = httpx2.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
    async with httpx2.AsyncClient(base_url=url, timeout=timeout, verify=False, trust_env=False) as http:
        yield http
