"""What is still to be done, derived from the state alone: the same list for this owner and for the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from playhead.ids import RunId
from playhead.session.state import BackingOff, Calling, OpenCall, RunningTools, Session

__all__ = ["CallModel", "Dispatch", "Effect", "WaitForRetry", "WatchTime", "pending"]


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call the model with the conversation so far."""

    run_id: RunId
    step: int
    attempt: int


@dataclass(frozen=True, slots=True)
class WaitForRetry:
    """Wait until `until` (microseconds since the epoch), then start the next attempt."""

    run_id: RunId
    step: int
    attempt: int
    until: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand a call to its pool and wait for its result."""

    call: OpenCall


@dataclass(frozen=True, slots=True)
class WatchTime:
    """End the run if it is still going at `until` (microseconds since the epoch)."""

    run_id: RunId
    until: int


Effect = CallModel | WaitForRetry | Dispatch | WatchTime


def pending(session: Session) -> tuple[Effect, ...]:
    """List what must happen for the session to go on."""
    run = session.run
    if run is None or session.closed:
        return ()
    effects: list[Effect] = []
    match run.phase:
        case Calling():
            effects.append(CallModel(run.run_id, run.step, run.attempt))
        case BackingOff(until):
            effects.append(WaitForRetry(run.run_id, run.step, run.attempt, until))
        case RunningTools():
            effects.extend(Dispatch(call) for call in run.open_calls)
        case _:
            assert_never(run.phase)
    if session.budget.wall_seconds is not None:
        effects.append(WatchTime(run.run_id, run.started_at + session.budget.wall_seconds * 1_000_000))
    return tuple(effects)
