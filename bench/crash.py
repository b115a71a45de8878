"""The part about kill -9: processes are killed in the middle of runs, and clients say what they noticed.

Embedded: `playhead dev` is killed and started again at once, on the same folder and port. Kafka: of two orchestrators
the one that owns the runs is killed; the other has to notice, after the deployment's session timeout.

A client reconnects with its last id until the run ends, as browsers do, but without their pause. Over all of its
connections each seq must have come exactly once, each attempt that was lost must be marked as abandoned, and the deltas
of the attempt that ended must be whole.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
import uvloop

from bench.scenarios import AGENTS, parse
from bench.stage import Broker, Stage, in_turn, say
from bench.systems import Deployment, Process, System, start_deployment

__all__ = ["Follower", "measure"]

AGENT = "crash"
RUNS = 5
"""How many are killed at once."""
RUN_SECONDS_MAX = 60.0
CONNECT_AGAIN_SECONDS = 0.005
ENDS = {"run_completed", "run_failed", "run_cancelled"}
STAMP = re.compile(r"@([0-9]{19})")
OWNER = re.compile(r"-([0-9]+)-[0-9a-f]+$")
"""An owner's name holds its process."""
HOST = "127.0.0.1"


@dataclass(slots=True)
class Follower:
    """One client and all that it was told, over as many connections as it needed."""

    port: int
    session: str = ""
    last: str = ""
    """The id of the last event it had."""
    seqs: list[int] = field(default_factory=list[int])
    reads: list[int] = field(default_factory=list[int])
    """When each event was read, in nanoseconds of the monotonic clock."""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    halfway: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Make a run and follow it to its end, whatever happens to the connection."""
        body = orjson.dumps({"agent": AGENT, "input": f"Please do bench-run-{secrets.token_hex(8)}."})
        head = f"POST /v1/stream HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        await self._connected(head.encode(), body)
        while not self._ended:
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            last = f"last-event-id: {self.last}\r\n" if self.last else ""
            await self._connected(f"GET /v1/sessions/{self.session}/events HTTP/1.1\r\n{last}".encode(), b"")

    @property
    def _ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in ENDS

    async def _connected(self, head: bytes, body: bytes) -> None:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port, limit=2**24)
        except OSError:
            return
        try:
            writer.write(head + b"host: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n" + body)
            status = await reader.readuntil(b"\r\n\r\n")
            while b" 200 " in status.partition(b"\r\n")[0] and not self._ended:
                self.take(await reader.readuntil(b"\n\n"))
        except (OSError, asyncio.IncompleteReadError):
            pass  # it was killed: whoever calls connects again
        finally:
            writer.close()

    def take(self, frame: bytes) -> None:
        """Note one frame, as it came: a chunk's head before it does not matter."""
        now = time.monotonic_ns()
        lines = frame.split(b"\n")
        ids = [line[4:].decode() for line in lines if line.startswith(b"id: ")]
        data = [line[6:] for line in lines if line.startswith(b"data: ")]
        if not data:
            return
        event: dict[str, Any] = orjson.loads(b"\n".join(data))
        if not ids:
            self.session = event.get("session") or self.session
            return
        self.last = ids[-1]
        self.seqs.append(event["seq"])
        self.reads.append(now)
        self.events.append(event)
        if len(self.events) > parse(AGENTS[AGENT]).deltas // 2:
            self.halfway.set()

    def owner(self) -> int:
        """Give the process that owns the session, as far as was told."""
        names = [event["owner"] for event in self.events if event["type"] == "owner_changed"]
        found = OWNER.search(names[-1])
        assert found is not None, f"an owner of another form: {names[-1]}"
        return int(found[1])

    def next_after(self, moment: int) -> int:
        """Give when the first event after a moment was read, or that moment if there was none."""
        return next((read for read in self.reads if read > moment), moment)

    def problem(self) -> str:
        """Say what is wrong with what it was told, or nothing."""
        if not self._ended or self.events[-1]["type"] != "run_completed":
            return "the run did not complete"
        if self.seqs != list(range(1, len(self.seqs) + 1)):
            return "an event is missing, came twice or out of order"
        attempts = {event["attempt"] for event in self.events if event["type"] == "model_call_started"}
        abandoned = {event["attempt"] for event in self.events if event["type"] == "model_call_abandoned"}
        if len(attempts) < 2:
            return "nothing was lost: it was killed too late"
        if abandoned != attempts - {max(attempts)}:
            return "a lost attempt is not marked"
        said = [event["text"] for event in self.events if event["type"] == "text_delta"]
        kept = [
            event["text"]
            for event in self.events
            if event["type"] == "text_delta" and event["attempt"] == max(attempts)
        ]
        stamps = [int(found) for text in said for found in STAMP.findall(text)]
        if any(later <= earlier for earlier, later in pairwise(stamps)):
            return "a delta came twice or out of order"
        count, expected = len(STAMP.findall("".join(kept))), parse(AGENTS[AGENT]).deltas
        return "" if count == expected else f"{count} of {expected} deltas arrived"


@dataclass(frozen=True, slots=True)
class Crash:
    """One kill: when it was, when what replaced the dead was ready, in nanoseconds, and the clients."""

    killed: int
    restarted: int
    ready: int
    followers: Sequence[Follower]


def measure(stage: Stage, names: Sequence[str]) -> None:
    """Kill, round after round."""
    with stage.broker() as broker:
        for number in range(stage.plan.rounds):
            for name in in_turn(number, names):
                say(f"crash: round {number + 1} of {stage.plan.rounds}, {name}")
                _note(stage, name, _crash(stage, name, broker))


def _note(stage: Stage, name: str, crash: Crash) -> None:
    problems = [problem for follower in crash.followers if (problem := follower.problem())]
    stage.problem(name, "crash", *problems)
    result = stage.result
    result.add(name, "crash_whole", 100 * (1 - len(problems) / len(crash.followers)))
    nexts = [follower.next_after(crash.killed) for follower in crash.followers]
    if crash.killed in nexts:
        return  # somebody heard nothing more, which is among the problems
    # The worst of the clients: a median would hide the one that waits.
    result.add(name, "crash_gap", (max(nexts) - crash.killed) / 1e9)
    if name == "embedded":
        result.add(name, "crash_ready", (crash.ready - crash.restarted) / 1e9)
        result.add(name, "crash_next", max(0.0, (max(nexts) - crash.ready) / 1e9))


def _crash(stage: Stage, name: str, broker: Broker | None) -> Crash:
    deployment = stage.deployment(name, broker)
    with ExitStack() as stack:
        system = start_deployment(stack, deployment)
        processes = list(system.processes)
        if name != "embedded":
            standby = deployment.roles()[0]
            processes.append(deployment.start(stack, standby))
            processes[-1].wait_until(standby.ready)
        stage.client(system, "crowd", stage.plan.warm_up_sessions)
        return uvloop.run(_killed(stack, deployment, system, processes))


async def _killed(stack: ExitStack, deployment: Deployment, system: System, processes: Sequence[Process]) -> Crash:
    """Make runs, kill what serves them when all are half over, and wait until the clients have seen the end."""
    followers = [Follower(system.port) for _ in range(RUNS)]
    restarted = ready = 0
    async with asyncio.timeout(RUN_SECONDS_MAX), asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(follower.follow())
        for follower in followers:
            await follower.halfway.wait()
        victim = processes[0] if deployment.name == "embedded" else _busiest(processes, followers)
        struck = followers if deployment.name == "embedded" else _owned(victim, followers)
        victim.popen.send_signal(signal.SIGKILL)
        killed = time.monotonic_ns()
        victim.popen.wait()
        if deployment.name == "embedded":
            restarted = time.monotonic_ns()
            role = deployment.roles()[0]
            process = deployment.start(stack, role)
            await asyncio.to_thread(process.wait_until, role.ready)
            ready = time.monotonic_ns()
    return Crash(killed, restarted, ready, struck)


def _busiest(processes: Sequence[Process], followers: Sequence[Follower]) -> Process:
    """Give the process that owns most of the runs: the two orchestrators share them by chance."""
    return max(processes, key=lambda process: len(_owned(process, followers)))


def _owned(process: Process, followers: Sequence[Follower]) -> Sequence[Follower]:
    return [follower for follower in followers if follower.owner() == process.popen.pid]
