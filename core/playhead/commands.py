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
    "AnnounceAgent",
    "AnnounceTool",
    "CancelRun",
    "CloseSession",
    "Command",
    "DeadLetter",
    "Heartbeat",
    "ListSession",
    "Report",
    "ReportChunk",
    "ReportProgress",
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
    """Begin a session, perhaps with its first message. No `agent` means the deployment's default one."""

    request_id: str
    session: SessionId
    agent: str | None
    metadata: Json
    message: Say | None = None
    trace: str | None = None


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


# --- calls: agent.tools.<pool> and agent.control.<pool>, keyed by call -----------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a call and report to the session. `lease` must come back with every report.

    `idempotency_key` is the same however often the call is delivered or tried.
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


@dataclass(frozen=True, slots=True)
class StopTool:
    """Nobody waits for this call any more."""

    call_id: CallId
    reason: str


# --- reports: agent.results, keyed by session ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportStarted:
    """A worker began to run a call."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    worker: str


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
    """A call is over. `status`: ok, error, timeout or cancelled."""

    report_id: str
    session: SessionId
    call_id: CallId
    lease: str
    status: str
    output: Json
    elapsed_ms: int
    cached: bool = False


# --- announcements: agent.catalog and agent.sessions, compacted ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnnounceTool:
    """A pool offers a tool. `schema_hash` is that of `input_schema`, the JSON Schema of its arguments."""

    pool: str
    name: str
    description: str
    input_schema: Json
    schema_hash: str
    effect: str
    timeout_ms: int
    retries: int
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


Request = StartSession | Say | CancelRun | CloseSession
Report = ReportStarted | Heartbeat | ReportProgress | ReportChunk | ReportRetry | ReportResult
Command = Request | RunTool | StopTool | Report | AnnounceTool | AnnounceAgent | ListSession | DeadLetter


def command_types() -> tuple[type[Command], ...]:
    """List every command type, in the order of their definition."""
    return get_args(Command)
