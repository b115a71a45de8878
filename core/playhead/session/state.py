"""What a session is at one point of its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from playhead.events import Budget, Failure, Json, Usage
from playhead.ids import CallId, MessageId, RunId, SessionId

__all__ = [
    "BackingOff",
    "Calling",
    "Message",
    "OpenCall",
    "Phase",
    "Run",
    "RunEnd",
    "RunningTools",
    "Session",
    "Waiting",
    "empty",
]

Status = Literal["idle", "running", "waiting", "closed"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation, as the model is to see it.

    `content` is what the user sent (a JSON string or list of blocks), the assistant's list of blocks, or for the role
    `tool` one `tool_result` block.
    """

    role: Literal["user", "assistant", "tool"]
    run_id: RunId
    message_id: MessageId | None
    content: Json


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that a run will answer when those before it have ended."""

    run_id: RunId
    message_id: MessageId
    content: Json


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A tool call without a result. `reports` are the ids of the reports about it that are in the log."""

    call_id: CallId
    run_id: RunId
    step: int
    attempt: int
    name: str
    input: Json
    effect: str
    pool: str
    worker: str | None = None
    reports: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Calling:
    """The model is being called."""


@dataclass(frozen=True, slots=True)
class BackingOff:
    """An attempt failed; the next one is due at `until` (microseconds since the epoch)."""

    until: int


@dataclass(frozen=True, slots=True)
class RunningTools:
    """The step's calls are out; the next step starts when none is open."""


Phase = Calling | BackingOff | RunningTools


@dataclass(frozen=True, slots=True)
class Run:
    """The run that is going. `started_at` in microseconds since the epoch.

    `calls` counts all calls so far; `failures` the failed attempts at this step, without those lost with an owner.
    """

    run_id: RunId
    message_id: MessageId
    started_at: int
    step: int = 0
    attempt: int = 0
    phase: Phase = RunningTools()
    open_calls: tuple[OpenCall, ...] = ()
    calls: int = 0
    failures: int = 0
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, with the answer's text if it got that far."""

    status: Literal["completed", "failed", "cancelled"]
    text: str | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its log says it is. `seen` are the ids of the requests that are answered in the log."""

    id: SessionId
    agent: str | None = None
    agent_version: str = ""
    model: str = ""
    metadata: Json = Json("{}")
    budget: Budget = Budget()
    epoch: int = 0
    owner: str | None = None
    closed: bool = False
    messages: tuple[Message, ...] = ()
    usage: Usage = Usage()
    run: Run | None = None
    waiting: tuple[Waiting, ...] = ()
    texts: Mapping[RunId, str] = field(default_factory=lambda: MappingProxyType({}))
    runs: Mapping[RunId, RunEnd] = field(default_factory=lambda: MappingProxyType({}))
    seen: frozenset[str] = frozenset()
    created_at: int = 0
    updated_at: int = 0

    @property
    def started(self) -> bool:
        """Whether anything has happened."""
        return self.agent is not None

    @property
    def status(self) -> Status:
        """What the session is doing."""
        if self.closed:
            return "closed"
        return "idle" if self.run is None else "running"

    @property
    def open_calls(self) -> tuple[OpenCall, ...]:
        """The tool calls that have no result yet."""
        return () if self.run is None else self.run.open_calls


def empty(session: SessionId) -> Session:
    """Give the state of a session in which nothing has happened."""
    return Session(session)
