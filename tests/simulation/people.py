"""Users and viewers of a simulated deployment: they ask, lose their connections, come back, and note what they see.

A viewer reads the event stream as the specification has it, and goes on from the last id that it saw, at whichever
gateway. A user sends each request with one key until somebody answers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
from playhead.ids import SessionId

from tests.history.lines import History
from tests.simulation.loop import Process
from tests.simulation.plans import plan_of
from tests.simulation.web import Broken, Connection, Request, Web, json_of

__all__ = ["Known", "User", "Viewer"]

NOBODYS = SessionId("")
ENDS = {"run_completed", "run_failed", "run_cancelled"}
SILENCE_SECONDS = 25.0
"""How long a client waits for a byte: two heartbeats and a half."""
ANSWER_SECONDS = 15.0
RETRY_SECONDS = 0.3
TRIES_MAX = 400


@dataclass(eq=False)
class Known:
    """What everybody outside knows of one session: which runs were promised, and which have ended."""

    session: SessionId = NOBODYS
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    runs: dict[str, bool] = field(default_factory=dict[str, bool])
    done: asyncio.Event = field(default_factory=asyncio.Event)
    asking: bool = True
    events: int = 0

    def look(self) -> None:
        """Say so if nothing is left to wait for."""
        if not self.asking and all(self.runs.values()):
            self.done.set()


class Viewer:
    """One client that watches a session to its end."""

    def __init__(self, name: str, process: Process, web: Web, known: Known, history: History) -> None:
        self.name = name
        self._process = process
        self._web = web
        self.known = known
        self._history = history
        self._last = ""
        self.seen = 0
        self.connection: Connection | None = None
        self.slowness = 0.0
        self.restlessness = 0.0
        """How likely it is, at each arrival, that it leaves and comes back."""

    async def watch(self) -> None:
        """Watch for ever, or until the log says no more."""
        chance = self._web.chance
        while True:
            gateways = list(self._web.servers)
            if gateways:
                try:
                    if await self._listen(gateways[int(chance.random() * len(gateways))]):
                        return
                except (Broken, TimeoutError):
                    pass
                finally:
                    if self.connection is not None:
                        self.connection.hang_up()
                        self.connection = None
            await asyncio.sleep(RETRY_SECONDS * (0.5 + chance.random()))

    async def _listen(self, gateway: str) -> bool:
        session, last = self.known.session, self._last
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        request = Request("GET", f"/v1/sessions/{session}/events", headers=headers)
        self._history.note(self.name, "opened", session=session, after=last)
        self.connection = connection = self._web.connect(self._process, gateway, request)
        async with asyncio.timeout(SILENCE_SECONDS):
            status = await connection.head()
        if status == 204:
            self._history.note(self.name, "ended", session=session)
            return True
        if status >= 500 or status == 429:
            return False
        if status != 200:
            self._history.note(self.name, "refused", session=session, after=last, status=status)
            raise Broken(str(status))
        rest = b""
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                data = await connection.read()
            if data is None:
                return False
            if self.slowness:
                await asyncio.sleep(self.slowness)
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                if self._take(block):
                    return True
            if self.restlessness and self._web.chance.random() < self.restlessness:
                return False

    def _take(self, block: bytes) -> bool:
        """Take one block of the stream; tell whether it was the last of all."""
        fields: dict[str, str] = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name:
                fields[name.decode()] = value.removeprefix(b" ").decode()
        kind = fields.get("event", "")
        if "data" not in fields or kind in ("ready", "draining"):
            return False
        if kind == "end":
            self._history.note(self.name, "ended", session=self.known.session)
            return True
        event = orjson.loads(fields["data"])
        self._last = fields["id"]
        self.seen += 1
        self._history.note(self.name, "seen", session=self.known.session, id=fields["id"], event=event)
        if kind in ENDS and event["run_id"] in self.known.runs:
            self.known.runs[event["run_id"]] = True
            self.known.look()
        elif kind in ENDS:
            self.known.runs[event["run_id"]] = True
        return False


class User:
    """Asks for one session, says some more in it, perhaps takes a run back."""

    def __init__(self, name: str, process: Process, web: Web, known: Known, history: History) -> None:
        self.name = name
        self._process = process
        self._web = web
        self._known = known
        self._history = history
        self._keys = 0
        self.counts: Counter[str] = Counter()

    async def talk(self, messages: int, *, cancels: float, closes: float, pause: float) -> None:
        """Say so many messages."""
        chance, known = self._web.chance, self._known
        plan = plan_of(chance)
        answer = await self._surely("message", "/v1/sessions", {"input": plan}, content=plan)
        known.session = answer["id"]
        known.begun.set()
        self._promised(answer["run_id"])
        for _ in range(messages - 1):
            await asyncio.sleep(chance.random() * pause)
            plan, mode = plan_of(chance), chance.choice(("queue", "queue", "interrupt", "reject"))
            path = f"/v1/sessions/{known.session}/messages"
            answer = await self._surely("message", path, {"content": plan, "mode": mode}, content=plan)
            if "run_id" in answer:
                self._promised(answer["run_id"])
        if chance.random() < cancels:
            await asyncio.sleep(chance.random() * pause)
            run = list(known.runs)[-1]
            path = f"/v1/sessions/{known.session}/cancel"
            await self._surely("cancel", path, {"run_id": run}, run=run)
        if chance.random() < closes:
            await asyncio.sleep(chance.random() * pause)
            await self._surely("", f"/v1/sessions/{known.session}/close", {})
        known.asking = False
        known.look()

    def _promised(self, run: str) -> None:
        self._known.runs.setdefault(run, False)

    def _note(self, op: str, phase: str, **fields: Any) -> None:
        if op:
            self._history.note(self.name, op, phase=phase, **fields)

    async def _surely(self, op: str, path: str, body: dict[str, Any], **noted: Any) -> dict[str, Any]:
        """Ask with one key until somebody answers."""
        self._keys += 1
        key, chance = f"{self.name}-{self._keys}", self._web.chance
        noted = {"key": key, "session": self._known.session or None, **noted}
        self._note(op, "invoke", **noted)
        request = Request("POST", path, headers={"idempotency-key": key}, body=orjson.dumps(body))
        definite = True
        for _ in range(TRIES_MAX):
            gateways = list(self._web.servers)
            if gateways:
                status, answer = await self._try(gateways[int(chance.random() * len(gateways))], request)
                if 200 <= status < 300:
                    found = {"session": answer.get("id") or self._known.session, "run": answer.get("run_id")}
                    found = noted | {name: value for name, value in found.items() if value}
                    self._note(op, "ok", **found)
                    if chance.random() < 0.1:
                        continue  # as if it had not been heard: the same key once more
                    return answer
                if status and status < 500 and status != 429:
                    # A refusal is of this try alone: one before it, whose answer was lost, may have been taken.
                    self._note(op, "fail" if definite else "info", status=status, **noted)
                    return answer
                definite = definite and status == 429
            await asyncio.sleep(RETRY_SECONDS * (0.5 + chance.random()))
        self._note(op, "info", **noted)
        return {}

    async def _try(self, gateway: str, request: Request) -> tuple[int, dict[str, Any]]:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = self._web.connect(self._process, gateway, request)
                body = await connection.body()
            return connection.status, json_of(body)
        except (Broken, TimeoutError):
            return 0, {}
        finally:
            if connection is not None:
                connection.hang_up()
