"""The load client: one process, the same code for every system, and cheap enough not to be what it measures.

It posts to `/v1/stream`, reads the clock before it looks at what came, and counts a run only if each delta the model
wrote arrived exactly once and in order. What the model and the tools took is asked of the provider and subtracted, so
that what is left is what the system under test added.

It refuses to know which system it talks to.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import httptools
import orjson
import uvloop

from bench.scenarios import AGENTS, SAMPLES, Script, parse

__all__ = ["Report", "Run", "Stream", "ask_provider", "doubt", "main", "one_run"]

RUN_SECONDS_MAX = 120.0
STAMP = re.compile(r"@([0-9]{19})")
NOT_EVENTS = {"ready", None}
"""Frames that say something about the connection and nothing about the run: they are not its first event. A gateway's
own have no type in their JSON, only the name of the frame."""
ENDS = {"run_completed", "run_failed", "run_cancelled"}


@dataclass(slots=True)
class Run:
    """What one client saw of one run, in nanoseconds of the monotonic clock."""

    token: str
    session: str = ""
    """As the connection said, where the system has sessions."""
    posted: int = 0
    first_event: int = 0
    first_delta: int = 0
    ended: int = 0
    last_stamp: int = 0
    delays: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Of each delta: when the model wrote it, and how long it took."""
    problem: str = ""


@dataclass(slots=True)
class Report:
    """What one call of the client measured, in milliseconds. Only whole runs are in it; the rest are `problems`."""

    runs: int
    wall_seconds: list[float]
    """Of each batch: from the first request until the last run ended."""
    delta_ms: list[float]
    """From the model's write of a delta to the client's read of it, one figure a delta."""
    first_event_ms: list[float]
    """From the POST to the first event of the stream."""
    first_delta_ms: list[float]
    """From the POST to the first delta, without the time that the model took for it."""
    overhead_ms: list[float]
    """From the POST to the end of the run, without the model's time and the tools' time."""
    live_ms: list[float]
    """As `delta_ms`, of the deltas that were written while all runs were live: each had begun, none had ended."""
    live_since: int
    """From when on that was, in nanoseconds of the monotonic clock."""
    live_seconds: float
    """How long that was."""
    late_ms: float
    """The latest that the model was with any delta: the harness's own fault, not the system's."""
    cpu_seconds: float
    """What this client used."""
    problems: list[str]


class Stream(asyncio.Protocol):
    """One POST and the stream that answers it. A system with a wire of its own has a subclass for it."""

    def __init__(self, run: Run, request: bytes) -> None:
        self._run = run
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._rest = b""
        self._now = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def request(cls, port: int, agent: str, message: str) -> bytes:
        """Write what asks for a run."""
        return post(port, "/v1/stream", {"agent": agent, "input": message})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of `asyncio.Transport` without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._run.posted = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not 200 <= status < 300:
            self._finish(f"the answer was {status}")

    def on_body(self, body: bytes) -> None:
        *frames, self._rest = (self._rest + body).split(b"\n\n")
        for frame in frames:
            self._frame(frame)

    def on_message_complete(self) -> None:
        self._finish("the stream ended before the run did")

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish("the connection was lost before the run ended")

    def _frame(self, frame: bytes) -> None:
        data = b"\n".join(line[5:] for line in frame.split(b"\n") if line.startswith(b"data:"))
        if not data or self.done.done():
            return  # a comment, a bare `retry`, or what follows the end
        event: dict[str, Any] = orjson.loads(data)
        kind = event.get("type")
        run = self._run
        if kind in NOT_EVENTS:
            run.session = str(event.get("session", ""))
            return
        run.first_event = run.first_event or self._now
        if kind == "text_delta":
            self._delta(event["text"])
        elif kind in ENDS:
            run.ended = self._now
            self._finish("" if kind == "run_completed" else f"{kind}: {event.get('error') or event.get('reason')}")

    def _delta(self, text: str) -> None:
        run = self._run
        run.first_delta = run.first_delta or self._now
        for found in STAMP.finditer(text):
            stamp = int(found[1])
            if stamp <= run.last_stamp:
                run.problem = "a delta came twice or out of order"
            run.last_stamp = stamp
            run.delays.append((stamp, self._now - stamp))

    def _finish(self, problem: str) -> None:
        if not self.done.done():
            self._run.problem = self._run.problem or problem
            self.done.set_result(None)
            self._transport.close()


def post(port: int, path: str, asked: dict[str, Any]) -> bytes:
    """Write a request whose answer is a stream."""
    body = orjson.dumps(asked)
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: text/event-stream\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), port, len(body), body)
    )


async def one_run(port: int, agent: str, wire: type[Stream]) -> Run:
    """Make one run on a connection of its own, as a new viewer would."""
    run = Run(f"bench-run-{secrets.token_hex(8)}")
    request = wire.request(port, agent, f"Please do {run.token}.")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RUN_SECONDS_MAX):
            _, stream = await loop.create_connection(lambda: wire(run, request), "127.0.0.1", port)
            await stream.done
    except TimeoutError:
        run.problem = f"not over after {RUN_SECONDS_MAX:.0f} s"
    except OSError as error:
        run.problem = str(error)
    expected = parse((AGENTS | SAMPLES)[agent]).deltas_of_run
    if not run.problem and len(run.delays) != expected:
        run.problem = f"{len(run.delays)} of {expected} deltas arrived"
    return run


async def batch(port: int, agent: str, sessions: int, ramp: float, wire: type[Stream]) -> tuple[list[Run], float]:
    """Make runs at once, or begun evenly over some seconds; give them and the seconds until the last one ended."""
    began = time.monotonic_ns()

    async def later(seconds: float) -> Run:
        await asyncio.sleep(seconds)
        return await one_run(port, agent, wire)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(later(ramp * number / sessions)) for number in range(sessions)]
    return [task.result() for task in tasks], (time.monotonic_ns() - began) / 1e9


async def ask_provider(port: int) -> dict[str, Any]:
    """Take what the provider remembers of the runs since it was last asked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /runs HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: ([0-9]+)", head)
    assert length is not None
    answer = orjson.loads(await reader.readexactly(int(length[1])))
    writer.close()
    return answer


def doubt(run: Run, known: dict[str, Any] | None, script: Script) -> str:
    """Say what is wrong with a run, or nothing: what is measured is only what was asked for."""
    if run.problem or known is None:
        return run.problem or "the model was never asked"
    for what, expected in (("steps", script.steps), ("tools", script.tools)):
        if len(known[what]) != expected:
            return f"the model saw {len(known[what])} {what} instead of {expected}"
    return ""


def live_window(runs: list[Run]) -> tuple[int, int]:
    """Give when the model wrote the first delta of the last run to begin, and the last of the first to end."""
    stamps = [[stamp for stamp, _ in run.delays] for run in runs if run.delays]
    return max((each[0] for each in stamps), default=0), min((each[-1] for each in stamps), default=0)


def summarise(agent: str, runs: list[Run], walls: list[float], provided: dict[str, Any]) -> Report:
    """Take the model's and the tools' own time out of what was measured."""
    began, ended = live_window(runs)
    report = Report(0, walls, [], [], [], [], [], began, max(0.0, (ended - began) / 1e9), 0.0, 0.0, [])
    for run in runs:
        known = provided.get(run.token)
        problem = doubt(run, known, parse((AGENTS | SAMPLES)[agent]))
        if problem or known is None:
            report.problems.append(problem)
            continue
        steps: list[dict[str, int]] = known["steps"]
        tools: list[list[int]] = known["tools"]
        model_ns = sum(step["ended"] - step["received"] for step in steps)
        # The tools run side by side, so they are worth the longest; a system that runs them in turn pays for that.
        tools_ns = max((ended - began for began, ended in tools), default=0)
        report.runs += 1
        report.delta_ms += [delay / 1e6 for _, delay in run.delays]
        report.live_ms += [delay / 1e6 for stamp, delay in run.delays if began <= stamp <= ended]
        report.first_event_ms.append((run.first_event - run.posted) / 1e6)
        thinking_ns = steps[0]["first"] - steps[0]["received"]
        report.first_delta_ms.append((run.first_delta - run.posted - thinking_ns) / 1e6)
        report.overhead_ms.append((run.ended - run.posted - model_ns - tools_ns) / 1e6)
        report.late_ms = max(report.late_ms, *(step["late"] / 1e6 for step in steps))
    return report


async def measure(arguments: argparse.Namespace, wire: type[Stream]) -> Report:
    """Make the batches that were asked for, one after another."""
    await ask_provider(arguments.provider)
    runs: list[Run] = []
    walls: list[float] = []
    cpu = time.process_time()
    for _ in range(arguments.repeat):
        done, wall = await batch(arguments.port, arguments.agent, arguments.sessions, arguments.ramp, wire)
        runs += done
        walls.append(wall)
    cpu_seconds = time.process_time() - cpu
    report = summarise(arguments.agent, runs, walls, await ask_provider(arguments.provider))
    return replace(report, cpu_seconds=cpu_seconds)


def main(wire: type[Stream] = Stream) -> None:
    parser = argparse.ArgumentParser(description="Make runs and print, as JSON, what they took.")
    parser.add_argument("--port", type=int, required=True, help="of the system under test")
    parser.add_argument("--provider", type=int, required=True, help="port of the fake model server")
    parser.add_argument("--agent", choices=sorted(AGENTS | SAMPLES), required=True)
    parser.add_argument("--sessions", type=int, default=1, help="runs at once")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds over which they begin")
    parser.add_argument("--repeat", type=int, default=1, help="batches, one after another")
    report = uvloop.run(measure(parser.parse_args(), wire))
    # Not by `print`: where output is unbuffered (PYTHONUNBUFFERED), what a pipe does not take at once is lost.
    os.set_blocking(sys.stdout.fileno(), True)
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(orjson.dumps(asdict(report)) + b"\n")


if __name__ == "__main__":
    main()
