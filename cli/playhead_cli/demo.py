"""`playhead demo`: a session that outlives its process, shown live and then proven.

Nothing of it is staged: a child process serves on SQLite in a temporary folder, is killed by SIGKILL in the middle of
its answer, and is started again on the same folder. The viewer is the same as that of `playhead tail`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from playhead.client import Client, Dropped, Ended, Event, Opened, Patience, Session
from playhead.errors import PlayheadError, Unavailable

from playhead_cli.child import Child, start_dev
from playhead_cli.render import Object, Renderer
from playhead_cli.terminal import Terminal

__all__ = ["demo", "evidence"]

QUESTION = "What time is it in Oslo, and how many seconds are in a leap year?"

SCENARIO = [
    {
        "steps": [
            {"think": "Two tools can answer this, and neither needs the other: both at once."},
            {"use": {"tool": "clock", "input": {"city": "Oslo"}}},
            {"use": {"tool": "calculate", "input": {"expression": "366 * 24 * 60 * 60"}}},
            {
                "say": "The clock above shows the time in Oslo, and a leap year has 31,622,400 seconds. "
                "I am a script and no language model, but the rest is real: each of these words became an event in the "
                "log before you saw it. So a process may die in the middle of a sentence, and another one goes on."
            },
        ]
    }
]
"""What the scripted model says. The tools really run."""

DEMO_SECONDS_MAX = 60.0
"""It takes about five; past this something is broken."""

DELTAS_BEFORE_THE_KILL = 9
PACE_SECONDS = 0.06
PAGE_EVENTS = 1_000
RUN_ENDS = frozenset({"run_completed", "run_failed", "run_cancelled"})


async def demo() -> int:
    """Show it. Raises `PlayheadError` if anything is not as promised."""
    terminal = Terminal()
    with tempfile.TemporaryDirectory(prefix="playhead-demo-") as folder:
        data = Path(folder)
        scenario = data / "scenario.json"
        scenario.write_text(json.dumps(SCENARIO), "utf-8")
        try:
            async with asyncio.timeout(DEMO_SECONDS_MAX):
                await _Demo(terminal, data, scenario).play()
        except TimeoutError as error:
            raise Unavailable(f"the demo did not end within {DEMO_SECONDS_MAX:.0f} s") from error
    return 0


class _Demo:
    """One showing: the terminal, the folder, and the child that serves at the moment."""

    def __init__(self, terminal: Terminal, data: Path, scenario: Path) -> None:
        self._terminal = terminal
        self._data = data
        self._variables = {"PLAYHEAD_SCENARIO": str(scenario), "PLAYHEAD_SCRIPTED_PACE": str(PACE_SECONDS)}
        self._renderer = Renderer()
        self._child: Child
        self._killed_at: float | None = None

    async def play(self) -> None:
        """Serve, ask, kill, serve again, prove."""
        self._say("$ playhead dev    one process; its log is a SQLite file")
        self._child = await start_dev(self._data, 0, self._variables)
        try:
            async with Client(self._child.url) as client:
                self._say(f'$ playhead send "{QUESTION}"')
                session = await client.start(input=QUESTION, key="demo")
                seen = await self._view(session)
                for line in evidence(seen, await _stored(client, session.id)):
                    self._terminal.line(f"✓ {line}", "tool")
        finally:
            await self._child.stop()

    async def _view(self, session: Session) -> list[Event]:
        seen: list[Event] = []
        patience = Patience(first_seconds=0.1, most_seconds=0.3)
        async with aclosing(session.watch(patience=patience)) as stream:
            async for one in stream:
                match one:
                    case Event():
                        seen.append(one)
                        self._terminal.show(self._renderer.feed(one.data))
                        if one.type in RUN_ENDS:
                            break
                        if self._killed_at is None and _is_in_the_middle(seen):
                            await self._kill()
                    case Dropped() if self._child.is_over:
                        await self._start_again(one.cursor)
                    case Opened() if self._killed_at is not None:
                        self._say(f"the viewer is back after {time.monotonic() - self._killed_at:.1f} s, for the rest")
                    case Opened() | Dropped() | Ended():
                        pass
        return seen

    async def _kill(self) -> None:
        self._killed_at = time.monotonic()
        self._say(f"$ kill -9 {self._child.pid}    in the middle of its answer")
        await self._child.kill()

    async def _start_again(self, cursor: str | None) -> None:
        self._say(f"$ playhead dev    on the same folder; the viewer resumes after {cursor}")
        self._child = await start_dev(self._data, self._child.port, self._variables)

    def _say(self, text: str) -> None:
        self._terminal.show(self._renderer.close())
        self._terminal.line(text, "note")


def _is_in_the_middle(seen: Sequence[Event]) -> bool:
    """Tell whether the answer that follows the tools has begun, and is not over."""
    kinds = [one.type for one in seen]
    if "tool_result" not in kinds:
        return False
    after = kinds[len(kinds) - kinds[::-1].index("tool_result") :]
    return after.count("text_delta") >= DELTAS_BEFORE_THE_KILL


async def _stored(client: Client, session: str) -> list[dict[str, Any]]:
    """Read the whole log, page by page."""
    events: list[dict[str, Any]] = []
    after = "0"
    while True:
        page = await client.get(f"/v1/sessions/{session}/events", {"after": after, "limit": PAGE_EVENTS})
        events += page["events"]
        after = str(page["next_after"])
        if not page["events"] or events[-1]["seq"] >= page["last_seq"]:
            return events


def evidence(seen: Sequence[Event], stored: Sequence[Object]) -> list[str]:
    """Check that what was seen is what is stored, each event once, and that the crash cost nothing that was said.

    Pure. Raises `PlayheadError` with the first thing that is not so.
    """
    told = [one.data for one in seen]
    seqs = [event["seq"] for event in told]
    _must(
        seqs == list(range(1, len(seqs) + 1)), f"the viewer saw the events {seqs}, which are not 1, 2, 3, … each once"
    )
    _must(list(stored[: len(told)]) == told, "the log does not say what the viewer saw")
    counts = Counter(event["type"] for event in told)
    _must(counts["run_completed"] == 1, "the run did not complete")
    _must(counts["model_call_abandoned"] >= 1, "no attempt was lost: the process was not killed in the middle")
    calls = sorted(event["call_id"] for event in told if event["type"] == "tool_call")
    results = sorted(event["call_id"] for event in told if event["type"] == "tool_result")
    _must(len(calls) >= 2 and calls == results, f"{len(calls)} tool calls have {len(results)} results")
    return [
        f"{len(told)} events seen, seq 1 to {len(told)}, each once and as it is stored: none lost, none repeated",
        f"{counts['model_call_abandoned']} attempt lost with its process, marked in the log; the next one completed",
        f"{len(calls)} tool calls, one result each; run completed once",
    ]


def _must(so: bool, otherwise: str) -> None:
    if not so:
        raise PlayheadError(f"the demo failed: {otherwise}")
