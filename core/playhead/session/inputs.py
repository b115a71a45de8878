"""What a session can be told. Each carries all that `decide` needs to know beside the state."""

from __future__ import annotations

from dataclasses import dataclass

from playhead.commands import Report, Request
from playhead.events import Budget, Failure, Json, TextDelta, Thinking, ToolInputDelta, Usage
from playhead.ids import CallId, RunId

__all__ = [
    "Answered",
    "Asked",
    "Broke",
    "Expired",
    "FellSilent",
    "GaveUp",
    "Input",
    "OutOfTime",
    "PlannedCall",
    "Reported",
    "RetryDue",
    "Snapshot",
    "Spoke",
    "TakeOver",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An agent as it is configured now, for a session that begins. `model` is `provider:name`."""

    name: str
    version: str
    model: str
    budget: Budget


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call looked up in the catalogue: see `ToolCall`. `refusal` says why it cannot be run at all."""

    call_id: CallId
    name: str
    input: Json
    effect: str
    pool: str
    refusal: str | None = None
    waits_for: tuple[CallId, ...] = ()
    key: str | None = None
    reconciles: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request arrived. `agent` is the one that it names, if there is such; `owner` is who will append.

    `said` are the blocks (a JSON list) that the attempt in flight has brought, to be kept if the request stops it.
    `planned` is the call of a `CallTool`.
    """

    request: Request
    owner: str
    agent: Snapshot | None = None
    said: Json | None = None
    planned: PlannedCall | None = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """`owner` has read the log to its end and goes on with it."""

    owner: str


@dataclass(frozen=True, slots=True)
class Spoke:
    """The model said these pieces."""

    pieces: tuple[TextDelta | Thinking | ToolInputDelta, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The model finished its message; `text` is all of its text."""

    run_id: RunId
    step: int
    attempt: int
    message: Json
    text: str
    calls: tuple[PlannedCall, ...]
    usage: Usage
    stop_reason: str
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Broke:
    """The model call failed."""

    run_id: RunId
    step: int
    attempt: int
    error: Failure
    retryable: bool
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The wait after a failed attempt is over."""

    run_id: RunId
    step: int
    attempt: int


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """The run's wall time is used up."""

    run_id: RunId


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker reported, and its lease was right."""

    report: Report


@dataclass(frozen=True, slots=True)
class FellSilent:
    """The worker that runs this call has not been heard of for too long."""

    call_id: CallId


@dataclass(frozen=True, slots=True)
class Expired:
    """The time is up in which this call's result was to come from outside."""

    call_id: CallId


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No worker brings this call to an end."""

    call_id: CallId
    message: str


Input = Asked | TakeOver | Spoke | Answered | Broke | RetryDue | OutOfTime | Reported | FellSilent | Expired | GaveUp
