"""Roles are killed and stopped at random while sessions go on: `make soak` for as many rounds as one likes.

What everybody saw and did is written to a history, which the checker of `tests/history` holds against the invariants.
`PLAYHEAD_SOAK_HISTORY` names a file that the history is kept in, line by line.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.chaos.client import Viewer, viewing
from tests.chaos.processes import Process, Stage
from tests.chaos.recording import asked_surely, recorder, told_whole, tool_lines
from tests.chaos.scenario import PACE_SECONDS, STORY
from tests.chaos.tool_scenario import EFFECTS
from tests.history.check import check, percentile
from tests.history.lines import merged

ROUNDS = int(os.environ.get("PLAYHEAD_SOAK_ROUNDS", "3"))
SEED = int(os.environ.get("PLAYHEAD_SOAK_SEED", "1"))
HISTORY = os.environ.get("PLAYHEAD_SOAK_HISTORY")
EVENTS_MAX = 25
"""A blow falls at latest after so many events of a session."""
KINDS = {signal.SIGKILL: "kill", signal.SIGTERM: "terminate"}
TESTED = {
    *("L1", "L3", "L4", "L6", "L8", "L9", "O1", "O2", "O3", "O4"),
    *("T1", "T2", "T3", "T4", "T5", "T6", "V5", "V8", "LV1"),
}
"""What is put to the test whatever is struck, once there was a turn of every effect."""


async def replaced(stage: Stage, process: Process, how: signal.Signals) -> Process:
    """End a process one way or the other, and start another of its role."""
    process.signal(how)
    code = await process.exited()
    assert code == (0 if how is signal.SIGTERM else -how), process.last_words()
    match process.name:
        case "orchestrator":
            return await stage.orchestrator()
        case "worker":
            return await stage.worker()
        case _:
            return await stage.gateway(process.port)


@pytest.mark.kafka
async def test_every_session_completes_while_roles_are_killed_at_random(pool: Stage) -> None:
    chance, history = random.Random(SEED), recorder(Path(HISTORY) if HISTORY else None)
    pool.pace(PACE_SECONDS)
    running = [*await pool.roles(), *await asyncio.gather(pool.orchestrator(), pool.worker())]
    url = running[2].url
    watched: list[tuple[str, Viewer]] = []
    async with AsyncExitStack() as stack:
        for turn in range(ROUNDS):
            for text in ("Tell me a story.", f"Please {list(EFFECTS)[turn % len(EFFECTS)]}."):
                session = await asked_surely(history, url, text, f"{turn} {text}")
                watched.append((session, await stack.enter_async_context(viewing(url, session, history))))
            moment = chance.randint(1, EVENTS_MAX)
            await chance.choice(watched[-2:])[1].until(lambda events, moment=moment: len(events) >= moment)
            place = chance.randrange(len(running))
            how = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            node = f"{running[place].name} {place}"
            history.note("nemesis", "fault", kind=KINDS[how], target=node)
            running[place] = await replaced(pool, running[place], how)
            history.note(node, "ready")
        history.note("nemesis", "healed")
        for place, (session, viewer) in enumerate(watched):
            await viewer.until_end()
            found = await told_whole(history, url, session, viewer)
            assert list(found.ends.values()) == ["run_completed"]
            assert place % 2 or found.finals == [STORY]
    history.close()
    report = check(merged(history.lines, tool_lines(pool.journal)))
    print(f"recovered in {percentile(report.recovery_seconds, 0.99):.1f} s (p99)", dict(report.checked))  # noqa: T201
    assert report.violations == []
    assert len(EFFECTS) > ROUNDS or +report.checked >= Counter(TESTED)
