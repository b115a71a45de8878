"""`playhead dev` under kill -9, again and again at any moment, while users go on; the checker has the word.

`make kill-storm` is a thousand kills. PLAYHEAD_KILLS and PLAYHEAD_KILL_SEED choose another storm; what happens follows
from the seed as far as the machine lets it. With PLAYHEAD_KILL_SECONDS no life begins after so many seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tests.chaos.crowd import Crowd
from tests.chaos.processes import Process, Stage
from tests.chaos.recording import tool_lines
from tests.chaos.scenario import use
from tests.chaos.settling import coverage, read_embedded
from tests.history.check import Report, check, percentile
from tests.history.folding import ENDS
from tests.history.lines import History, Line, merged

KILLS = int(os.environ.get("PLAYHEAD_KILLS", "6"))
SEED = int(os.environ.get("PLAYHEAD_KILL_SEED", "1"))
SECONDS = float(os.environ.get("PLAYHEAD_KILL_SECONDS", "inf"))
DEPLOYMENTS = 3
"""They have nothing in common but the machine."""
AT_ONCE = 3
"""Sessions of one deployment that go on at the same time."""
EARLY_SHARE = 0.2
"""So many are killed while they start, at a moment of the time that starting took last."""
LIFE_SECONDS = (0.05, 1.5)
"""How long the others live once they serve."""
LOST_SECONDS = 7
CALM_EVERY, CALM_LIFE_SECONDS = 20, LOST_SECONDS + 3.0
"""Each so many lives one is longer than silence is put up with: an owner counts it in one life alone, and what a `once`
call came to that died with its worker is not known before."""
FIRST_START_SECONDS = 1.0
START_SECONDS = 60.0
CALM_SECONDS = 240.0
"""How long the sessions that are still going may take after the last kill, all together."""
HEAL_SECONDS = 60.0
"""How long one run may take after the last kill."""
PACE_SECONDS = 0.005
PORTS = range(20_000, 30_000)
"""None of those that a connection is given: one that is dialled while nobody listens there would keep it from us."""
KILL, EARLY = "kill", "kill while it starts"

TEXT = "ünï “quoted” \\ text "


def call(tool: str, number: int, seconds: float) -> dict[str, object]:
    return use(tool, number=number, seconds=seconds, text=TEXT)


TURNS: list[dict[str, object]] = [
    {"when": "story", "steps": [{"think": "A story."}, {"delta_characters": 8}, {"say": TEXT * 12}]},
    {
        "when": "mixed",
        "steps": [
            {"say": "All three at once."},
            *(call(tool, number, 0.15) for number, tool in enumerate(("reads", "writes", "pays"))),
            {"say": "And once more."},
            *(call(tool, number, 0.05) for number, tool in enumerate(("pays", "writes", "fails"), 3)),
            {"say": TEXT * 2},
        ],
    },
    {"when": "pay", "steps": [*(call("pays", number, 0.25) for number in range(3)), {"say": "Paid."}]},
    {"when": "slow", "steps": [call("writes", 0, 0.6), call("reads", 1, 0.4), {"say": "That took a while."}]},
]
TEXTS = ("A story", "Something mixed", "Something mixed", "Do pay", "Something slow")


@dataclass
class Deployment:
    """One `playhead dev` with a folder, users and a history of its own, and who kills it."""

    stage: Stage
    kills: int
    seed: int
    port: int
    history: History
    killed: Counter[str] = field(default_factory=Counter[str])
    deaths: list[str] = field(default_factory=list[str])
    """What those said last that ended and were not killed."""
    process: Process | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._start_seconds = FIRST_START_SECONDS
        self.url = f"http://127.0.0.1:{self.port}"
        self.crowd = Crowd(self.history, [self.url], TEXTS, random.Random(self.seed))

    async def endure(self) -> None:
        """Have users come while it is killed, and see what has begun to its end."""
        is_over = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                sitting = group.create_task(self.crowd.sit(is_over, AT_ONCE))
                await self._rage()
                process = await self._last()
                is_over.set()
                async with asyncio.timeout(CALM_SECONDS):
                    await sitting
            await read_embedded(self.history, self.url, self.stage.folder / "log.db", self.crowd.sessions)
            assert await process.stop() == 0, process.last_words()
        finally:
            if self.process is not None:
                await self.process.kill()
            self.history.close()

    def lines(self) -> list[Line]:
        """Give the history, with what the tools noted."""
        return merged(self.history.lines, tool_lines(self.stage.journal))

    async def _rage(self) -> None:
        until = time.monotonic() + SECONDS
        while self.killed.total() < self.kills and time.monotonic() < until:
            patience = self._chance.uniform(0, self._start_seconds)
            is_calm = self.killed.total() % CALM_EVERY == CALM_EVERY - 1
            is_early = self._chance.random() < EARLY_SHARE and not is_calm
            life = self._chance.uniform(*LIFE_SECONDS)
            process = await self._begin()
            if not await self._serves(process, patience if is_early else START_SECONDS):
                assert is_early or not process.is_running, f"not ready in {START_SECONDS} s: {process.last_words()}"
                await self._kill(process, EARLY)
                continue
            await asyncio.sleep(CALM_LIFE_SECONDS if is_calm else life)
            await self._kill(process, KILL)

    async def _last(self) -> Process:
        process = await self._begin()
        assert await self._serves(process, START_SECONDS), process.last_words()
        self.history.note("nemesis", "healed")
        return process

    async def _begin(self) -> Process:
        arguments = ("dev", self.stage.app, "--no-reload", "--port", str(self.port), "--data", str(self.stage.folder))
        self.process = await Process.begin("dev", arguments, self.stage.variables)
        return self.process

    async def _serves(self, process: Process, seconds: float) -> bool:
        """Tell whether it serves within this time. One that has ended does not: whoever kills it finds out."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                if not await process.serves():
                    return False
        except TimeoutError:
            return False
        self._start_seconds = time.monotonic() - began
        self.history.note("dev", "ready")
        return True

    async def _kill(self, process: Process, kind: str) -> None:
        if not process.is_running:
            self.deaths.append(process.last_words())
            return
        self.history.note("nemesis", "fault", kind=kind, target="dev")
        self.killed[kind] += 1
        await process.kill()
        if self.killed.total() % 50 == 0:
            print(f"{self.stage.folder.name}: {self.killed.total()} kills", flush=True)  # noqa: T201


@dataclass
class Waits:
    """How long it took, in one history."""

    to_ready: list[float] = field(default_factory=list[float])
    """From a kill until it serves again; from the last one, if it was killed again while it started."""
    to_go_on: list[float] = field(default_factory=list[float])
    """From then until somebody sees a new event of a session whose run the kill had interrupted."""
    too_short: int = 0
    """Lives that were killed before there was one."""


def waits(lines: Sequence[Line]) -> Waits:
    """Measure a history."""
    found = Waits()
    known: set[tuple[str, str]] = set()
    going: dict[str, str] = {}
    ended: set[str] = set()
    interrupted: set[str] = set()
    killed_at, ready_at = None, None
    for line in lines:
        match line["op"]:
            case "message" if line["phase"] == "ok" and line["run"] not in ended:
                going[line["run"]] = line["session"]
            case "fault":
                found.too_short += ready_at is not None
                killed_at, ready_at, interrupted = line["at"], None, set(going.values())
            case "ready" if killed_at is not None:
                found.to_ready.append(line["at"] - killed_at)
                killed_at, ready_at = None, line["at"] if interrupted else None
            case "seen" if (line["session"], line["id"]) not in known:
                known.add((line["session"], line["id"]))
                if line["event"]["type"] in ENDS:
                    ended.add(line["event"]["run_id"])
                    going.pop(line["event"]["run_id"], None)
                if ready_at is not None and line["session"] in interrupted:
                    found.to_go_on.append(line["at"] - ready_at)
                    ready_at = None
            case _:
                pass
    return found


def free_port() -> int:
    """Find a port that nobody listens on, and that no connection is given."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def deployment(folder: Path, number: int) -> Deployment:
    folder.mkdir()
    stage = Stage(folder, app="tests.chaos.tool_app", scenario=TURNS)
    stage.pace(PACE_SECONDS)
    stage.variables["PLAYHEAD_LOST_SECONDS"] = str(LOST_SECONDS)
    history = History(time.monotonic, folder / "history.jsonl")
    return Deployment(stage, len(range(number, KILLS, DEPLOYMENTS)), SEED + 1_000 * number, free_port(), history)


async def test_every_session_completes_while_the_one_process_is_killed_again_and_again(tmp_path: Path) -> None:
    deployments = [deployment(tmp_path / f"deployment-{number}", number) for number in range(DEPLOYMENTS)]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for one in deployments:
            group.create_task(one.endure())
    seconds = time.monotonic() - began
    histories = [one.lines() for one in deployments]
    reports = [check(lines, heal_seconds=HEAL_SECONDS) for lines in histories]
    print("\n".join(said(deployments, histories, reports, seconds)))  # noqa: T201
    for one, report in zip(deployments, reports, strict=True):
        assert not report.violations
        assert not one.crowd.surprises
        assert not one.crowd.late
        assert not one.deaths
        assert one.killed.total() == one.kills or seconds > SECONDS


def said(
    deployments: Sequence[Deployment], histories: Sequence[Sequence[Line]], reports: Sequence[Report], seconds: float
) -> Sequence[str]:
    """Say what the storm came to."""
    killed = sum((one.killed for one in deployments), Counter[str]())
    logs = [line for line in chain.from_iterable(histories) if line["op"] == "log"]
    events = [event for log in logs for _, event in log["events"]]
    types = Counter(event["type"] for event in events)
    results = Counter(event["status"] for event in events if event["type"] == "tool_result")
    measured = [waits(lines) for lines in histories]
    checked = sum((report.checked for report in reports), Counter[str]())
    met = {kind: sum((coverage(lines)[kind] for lines in histories), Counter[str]()) for kind in (KILL, EARLY)}
    answers = sum((one.crowd.answers for one in deployments), Counter[str]())
    violations = [text for report in reports for text in report.violations]
    return (
        f"seed {SEED}: {killed.total()} kills of {len(deployments)} deployments in {seconds:.0f} s, "
        f"{killed[EARLY]} of them before it was ready",
        f"{len(logs)} sessions, {types['run_started']} runs, {len(events)} events; results {dict(results)}; "
        f"{types['owner_changed']} owners, {types['model_call_abandoned']} attempts abandoned; "
        f"runs ended { ({kind: types[kind] for kind in sorted(ENDS) if types[kind]}) }",
        f"clients were told {dict(answers)}",
        f"kills that met a session, by its phase: { ({kind: dict(sorted(one.items())) for kind, one in met.items()}) }",
        f"from kill to ready {percentiles([wait for one in measured for wait in one.to_ready])}",
        f"from ready to the next event of an interrupted session "
        f"{percentiles([wait for one in measured for wait in one.to_go_on])}; "
        f"killed again before there was one: {sum(one.too_short for one in measured)}",
        f"checked {checked.total()}: {dict(sorted(checked.items()))}",
        f"surprises: {[text for one in deployments for text in one.crowd.surprises][:5]}",
        f"late: {[session for one in deployments for session in one.crowd.late][:5]}",
        f"ended by itself: {[text for one in deployments for text in one.deaths][:3]}",
        f"violations: {len(violations)} {violations[:20]}",
    )


def percentiles(values: Sequence[float]) -> str:
    shares = "p50 {:.2f} s, p99 {:.2f} s, max {:.2f} s".format(*(percentile(values, share) for share in (0.5, 0.99, 1)))
    return f"{shares} of {len(values)}"
