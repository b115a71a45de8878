"""Named points at which a test may have something go wrong. In production nothing happens there.

Two kinds. A *boundary* is a call through a port that leaves something behind: `owner.append`, `worker.publish.results`.
Around each is a point before and one after, `owner.append.before` and `owner.append.after`; the wrappers of the ports
(`playhead.adapters.failing`) come to them, and are only there if a point is named. A point *between* boundaries stands
in the code of a service: `worker.taken`.

`PLAYHEAD_FAILPOINT=NAME[:NTH[:ACTION]]`: when `NAME` is reached for the `NTH` time (1), `ACTION` (`kill`) is done:

  kill     the process is no more (SIGKILL)
  stop     it stands still (SIGSTOP) until somebody sends SIGCONT
  delay    it goes on a while later; everything else in the process goes on meanwhile
  refused  before a boundary: nothing is done there, and who asked for it is told so
  lost     after a boundary: it was done, and who asked for it is told that it may not have been
  twice    after a boundary: it is done once more

What becomes of a process, and when, is decided by whoever makes the `Faults`: a process by its environment, a
simulation by its seed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from playhead.errors import Misconfigured, Unavailable

__all__ = [
    "BOUNDARIES",
    "DELAY_SECONDS",
    "OWNER_POINTS",
    "POINTS",
    "WORKER_POINTS",
    "Action",
    "Faults",
    "Reach",
    "actions_at",
    "armed",
    "nowhere",
    "on_the_nth",
    "points_of",
    "read_failpoint",
]

Reach = Callable[[str], Awaitable[None]]
"""Says that a point between boundaries is reached. It may never return."""

DELAY_SECONDS = 2.0
"""How long a `delay` takes in a process: longer than a heartbeat's interval, and than a worker waits for an answer."""

T = TypeVar("T")


class Action(StrEnum):
    """What may be done at a point."""

    KILL = "kill"
    STOP = "stop"
    DELAY = "delay"
    REFUSED = "refused"
    LOST = "lost"
    TWICE = "twice"


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

BOUNDARIES: Mapping[str, tuple[str, ...]] = {
    "owner": (
        "prepare",
        "receive",
        "append",
        "model",
        "publish.tools",
        "publish.control",
        "publish.sessions",
        "publish.catalog",
        "publish.deadletter",
        "acknowledge",
    ),
    "worker": (
        "prepare",
        "receive",
        "put",
        "publish.results",
        "publish.catalog",
        "publish.deadletter",
        "acknowledge",
    ),
    "gateway": (
        "prepare",
        "create",
        "publish.requests",
        "publish.results",
        "publish.tools",
        "publish.deadletter",
        "publish.audit",
    ),
}
"""What each role does through its ports that leaves something behind, and the model call. `publish` is by the kind of
topic: to `gateway.publish.requests`, `.results` and `.tools` also goes what was set aside and is sent again. `receive`
leaves nothing behind, but what was delivered may be lost on its way, or come again.
"""

_OF_ALL = frozenset(f"{role}.{boundary}" for role, boundaries in BOUNDARIES.items() for boundary in boundaries)

POINTS = (
    *WORKER_POINTS,
    *OWNER_POINTS,
    *(
        f"{role}.{boundary}.{side}"
        for role, boundaries in BOUNDARIES.items()
        for boundary in boundaries
        for side in ("before", "after")
    ),
)
"""Every point there is."""


def points_of(role: str) -> tuple[str, ...]:
    """Give the points of a role: `owner`, `worker` or `gateway`."""
    return tuple(point for point in POINTS if point.startswith(f"{role}."))


def actions_at(point: str) -> tuple[Action, ...]:
    """Give what may be done at a point."""
    boundary, _, side = point.rpartition(".")
    if boundary not in _OF_ALL:
        return (Action.KILL, Action.STOP, Action.DELAY)
    if side == "before":
        return (Action.KILL, Action.STOP, Action.DELAY, Action.REFUSED)
    if boundary.endswith(".acknowledge"):  # to acknowledge is not waited for
        return (Action.KILL, Action.STOP, Action.LOST, Action.TWICE)
    return (Action.KILL, Action.STOP, Action.DELAY, Action.LOST, Action.TWICE)


async def nowhere(point: str) -> None:
    """Go on: what a process does at every point unless it is told otherwise."""


class Faults:
    """What goes wrong in one process. Wrappers of ports and services come here with the names of their points.

    `decide` is asked at each point that is reached, and gives what is to be done there; with `None` all goes well.
    `halt` has the process die or stand still. If it comes back from a kill, as in a simulation, whoever reached the
    point waits for ever: nothing more is done by who is dead.
    """

    def __init__(
        self,
        decide: Callable[[str], Action | None],
        halt: Callable[[Action], None],
        delay_seconds: float = DELAY_SECONDS,
    ) -> None:
        self.delay_seconds = delay_seconds
        self._decide = decide
        self._halt = halt

    def decide(self, point: str) -> Action | None:
        """Tell what is to be done at a point, and have the process die or stand still if it is that."""
        action = self._decide(point)
        assert action is None or action in actions_at(point), f"{action} cannot be done at {point}"
        if action is Action.KILL or action is Action.STOP:
            self._halt(action)
        return action

    async def at(self, point: str) -> Action | None:
        """Come to a point, and do there what can be done by waiting. The rest is for who asks."""
        action = self.decide(point)
        if action is Action.KILL:
            await asyncio.get_running_loop().create_future()
        elif action is Action.DELAY:
            await asyncio.sleep(self.delay_seconds)
        return action

    async def reach(self, point: str) -> None:
        """Come to a point between boundaries."""
        await self.at(point)

    async def through(self, boundary: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do what a boundary is, as it goes here. Raises `Unavailable` if that is what goes wrong."""
        assert boundary in _OF_ALL, f"the boundary {boundary} has no failpoint"
        if await self.at(f"{boundary}.before") is Action.REFUSED:
            raise Unavailable(f"{boundary}: refused by a failpoint")
        done = await act()
        action = await self.at(f"{boundary}.after")
        if action is Action.LOST:
            raise Unavailable(f"{boundary}: its acknowledgement was lost by a failpoint")
        return await act() if action is Action.TWICE else done


def read_failpoint(text: str) -> tuple[str, int, Action]:
    """Read `NAME[:NTH[:ACTION]]`. Raises `Misconfigured`."""
    point, _, rest = text.partition(":")
    nth, _, action = rest.partition(":")
    if point not in POINTS:
        why = f"there is no failpoint {point!r}; there are: {', '.join(POINTS)}"
    elif not (nth or "1").isdecimal() or int(nth or "1") < 1:
        why = f"a failpoint is reached for the first time or a later one, not for the {nth!r}th"
    elif (action or Action.KILL) not in actions_at(point):
        why = f"{action!r} cannot be done at {point}; what can: {', '.join(actions_at(point))}"
    else:
        return point, int(nth or "1"), Action(action or Action.KILL)
    raise Misconfigured(f"PLAYHEAD_FAILPOINT is NAME[:NTH[:ACTION]], not {text!r}: {why}")


def on_the_nth(point: str, nth: int, action: Action) -> Callable[[str], Action | None]:
    """Decide for an action when a point is reached for the `nth` time, and for nothing else."""
    left = nth

    def decide(reached: str) -> Action | None:
        nonlocal left
        if reached != point:
            return None
        left -= 1
        return action if left == 0 else None

    return decide


def armed(text: str) -> Faults:
    """Give what goes wrong in this process, as `PLAYHEAD_FAILPOINT` says. Raises `Misconfigured`."""
    return Faults(on_the_nth(*read_failpoint(text)), _halt)


def _halt(action: Action) -> None:
    os.kill(os.getpid(), signal.SIGKILL if action is Action.KILL else signal.SIGSTOP)
