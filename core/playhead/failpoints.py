"""Named points at which a test may have a process die or stop. In production nothing happens there.

Each stands at a boundary that something durable or outside crosses. `PLAYHEAD_FAILPOINT=worker.ran:3` kills the process
with SIGKILL when it comes to `worker.ran` for the third time; `worker.ran:3:stop` has it stop there with SIGSTOP, until
somebody sends SIGCONT.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from playhead.errors import Misconfigured

__all__ = ["OWNER_POINTS", "WORKER_POINTS", "Reach", "failpoint", "nowhere"]

Reach = Callable[[str], None]
"""Says that a point is reached. It may not return."""

WORKER_POINTS = (
    "worker.taken",
    "worker.asked",
    "worker.granted",
    "worker.starting",
    "worker.started",
    "worker.ran",
    "worker.reported",
    "worker.acknowledged",
)
"""In the order of a call's life: taken from the queue, asked for and granted (`once`), run, reported, acknowledged."""

OWNER_POINTS = (
    "owner.received",
    "owner.appended",
    "owner.dispatching",
    "owner.dispatched",
    "owner.granting",
    "owner.granted",
    "owner.acknowledging",
    "owner.acknowledged",
)
"""In the order in which an owner answers an input, hands out a call and grants one that is asked for."""


ACTIONS = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def nowhere(name: str) -> None:
    """Go on: what a process does at every point unless it is told otherwise."""


def failpoint(text: str) -> Reach:
    """Read `name`, `name:nth` or `name:nth:action`, and give what dies or stops there, the first or the `nth` time.

    Raises `Misconfigured`.
    """
    name, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if name not in (*WORKER_POINTS, *OWNER_POINTS) or not (count or "1").isdigit() or action not in ACTIONS:
        known = ", ".join((*WORKER_POINTS, *OWNER_POINTS))
        why = f"PLAYHEAD_FAILPOINT is NAME, NAME:NTH or NAME:NTH:stop, not {text!r}; the names are {known}"
        raise Misconfigured(why)
    left = int(count or 1)

    def reach(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), ACTIONS[action])

    return reach
