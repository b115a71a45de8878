"""A steady load: sessions begin evenly in time, over all gateways in turn, and each is watched to its end.

An open loop: a session begins when it is due, whether or not those before it have ended, as users do. A program of its
own, so that what it costs is not counted as anybody else's. It prints one JSON line for each window of time, and holds
nothing of a session that has ended.

It judges runs as `client.py` does (a run counts only if it is whole), and refuses to know what serves them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import uvloop

from bench.client import Run, Stream, ask_provider, doubt, one_run
from bench.scenarios import AGENTS, parse
from bench.table import quantile

__all__ = ["AGENTS_OF_LOAD", "OPEN_MAX", "Plan", "Window", "main", "merged"]

AGENTS_OF_LOAD = ("crowd", "tools")
"""Every other session streams 40 deltas, the others ask for two tools at once: every role has something to do."""

OPEN_MAX = 2_000
"""How many sessions may be open at once. What is due beyond is left out, and that is a problem."""

CLOSE_EVERY = 2
"""Every second client closes its session when it has what it came for; the others just leave."""

CLOSE_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, of whom, how often, for how long."""

    ports: tuple[int, ...]
    provider: int
    rate: float
    """Sessions a second."""
    seconds: float
    """For how long sessions begin; after that those that are open are waited for."""
    window: float
    agents: tuple[str, ...] = AGENTS_OF_LOAD
    closes: bool = True


@dataclass(slots=True)
class Window:
    """What came of the sessions that ended in one stretch of time."""

    second: float = 0.0
    """Since the load began."""
    began: int = 0
    ended: int = 0
    """Whole runs."""
    closed: int = 0
    left_open: int = 0
    """How many sessions were going on when the window ended."""
    delta_ms: dict[str, float] = field(default_factory=dict[str, float])
    """From the model's write to the client's read, `p50` and `p99` of all deltas."""
    first_event_ms: dict[str, float] = field(default_factory=dict[str, float])
    late_ms: float = 0.0
    """The latest that the model was with a delta: the harness's own fault."""
    cpu_seconds: float = 0.0
    """What this client used."""
    problems: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Figures:
    """What a window is made from."""

    window: Window = field(default_factory=Window)
    delays: list[float] = field(default_factory=list[float])
    firsts: list[float] = field(default_factory=list[float])
    runs: list[tuple[Run, str]] = field(default_factory=list[tuple[Run, str]])
    """Runs that ended, with their agents: the model is asked about all of a window at once."""


class Load:
    """The sessions of one plan. Prints, by `say`, a window now and then, and the last when all have ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._open = 0
        self._figures = _Figures()
        self._provided: dict[str, dict[str, Any]] = {}
        self._cpu = time.process_time()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin no more sessions."""
        self._stop.set()

    async def run(self) -> None:
        """Make the load."""
        await ask_provider(self._plan.provider)
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as around:
            reporting = around.create_task(self._report())
            async with asyncio.TaskGroup() as sessions:
                await self._begin(sessions)
            reporting.cancel()
        await self._say()

    async def _begin(self, sessions: asyncio.TaskGroup) -> None:
        number = 0
        while (due := number / self._plan.rate) < self._plan.seconds and not self._stop.is_set():
            await asyncio.sleep(max(0.0, self._began + due - time.monotonic()))
            if self._open < OPEN_MAX:
                self._open += 1
                sessions.create_task(self._session(number))
            else:
                self._figures.window.problems.append(f"{OPEN_MAX} sessions are open: one more was left out")
            number += 1

    async def _session(self, number: int) -> None:
        plan = self._plan
        agents, ports = plan.agents, plan.ports
        # Each agent meets each gateway: their turns are of different lengths.
        agent, port = agents[number % len(agents)], ports[number // len(agents) % len(ports)]
        self._figures.window.began += 1
        try:
            run = await one_run(port, agent, Stream)
            self._figures.runs.append((run, agent))
            if plan.closes and run.session and number // len(agents) % CLOSE_EVERY == 0:
                await self._close(port, run.session)
        finally:
            self._open -= 1

    async def _close(self, port: int, session: str) -> None:
        head = f"POST /v1/sessions/{session}/close HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(f"{head}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}".encode())
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            status = str(error).encode()
        if b" 202 " in status:
            self._figures.window.closed += 1
        else:
            self._figures.window.problems.append(f"a session could not be closed: {status.decode().strip()}")

    async def _report(self) -> None:
        for number in range(1, 1_000_000):
            await asyncio.sleep(max(0.0, self._began + number * self._plan.window - time.monotonic()))
            await self._say()

    async def _say(self) -> None:
        figures, self._figures = self._figures, _Figures()
        window = figures.window
        merged(self._provided, await ask_provider(self._plan.provider))
        for run, agent in figures.runs:
            known = self._provided.pop(run.token, None)
            problem = doubt(run, known, parse(AGENTS[agent]))
            if problem or known is None:
                window.problems.append(f"{agent}: {problem}")
                continue
            window.ended += 1
            figures.delays += [delay / 1e6 for _, delay in run.delays]
            figures.firsts.append((run.first_event - run.posted) / 1e6)
            window.late_ms = max(window.late_ms, *(step["late"] / 1e6 for step in known["steps"]))
        window.second = round(time.monotonic() - self._began, 2)
        window.left_open = self._open
        window.delta_ms, window.first_event_ms = _spread(figures.delays), _spread(figures.firsts)
        cpu, self._cpu = self._cpu, time.process_time()
        window.cpu_seconds = round(self._cpu - cpu, 3)
        print(orjson.dumps(asdict(window)).decode(), flush=True)


def merged(known: dict[str, dict[str, Any]], more: dict[str, dict[str, Any]]) -> None:
    """Add what the model says of runs to what it said before: it forgets what it has said, and a run goes on."""
    for token, run in more.items():
        record = known.setdefault(token, {"steps": [], "tools": []})
        record["steps"] += run["steps"]
        record["tools"] += run["tools"]


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {name: round(quantile(values, share), 3) for name, share in (("p50", 0.5), ("p99", 0.99))}


async def _run(plan: Plan) -> None:
    load = Load(plan)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop)
    await load.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Begin sessions at a steady rate, and print what came of them.")
    parser.add_argument("--ports", required=True, help="of the gateways, with commas")
    parser.add_argument("--provider", type=int, required=True, help="port of the fake model server")
    parser.add_argument("--rate", type=float, required=True, help="sessions a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--window", type=float, default=1_000_000.0, help="seconds; without, one line at the end")
    parser.add_argument("--agents", default=",".join(AGENTS_OF_LOAD))
    parser.add_argument("--leave", action="store_true", help="close no session")
    given = parser.parse_args()
    ports = tuple(int(port) for port in given.ports.split(","))
    agents = tuple(given.agents.split(","))
    uvloop.run(_run(Plan(ports, given.provider, given.rate, given.seconds, given.window, agents, not given.leave)))


if __name__ == "__main__":
    main()
