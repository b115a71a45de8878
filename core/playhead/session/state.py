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
    "Ended",
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
    """A tool call without a result. `reports` are the ids of the reports about it that are in the log.

    `worker` is who runs it, if anybody has said so since its last delivery; `claim` the report by which a `once` call
    was given to it, for ever. `starts` counts the workers that began, `deliveries` how often it was handed out. A call
    that is `pending` has its result coming from outside until then (microseconds since the epoch); one with a
    `question` waits for the user. `is_lost`: a `once` call whose worker fell silent; it is only looked into.
    """

    call_id: CallId
    run_id: RunId
    step: int
    attempt: int
    name: str
    input: Json
    effect: str
    pool: str
    waits_for: tuple[CallId, ...] = ()
    key: str | None = None
    reconciles: bool = False
    worker: str | None = None
    claim: str | None = None
    starts: int = 0
    deliveries: int = 1
    pending: int | None = None
    question: str | None = None
    answer: Json | None = None
    is_lost: bool = False
    reports: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a call was that ended without having worked: something may come of it after all.

    `causes` are the ids of the reports of it that are in the log.
    """

    run_id: RunId
    step: int
    attempt: int
    causes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Calling:
    """The model is being called."""


@dataclass(frozen=True, slots=True)
class BackingOff:
    """An attempt failed; the next one is due at `until` (microseconds since the epoch), at the latest after `longest`.

    The clock that `until` was read from may have been wrong, or another's: nobody waits longer than was meant.
    """

    until: int
    longest: int = 0
    """Microseconds."""


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
    """A session as its log says it is. `seen` are the ids of the requests that are answered in the log.

    `unheard` are the latest calls that ended without having worked.
    """

    id: SessionId
    agent: str | None = None
    agent_version: str = ""
    model: str = ""
    metadata: Json = Json("{}")
    tenant: str | None = None
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
    unheard: Mapping[CallId, Ended] = field(default_factory=lambda: MappingProxyType({}))
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
        if self.run is None:
            return "idle"
        ready = [call for call in self.open_calls if not self.is_blocked(call)]
        waits = bool(ready) and all(call.pending is not None or call.question is not None for call in ready)
        return "waiting" if waits else "running"

    def is_blocked(self, call: OpenCall) -> bool:
        """Tell whether a call must wait for others that are still open."""
        return any(other.call_id in call.waits_for for other in self.open_calls)

    @property
    def open_calls(self) -> tuple[OpenCall, ...]:
        """The tool calls that have no result yet."""
        return () if self.run is None else self.run.open_calls


def empty(session: SessionId) -> Session:
    """Give the state of a session in which nothing has happened."""
    return Session(session)
