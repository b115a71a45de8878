"""One simulation: from a seed to what was found wrong, what was done, and the history of it."""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson
from playhead.events import (
    ModelCallAbandoned,
    ModelCallFailed,
    OwnerChanged,
    RunCancelled,
    RunCompleted,
    RunFailed,
    ToolResult,
    ToolResultLate,
    ToolRetry,
    wire_name,
)

from tests.history.check import check
from tests.history.lines import Line
from tests.simulation.loop import Livelock
from tests.simulation.nemesis import KINDS, Nemesis
from tests.simulation.web import Broken, Request, json_of
from tests.simulation.world import Size, World, codec, patched

__all__ = ["Outcome", "Plan", "simulate"]

CALM_SECONDS = 300.0
"""How long everything may take to come to its end once nothing goes wrong any more."""
QUIET_SECONDS = 12.0
"""How long nothing may have been said for a run to be over: a late result may come until then."""
NOTABLE = (
    OwnerChanged,
    ModelCallAbandoned,
    ModelCallFailed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    ToolRetry,
    ToolResultLate,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A seed, and what of it is left out: kinds of faults, and single acts of the nemesis by number."""

    seed: int
    without: frozenset[str] = frozenset()
    skipped: frozenset[int] = frozenset()
    calm: bool = False
    """Whether nothing at all goes wrong, but for what is prepared."""


@dataclass(slots=True)
class Outcome:
    """What came of a plan. `digest` names the whole run: the same plan has the same.

    `reached` counts what happened in the logs that only happens when something goes wrong.
    """

    seed: int
    kinds: list[str]
    acts: list[int]
    violations: list[tuple[str, str]]
    faults: Counter[str]
    reached: Counter[str]
    checked: Counter[str]
    recovery_seconds: list[float]
    events: int
    runs: int
    steps: int
    virtual_seconds: float
    digest: str
    lines: list[Line] = field(default_factory=list[Line], repr=False)


def simulate(plan: Plan, ablation: AbstractContextManager[None] | None = None) -> Outcome:
    """Carry out a plan, perhaps without a safeguard: what comes of it is checked with all."""
    chance = random.Random(f"{plan.seed}/plan")
    world = _world(plan.seed, chance)
    nemesis = Nemesis(world, _kinds(chance) - plan.without if not plan.calm else frozenset(), plan.skipped)
    violations: list[tuple[str, str]] = []
    with patched(world), ablation or nullcontext():
        try:
            world.loop.run(_story(world, nemesis, chance))
        except Livelock as stuck:
            violations.append(("LV1", str(stuck)))
    lines = world.history.lines
    report = check(lines)
    violations += report.violations
    if world.counts.pop("unapproved", 0):
        violations.append(("T4", "a call that needs a person's approval was run without"))
    violations += [("bug", fault) for fault in world.loop.faults]
    stored = world.log.sessions.values()
    return Outcome(
        seed=plan.seed,
        kinds=sorted(nemesis.kinds),
        acts=nemesis.done,
        violations=violations,
        faults=world.counts + world.network.counts,
        reached=_reached(world),
        checked=report.checked,
        recovery_seconds=report.recovery_seconds,
        events=sum(len(log.accepted) for log in stored),
        runs=sum(len(known.runs) for known in world.known),
        steps=world.loop.steps,
        virtual_seconds=world.loop.time() - world.loop.began,
        digest=sha256(orjson.dumps(lines)).hexdigest()[:16],
        lines=lines,
    )


def _world(seed: int, chance: random.Random) -> World:
    size = Size(
        orchestrators=chance.choice((1, 2, 2)),
        workers=chance.choice((("alpha", "beta"), ("alpha", "alpha", "beta"), ("alpha", "beta", "beta"))),
        gateways=chance.choice((1, 2, 2)),
        sessions=chance.choice((1, 1, 2, 3)),
        viewers=chance.choice((1, 3, 5, 8)),
        messages=chance.choice((1, 2, 3)),
        partitions=chance.choice((1, 2, 4)),
        concurrency=chance.choice((1, 4)),
    )
    return World(seed, size, burst=chance.choice((1.0, 3.0, 20.0)), hop_seconds=chance.choice((0.0005, 0.003, 0.02)))


def _kinds(chance: random.Random) -> frozenset[str]:
    """Draw some kinds of fault; once in a while all of them."""
    drawn = frozenset(kind for kind in KINDS if chance.random() < 0.4)
    return frozenset(KINDS) if chance.random() < 0.05 else drawn


def _reached(world: World) -> Counter[str]:
    reached: Counter[str] = Counter()
    for log in world.log.sessions.values():
        reached["void_record"] += len(log.physical) - len(log.accepted)
        for record in log.accepted:
            event = codec().event(record.value).event
            if isinstance(event, NOTABLE):
                reached[wire_name(type(event))] += 1
            elif isinstance(event, ToolResult):
                reached[f"tool_{event.status}"] += 1
    return reached


async def _story(world: World, nemesis: Nemesis, chance: random.Random) -> None:
    for node in world.nodes:
        node.start()
    cancels, closes = chance.choice((0.0, 0.5)), chance.choice((0.0, 0.3))
    world.begin_users(pause=chance.choice((0.2, 3.0)), cancels=cancels, closes=closes)
    nemesis.prepare()
    await nemesis.stir(chance.choice((3.0, 6.0, 15.0)))
    try:
        async with asyncio.timeout(CALM_SECONDS):
            for known in world.known:
                await known.done.wait()
            await _settle(world)
    except TimeoutError:
        pass  # the checker says what has not come to its end
    await _read_all(world)
    world.is_over = True


async def _settle(world: World) -> None:
    """Wait until nothing more is said, and all who watch have seen all."""
    quiet, stored = 0.0, -1
    while quiet < QUIET_SECONDS:
        await asyncio.sleep(1.0)
        now = sum(len(log.physical) for log in world.log.sessions.values())
        is_seen = all(viewer.seen == len(world.log.sessions[viewer.known.session].accepted) for viewer in world.viewers)
        quiet = quiet + 1.0 if is_seen and now == stored else 0.0
        stored = now


async def _read_all(world: World) -> None:
    """Read every session once more, from its start."""
    for known in world.known:
        if not known.session:
            continue
        stored = world.log.sessions[known.session].accepted
        cursors = [str(record.cursor) for record in stored]
        events: list[tuple[str, Any]] = []
        after, more = "0", True
        while more:
            page = await _get(world, f"/v1/sessions/{known.session}/events", f"after={after}&limit=500")
            events += [(cursors[event["seq"] - 1], event) for event in page["events"]]
            more = bool(page["events"]) and page["events"][-1]["seq"] < page["last_seq"]
            after = page["next_after"]
        state = await _get(world, f"/v1/sessions/{known.session}", "")
        records = [b64encode(record.value).decode() for record in stored]
        world.history.note("reader", "log", session=known.session, events=events, state=state, records=records)


async def _get(world: World, path: str, query: str) -> dict[str, Any]:
    for _ in range(100):
        for name in list(world.web.servers):
            try:
                async with asyncio.timeout(10):
                    connection = world.web.connect(world.loop.outside, name, Request("GET", path, query))
                    body = await connection.body()
                if connection.status == 200:
                    return json_of(body)
            except (Broken, TimeoutError):
                pass
        await asyncio.sleep(0.5)
    raise Livelock(f"nobody answers GET {path}")
