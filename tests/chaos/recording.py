"""What users, viewers and tools of the running system do, written to a history for the checker of `tests/history`.

All of it on the system's monotonic clock, which every process of a machine has in common.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import httpx2

from tests.chaos.client import RETRY_SECONDS, WAIT_SECONDS, Viewer, check, connection, get, viewing
from tests.history.folding import Folded
from tests.history.lines import History, Line

__all__ = ["asked_surely", "recorder", "told_whole", "tool_lines"]


def recorder(path: Path | None = None) -> History:
    """Begin a history."""
    return History(time.monotonic, path)


async def asked_surely(history: History, url: str, text: str, key: str) -> str:
    """Begin a session as a patient user does: with one key, until somebody lives long enough to answer."""
    asked = {"key": key, "content": text}
    async with asyncio.timeout(WAIT_SECONDS), connection(url) as client:
        while True:
            history.note("user", "message", phase="invoke", **asked)
            try:
                response = await client.post("/v1/sessions", json={"input": text}, headers={"Idempotency-Key": key})
            except httpx2.TransportError:
                history.note("user", "message", phase="info", **asked)
            else:
                if response.is_success:
                    said = response.json()
                    history.note("user", "message", phase="ok", session=said["id"], run=said["run_id"], **asked)
                    return str(said["id"])
                assert response.status_code == 503, response.text
                history.note("user", "message", phase="info", **asked)
            await asyncio.sleep(RETRY_SECONDS)


async def told_whole(history: History, url: str, session: str, *viewers: Viewer) -> Folded:
    """Read all of a session at the end, and compare it with what its viewers have seen by now."""
    found = await check(url, session, *viewers)
    async with viewing(url, session) as reader:
        await reader.until(lambda events: len(events) >= found.events)
    events = [list(pair) for pair in zip(reader.ids, reader.events, strict=True)]
    state = await get(url, f"/v1/sessions/{session}")
    history.note("reader", "log", session=session, events=events, state=state, records=None)
    return found


def tool_lines(journal: Path) -> list[Line]:
    """Give what the tools of `tool_app` noted, as lines of a history."""
    noted = [json.loads(line) for line in journal.read_text().splitlines()]
    lines = [
        {
            "at": one["monotonic"],
            "node": f"tool {one['pid']}",
            "op": "tool",
            "what": "done" if one["what"] == "done" else "begun",
            "call": one["call"],
            "key": one["key"],
            "try": one["try"],
            "given": one["given"],
            "process": one["pid"],
        }
        for one in noted
    ]
    return sorted(lines, key=lambda line: line["at"])
