"""What is still to be done, derived from the state alone: the same list for this owner and for the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from playhead.ids import RunId
from playhead.session.state import BackingOff, Calling, OpenCall, RunningTools, Session

__all__ = [
    "DELIVERIES_MAX",
    "STARTS_MAX",
    "AwaitResult",
    "CallModel",
    "Dispatch",
    "Effect",
    "GiveUp",
    "WaitForRetry",
    "WatchCall",
    "WatchTime",
    "pending",
]

DELIVERIES_MAX = 6
"""How often a call is handed to its pool before it is given up."""

STARTS_MAX = 8
"""How many workers may begin with a call before it is given up: it may be what kills them."""


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call the model with the conversation so far."""

    run_id: RunId
    step: int
    attempt: int


@dataclass(frozen=True, slots=True)
class WaitForRetry:
    """Wait until `until` (microseconds since the epoch), no longer than `longest`, then start the next attempt."""

    run_id: RunId
    step: int
    attempt: int
    until: int
    longest: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand a call to its pool, and wait for a worker to begin with it."""

    call: OpenCall


@dataclass(frozen=True, slots=True)
class WatchCall:
    """A worker is at a call: notice when it falls silent."""

    call: OpenCall


@dataclass(frozen=True, slots=True)
class AwaitResult:
    """A call's result comes from outside: end it if there is none at `until` (microseconds since the epoch)."""

    call: OpenCall
    until: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A call that no worker brings to an end: set it aside for people, and end it."""

    call: OpenCall
    message: str


@dataclass(frozen=True, slots=True)
class WatchTime:
    """End the run if it is still going at `until` (microseconds since the epoch), or after `longest` of watching."""

    run_id: RunId
    until: int
    longest: int


Effect = CallModel | WaitForRetry | Dispatch | WatchCall | AwaitResult | GiveUp | WatchTime


def pending(session: Session) -> tuple[Effect, ...]:
    """List what must happen for the session to go on."""
    run = session.run
    if run is None or session.closed:
        return ()
    effects: list[Effect] = []
    match run.phase:
        case Calling():
            effects.append(CallModel(run.run_id, run.step, run.attempt))
        case BackingOff(until, longest):
            effects.append(WaitForRetry(run.run_id, run.step, run.attempt, until, longest))
        case RunningTools():
            effects.extend(
                effect
                for call in run.open_calls
                if not session.is_blocked(call) and (effect := _of_call(call)) is not None
            )
        case _:
            assert_never(run.phase)
    if session.budget.wall_seconds is not None:
        longest = session.budget.wall_seconds * 1_000_000
        effects.append(WatchTime(run.run_id, run.started_at + longest, longest))
    return tuple(effects)


def _of_call(call: OpenCall) -> Dispatch | WatchCall | AwaitResult | GiveUp | None:
    if call.question is not None:
        return None  # the user's answer is an input, and the run's time is watched anyway
    if call.pending is not None:
        return AwaitResult(call, call.pending)
    if call.deliveries > DELIVERIES_MAX:
        return GiveUp(call, f"no worker finished the call after {DELIVERIES_MAX} deliveries")
    if call.starts > STARTS_MAX:
        return GiveUp(call, f"{STARTS_MAX} workers began with the call and none of them finished it")
    return Dispatch(call) if call.worker is None else WatchCall(call)
