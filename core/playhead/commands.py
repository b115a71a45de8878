"""What travels on the queues: requests to a session, calls to tool workers, their reports, and announcements.

Strangers write some of these (a tool team's worker, another version of a gateway), so they are decoded strictly. Like
the events they are the single source of their schemas, and fields are only ever added.

Units: `*_ms` milliseconds, `at` and `deadline` microseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from playhead.events import Failure, Json
from playhead.ids import CallId, MessageId, RunId, Seq, SessionId

__all__ = [
    "Access",
    "AnnounceAgent",
    "AnnounceBreaker",
    "AnnounceTool",
    "AnswerQuestion",
    "CallTool",
    "CancelRun",
    "CloseSession",
    "Command",
    "DeadLetter",
    "Grant",
    "Heartbeat",
    "LetterHandled",
    "ListSession",
    "Report",
    "ReportChunk",
    "ReportPending",
    "ReportProgress",
    "ReportQuestion",
    "ReportResult",
    "ReportRetry",
    "ReportStarted",
    "Request",
    "RunTool",
    "Say",
    "StartSession",
    "StopTool",
    "command_types",
]

# --- requests: agent.requests, keyed by session ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """A user says something. `mode` is what to do while a run is going: queue, interrupt or reject."""

    request_id: str
    session: SessionId
    message_id: MessageId
    run_id: RunId
    content: Json
    mode: str = "queue"
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class StartSession:
    """Begin a session, perhaps with its first message. No `agent` means the deployment's default one.

    `tenant` is whose it is, as the gateway found out who asks; None where there are no tenants.
    """

    request_id: str
    session: SessionId
    agent: str | None
    metadata: Json
    message: Say | None = None
    trace: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Stop one run, or without `run_id` everything that is going or waiting."""

    request_id: str
    session: SessionId
    run_id: RunId | None
    reason: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End a session: what is going is cancelled, and nothing can be said any more."""

    request_id: str
    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerQuestion:
    """The user answers a question. `content` is any JSON; `by` says who it was, as far as that is known."""

    request_id: str
    session: SessionId
    question_id: str
    content: Json
    by: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """Begin a session that makes one call, asked for by hand, and ends its run with the result."""

    request_id: str
    session: SessionId
    message_id: MessageId
    run_id: RunId
    name: str
    input: Json
    metadata: Json = Json("{}")
    trace: str | None = None
    tenant: str | None = None


# --- calls: agent.tools.<pool> and agent.control.<pool>, keyed by call -----------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a call and report to the session. `lease` must come back with every report.

    `idempotency_key` is the same however often the call is delivered or tried. `approval` is the digest of the
    arguments that a person approved. `answer` is `{"content": …, "state": …}` once a question of the call is answered.
    `reconcile`: do not run it, find out what became of it. `redriven`: an operator has it run again, after its end.
    """

    session: SessionId
    run_id: RunId
    call_id: CallId
    name: str
    input: Json
    effect: str
    pool: str
    lease: str
    idempotency_key: str
    dispatched_at: int
    trace: str | None = None
    approval: str | None = None
    tenant: str = ""
    key: str | None = None
    answer: Json | None = None
    reconcile: bool = False
    redriven: bool = False


@dataclass(frozen=True, slots=True)
class StopTool:
    """Nobody waits for this call any more."""

    call_id: CallId
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The worker that asked with `claim` (the id of its `ReportStarted`) may run the call, and no other that asked.

    `asking` is the time of asking that this answers, so that a worker that slept knows an old answer from a new one.
    """

    call_id: CallId
    claim: str
    asking: int = 0


# --- reports: agent.results, keyed by session ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportStarted:
    """A worker began to run a call. With `claim` it has not yet: it waits until the owner grants it, on `pool`'s
    control topic; `asking` counts how often it has asked.
    """

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    worker: str
    claim: bool = False
    pool: str = ""
    asking: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker is still at it."""

    session: SessionId
    call_id: CallId
    lease: str
    worker: str


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """How far a running call is, in the tool's own unit."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ReportChunk:
    """A part of a running call's output."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    output: Json


@dataclass(frozen=True, slots=True)
class ReportRetry:
    """A try failed and another follows."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    try_: int
    delay_ms: int
    error: Failure


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A call is over. `status`: ok, error, timeout, cancelled, denied, fallback or unknown.

    `late`: it is known to the worker that the call has ended already; this is what came of it after all.
    """

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    status: str
    output: Json
    elapsed_ms: int
    cached: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class ReportPending:
    """No worker is at the call any more: its result comes from outside, within `within_ms`."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    within_ms: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """No worker is at the call any more: it goes on when the user has answered. `state` comes back with the answer."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    question_id: str
    content: Json
    schema: Json | None = None
    state: Json | None = None


# --- announcements: agent.catalog and agent.sessions, compacted ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnnounceTool:
    """A pool offers a tool, or with `withdrawn` no longer. `schema_hash` is that of `input_schema`, the JSON Schema of
    its arguments.

    `after`, `exclusive` and `key` say which calls wait for which (see `playhead.tools`); `approval` is never, always or
    depends (on the arguments); `rate_limit` is for people.
    """

    pool: str
    name: str
    description: str
    input_schema: Json
    schema_hash: str
    effect: str
    timeout_ms: int
    retries: int
    at: int
    withdrawn: bool = False
    output_schema: Json | None = None
    soft_timeout_ms: int | None = None
    concurrency: int = 0
    after: tuple[str, ...] = ()
    exclusive: bool = False
    key: str | None = None
    reconciles: bool = False
    approval: str = "never"
    rate_limit: str | None = None
    cache_seconds: float | None = None
    fallback: bool = False
    breaker: bool = False


@dataclass(frozen=True, slots=True)
class AnnounceBreaker:
    """A worker's circuit breaker of a tool changed. `state`: closed, open (`until` then) or half_open."""

    pool: str
    tool: str
    worker: str
    state: str
    until: int
    at: int


@dataclass(frozen=True, slots=True)
class AnnounceAgent:
    """The orchestrators offer an agent; `default` is the one for sessions that name none."""

    name: str
    version: str
    model: str
    description: str
    tools: tuple[str, ...]
    default: bool
    at: int


@dataclass(frozen=True, slots=True)
class ListSession:
    """The directory's line on a session. `open` means that work is pending, so that a new owner must look at it."""

    session: SessionId
    agent: str
    status: str
    open: bool
    created_at: int
    updated_at: int
    last_seq: Seq
    epoch: int
    metadata: Json = Json("{}")
    tenant: str | None = None

    @property
    def version(self) -> tuple[int, int]:
        """What orders a session's lines, which may arrive late: a former owner still speaks, or one says again what it
        had given up."""
        return self.epoch, self.last_seq


@dataclass(frozen=True, slots=True)
class Access:
    """Who asked what of a session, or of the deployment where `session` is None, and whether it was allowed.

    `action` is the method and the route; `principal` is a name, never a credential. `at` in microseconds since the
    epoch.
    """

    at: int
    principal: str
    tenant: str | None
    action: str
    session: SessionId | None
    allowed: bool
    reason: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be handled, whole, with where it came from and why."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    error: str
    at: int


@dataclass(frozen=True, slots=True)
class LetterHandled:
    """An operator dealt with the dead letter at `partition` and `offset`. `how`: retried or dropped."""

    partition: int
    offset: int
    how: str
    at: int


Request = StartSession | Say | CancelRun | CloseSession | AnswerQuestion | CallTool
Report = (
    ReportStarted
    | Heartbeat
    | ReportProgress
    | ReportChunk
    | ReportRetry
    | ReportResult
    | ReportPending
    | ReportQuestion
)
Command = (
    Request
    | RunTool
    | StopTool
    | Grant
    | Report
    | AnnounceTool
    | AnnounceBreaker
    | AnnounceAgent
    | ListSession
    | Access
    | DeadLetter
    | LetterHandled
)


def command_types() -> tuple[type[Command], ...]:
    """List every command type, in the order of their definition."""
    return get_args(Command)
