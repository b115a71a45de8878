"""What somebody sees whose system is killed: kill -9 in the middle of a run, a new start at once, and a viewer that
comes back with the last id it had, until the run ends or for `PATIENCE_SECONDS`.

The server that makes the run is killed; a database beside it stays. Each delta has its place in an answer of the model,
and on the screen: `missing` are the places never filled, `twice` those filled more than once. The text of an attempt
that the stream says is lost is taken off the screen.
"""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson
import psutil

from bench.client import NOT_EVENTS
from bench.compare.langgraph_client import body, said
from bench.compare.peers import PeerDeployment
from bench.scenarios import AGENTS, parse
from bench.systems import Deployment, start_deployment

__all__ = ["Outcome", "Viewer", "strike"]

AGENT = "crash"
PATIENCE_SECONDS = 15.0
"""How long after the new start the run may take: five times as long as the whole run would have."""
CONNECT_AGAIN_SECONDS = 0.01
STAMP = re.compile(r"@([0-9]{19})")
LOST = {"model_call_abandoned", "model_call_failed"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was left of one run."""

    ended: bool
    next_seconds: float | None
    """From the moment when the system serves again to the next event that the viewer gets."""
    missing: int
    twice: int


@dataclass(slots=True)
class Viewer:
    """What is on somebody's screen, over as many connections as it takes."""

    where: str = ""
    """Where to come back to, as the first answer said: empty if it did not."""
    last: str = ""
    ended: bool = False
    reads: list[int] = field(default_factory=list[int])
    """When each event was read, in nanoseconds of the monotonic clock."""
    shown: list[tuple[object, int]] = field(default_factory=list[tuple[object, int]])
    """Attempt and stamp of each delta on the screen."""

    def take(self, kind: str, ident: str, event: Any) -> None:
        """Show one event."""
        self.last = ident or self.last
        if kind in NOT_EVENTS:
            return
        self.reads.append(time.monotonic_ns())
        if kind == "messages":
            self._show("", said(event[0]))
        elif kind == "text_delta":
            self._show((event.get("step"), event.get("attempt")), event["text"])
        elif kind in LOST:
            lost = (event["step"], event["attempt"])
            self.shown = [each for each in self.shown if each[0] != lost]
        self.ended = self.ended or kind == "run_completed"

    def _show(self, attempt: object, text: str) -> None:
        self.shown += [(attempt, int(found)) for found in STAMP.findall(text)]

    def outcome(self, killed: int, ready: int, deltas: int) -> Outcome:
        """Say what is on the screen: each answer of the model begins at the first place."""
        stamps = [stamp for _, stamp in self.shown]
        filled: Counter[int] = Counter()
        for answer in ([each for each in stamps if each < killed], [each for each in stamps if each >= killed]):
            places = {stamp: place for place, stamp in enumerate(sorted(set(answer)))}
            filled.update(places[stamp] for stamp in answer)
        heard = next((read for read in self.reads if read > killed), None)
        next_seconds = None if heard is None else max(0.0, (heard - ready) / 1e9)
        return Outcome(self.ended, next_seconds, deltas - len(filled), sum(count > 1 for count in filled.values()))


def strike(stack: ExitStack, deployment: Deployment) -> Outcome:
    """Start a system, make a run, kill the system in the middle, start it again, and watch. Raises `NotStarted`."""
    if isinstance(deployment, PeerDeployment):
        deployment.start_store(stack)
    system = start_deployment(stack, deployment)
    deltas, viewer = parse(AGENTS[AGENT]).deltas, Viewer()
    url = f"http://127.0.0.1:{system.port}"
    with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
        _watch(viewer, http, lambda: len(viewer.shown) > deltas // 2, *_asked(deployment.name))
        killed = time.monotonic_ns()
        _kill(system.processes[-1].popen.pid)
        system.processes[-1].popen.wait()
        start_deployment(stack, deployment)
        ready = time.monotonic_ns()
        _come_back(viewer, http, ready + int(PATIENCE_SECONDS * 1e9))
    return viewer.outcome(killed, ready, deltas)


def _asked(name: str) -> tuple[str, dict[str, Any]]:
    message = f"Please do bench-run-{uuid.uuid4().hex[:16]}."
    if name == "langgraph":
        return f"/threads/{uuid.uuid4()}/runs/stream", body(AGENT, message)
    return "/v1/stream", {"agent": AGENT, "input": message}


def _come_back(viewer: Viewer, http: httpx2.Client, until: int) -> None:
    """Follow the run to its end, if it has one and there is somewhere to follow it."""
    while viewer.where and not viewer.ended and time.monotonic_ns() < until:
        # Silent, gone, or the run is not known: perhaps not yet.
        with suppress(httpx2.HTTPError):
            _watch(viewer, http, lambda: time.monotonic_ns() > until)
        time.sleep(CONNECT_AGAIN_SECONDS)


def _watch(viewer: Viewer, http: httpx2.Client, enough: Callable[[], bool], path: str = "", asked: Any = None) -> None:
    """Show what comes on one connection, until its end, the run's, or enough."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": viewer.last} if viewer.last else {})
    with http.stream("POST" if path else "GET", path or viewer.where, json=asked, headers=headers) as answer:
        answer.raise_for_status()
        viewer.where = viewer.where or answer.headers.get("content-location", "")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if line or "data" not in fields:
                continue
            event = orjson.loads(fields["data"])
            viewer.take(fields.get("event") or event["type"], fields.get("id", ""), event)
            fields.clear()
            if viewer.ended or enough():
                return
    # LangGraph has no event that ends a run: its state says it.
    if viewer.where.startswith("/threads/"):
        viewer.ended = http.get(viewer.where.removesuffix("/stream")).json()["status"] == "success"


def _kill(pid: int) -> None:
    """Kill a server and all that it has started."""
    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        os.kill(process.pid, signal.SIGKILL)
