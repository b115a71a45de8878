"""The app that the processes under test serve. Its tools note in a file, named by a variable, when they really run."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from playhead import Agent, ToolContext, tool

__all__ = ["JOURNAL", "chaos"]

JOURNAL = "CHAOS_JOURNAL"


def note(line: str) -> None:
    # One short write to a file opened for appending is not torn apart by those of other processes.
    with Path(os.environ[JOURNAL]).open("a") as journal:
        journal.write(f"{line} {time.time()}\n")


@tool(effect="write", timeout=20)
async def wait(number: int, seconds: float, context: ToolContext) -> str:
    """Wait, as a call to another service would."""
    note(f"begun {number} {context.session_id}")
    await asyncio.sleep(seconds)
    note(f"done {number} {context.session_id}")
    return f"waited as number {number}"


@tool(timeout=10)
def fails() -> str:
    """Raise what nobody expects."""
    raise ZeroDivisionError("nothing can be divided by that")


@tool(timeout=0.5)
async def hangs() -> str:
    """Never return."""
    await asyncio.Event().wait()
    return "never"


@tool(timeout=0.5)
def hangs_in_a_thread() -> str:
    """Block for much longer than is allowed; a thread cannot be stopped."""
    time.sleep(3)
    return "too late"


@tool(timeout=10)
def unserialisable() -> object:
    """Return what no JSON can hold."""
    return object()


@tool(timeout=10)
def prints() -> str:
    """Print a lot, to where a careless protocol would be spoken."""
    for line in range(2_000):
        print(f"ready {line} " + "x" * 50)  # noqa: T201 - that is the point
    sys.stdout.flush()
    return "printed"


chaos = Agent(
    "chaos",
    tools=[wait, fails, hangs, hangs_in_a_thread, unserialisable, prints],
    instructions="Be brief.",
    default=True,
)
