"""Orchestrators come and go under sessions that stream: the longest pause between two deltas that a client sees.

Two orchestrators carry a steady load of stories of ten seconds. Then a third joins; then one of the old is told to
stop, which with the one before is a rolling deploy; then another is told to stop in the moment in which its successor
is started, which is how platforms deploy that do not start the new one first. Each client notes every event. Each seq
must come exactly once, each attempt that was lost must be marked as abandoned, and the deltas of the attempt that ended
must be whole.

The pause is held against a bound that is made of the settings that it follows from, and of what is no wait but work.
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
from playhead.adapters.kafka.member import HEARTBEAT_MS
from playhead.queue import Topics

from bench.client import Run, Stream
from bench.fleet import READY, Fleet, Shape
from bench.handover_app import MODEL
from bench.listing import fill
from bench.scenarios import parse
from bench.stage import Broker, say
from bench.systems import Deployment, Process
from bench.table import quantile

__all__ = ["BOUND_SECONDS", "Change", "Told", "bound_lines", "measure", "report"]

APP = "bench.handover_app"
RATE = 3.0
"""Stories a second: as each takes ten seconds, thirty are told at any moment."""
CALM_SECONDS = 11.0
"""Until the first stories end, so that as many are told as there will be."""
SETTLE_SECONDS = 3.0
"""What belongs to a change after its last process is ready or gone."""
STORY_SECONDS_MAX = 60.0
WORK_SECONDS = 1.0
"""What is no wait: the members join anew and are given their partitions; the new owner reads the directory and the logs
and takes over; the model is asked again and says its first word; and whatever else two cores are busy with."""
BOUND_SECONDS = HEARTBEAT_MS / 1000 + WORK_SECONDS

STAMP = re.compile(r"@([0-9]{19})")
ENDS = {"run_completed", "run_failed", "run_cancelled"}


@dataclass(slots=True)
class Told:
    """One story as its client heard it. Times are nanoseconds of the monotonic clock."""

    posted: int = 0
    ended: int = 0
    seqs: list[int] = field(default_factory=list[int])
    reads: list[int] = field(default_factory=list[int])
    """When each delta was read."""
    stamps: list[int] = field(default_factory=list[int])
    last_attempt: list[int] = field(default_factory=list[int])
    """The stamps of the attempt that was told last."""
    attempts: set[int] = field(default_factory=set[int])
    abandoned: dict[int, int] = field(default_factory=dict[int, int])
    """Attempts that were lost, and when that was said."""
    failure: str = ""

    def take(self, event: dict[str, Any], now: int) -> None:
        """Note one event."""
        self.seqs.append(event["seq"])
        match event["type"]:
            case "model_call_started":
                self.attempts.add(event["attempt"])
                self.last_attempt = []
            case "model_call_abandoned":
                self.abandoned[event["attempt"]] = now
            case "text_delta":
                found = [int(stamp) for stamp in STAMP.findall(event["text"])]
                self.reads += [now] * len(found)
                self.stamps += found
                self.last_attempt += found
            case _:
                pass

    def problem(self) -> str:
        """Say what is wrong with what was told, or nothing."""
        if self.failure:
            return self.failure
        if self.seqs != list(range(1, len(self.seqs) + 1)):
            return "an event is missing, came twice or out of order"
        if any(later <= earlier for earlier, later in pairwise(self.stamps)):
            return "a delta came twice or out of order"
        if set(self.abandoned) != self.attempts - {max(self.attempts, default=0)}:
            return "a lost attempt is not marked"
        count, expected = len(self.last_attempt), parse(MODEL).deltas_of_run
        return "" if count == expected else f"{count} of {expected} deltas arrived"

    def pause(self, began: int, ended: int) -> float | None:
        """Give the longest pause between two deltas, in seconds, of those that touch a stretch of time."""
        pauses = [(after - before) / 1e9 for before, after in pairwise(self.reads) if before < ended and after > began]
        return max(pauses, default=None)

    def wait(self, began: int, ended: int) -> float | None:
        """Give the seconds from the POST to the first delta, if it was made in a stretch of time."""
        if not (began <= self.posted < ended and self.reads):
            return None
        return (self.reads[0] - self.posted) / 1e9


class Story(Stream):
    """A client that notes all that it is told."""

    def __init__(self, told: Told, request: bytes) -> None:
        super().__init__(Run(""), request)
        self._told = told

    def _frame(self, frame: bytes) -> None:
        data = b"\n".join(line[5:] for line in frame.split(b"\n") if line.startswith(b"data:"))
        event: dict[str, Any] = orjson.loads(data) if data else {}
        if self.done.done() or "seq" not in event:
            return  # about the connection
        self._told.take(event, self._now)
        if event["type"] in ENDS:
            self._told.ended = self._now
            self._finish("" if event["type"] == "run_completed" else str(event["type"]))

    def _finish(self, problem: str) -> None:
        if not self.done.done():
            self._told.failure = problem
        super()._finish(problem)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the group, and what the stories that were told meanwhile noticed."""

    name: str
    stories: int
    taken_over: int
    """How many were gone on with by another orchestrator, and so heard the beginning once more, as a new attempt."""
    pauses: Sequence[float]
    """Of each story its longest pause, in seconds."""
    waits: Sequence[float]
    """From the POST to the first delta, of each that was asked for meanwhile."""

    @property
    def worst(self) -> float:
        """The longest that anybody was without a word."""
        return max((*self.pauses, *self.waits), default=0.0)


class Teller:
    """Has stories told at a steady rate, until it is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.told: list[Told] = []
        self.stop = asyncio.Event()

    async def tell(self) -> None:
        """Begin stories, and end when all have been told."""
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as stories:
            while not self.stop.is_set():
                await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
                stories.create_task(self._one())
                number += 1

    async def _one(self) -> None:
        told = Told(time.monotonic_ns())
        self.told.append(told)
        request = Story.request(self._port, "story", f"Please do bench-run-{secrets.token_hex(8)}.")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STORY_SECONDS_MAX):
                _, story = await loop.create_connection(lambda: Story(told, request), "127.0.0.1", self._port)
                await story.done
        except TimeoutError:
            told.failure = f"not over after {STORY_SECONDS_MAX:.0f} s"
        except OSError as error:
            told.failure = str(error)


def measure(deployment: Deployment, broker: Broker, listed: int = 0) -> tuple[list[Change], list[str]]:
    """Tell stories while orchestrators come and go; give what was noticed of each change, and what was not whole.

    `listed`: how many other sessions, all over, are in the directory.
    """
    with ExitStack() as stack:
        fleet = Fleet(stack, deployment, APP)
        fleet.start(Shape(orchestrators=2))
        if listed:
            say(f"hand-over: {listed} lines into the directory")
            uvloop.run(fill(broker.address, Topics(deployment.prefix), listed))
        told, moments = uvloop.run(_changed(fleet))
    problems = [f"hand-over: {problem}" for one in told if (problem := one.problem())]
    return [_change(name, told, began, ended) for name, began, ended in moments], problems


Moment = tuple[str, int, int]


async def _changed(fleet: Fleet) -> tuple[list[Told], list[Moment]]:
    teller = Teller(fleet.ports[0])
    moments: list[Moment] = []
    first, second = fleet.processes["orchestrator"]

    async def change(name: str, leaving: Process | None, *, joins: bool) -> None:
        say(f"hand-over: {name}")
        began = time.monotonic_ns()
        joining = fleet.begin("orchestrator") if joins else None
        if leaving is not None:
            leaving.popen.send_signal(signal.SIGTERM)
        if joining is not None:
            await asyncio.to_thread(joining.wait_until, READY)
        if leaving is not None:
            await asyncio.to_thread(leaving.popen.wait)
        await asyncio.sleep(SETTLE_SECONDS)
        moments.append((name, began, time.monotonic_ns()))

    async with asyncio.TaskGroup() as group:
        group.create_task(teller.tell())
        await asyncio.sleep(CALM_SECONDS)
        now = time.monotonic_ns()
        moments.append(("nothing changes", now - int((CALM_SECONDS - 2) * 1e9), now))
        await change("a third joins", None, joins=True)
        await change("one of three leaves", first, joins=False)
        await change("one of two is replaced at once", second, joins=True)
        teller.stop.set()
    return teller.told, moments


def _change(name: str, told: Sequence[Told], began: int, ended: int) -> Change:
    there = [one for one in told if one.posted < ended and one.ended > began]
    return Change(
        name,
        len(there),
        sum(any(began <= lost < ended for lost in one.abandoned.values()) for one in there),
        [pause for one in there if (pause := one.pause(began, ended)) is not None],
        [wait for one in there if (wait := one.wait(began, ended)) is not None],
    )


def bound_lines() -> list[str]:
    """Say what the bound is made of."""
    return [
        f"bound: HEARTBEAT_MS {HEARTBEAT_MS / 1000:.1f} s (how late a member may notice that the group changes)"
        f" + WORK_SECONDS {WORK_SECONDS:.1f} s (nobody waits, it is work) = {BOUND_SECONDS:.1f} s",
    ]


def report(changes: Sequence[Change]) -> list[str]:
    """Write a line for each change."""
    lines = [f"{'':32}stories  taken over | longest pause p50/p99/max s | POST to first delta p50/p99/max s"]
    for each in changes:
        lines.append(
            f"{each.name:32}{each.stories:7}  {each.taken_over:10} |   {_spread(each.pauses)} |   {_spread(each.waits)}"
            + ("" if each.worst <= BOUND_SECONDS else "   BEYOND THE BOUND")
        )
    return [*lines, *bound_lines()]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "     –      –      –   "
    return " ".join(f"{quantile(values, share):7.3f}" for share in (0.5, 0.99, 1.0))
