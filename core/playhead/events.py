"""The facts of a session, one class an event type, and the stamp that each record carries.

These classes are the single source of the schemas: `playhead_schemas/*.avsc` is derived from them (`make schemas`) and
a test holds the two together. The wire name of a type is its class name in snake_case; a trailing underscore of a field
name is not part of it. Fields are only ever added, at the end, with a default.

Units: `*_ms` milliseconds, `at` microseconds since the epoch, `*_tokens` provider tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType, get_args

from playhead.ids import CallId, MessageId, RunId, Seq, SessionId

__all__ = [
    "ApprovalGiven",
    "ApprovalRequested",
    "Budget",
    "Event",
    "Failure",
    "FinalResponse",
    "GuardrailTripped",
    "Hash",
    "Json",
    "ModelCallAbandoned",
    "ModelCallCompleted",
    "ModelCallFailed",
    "ModelCallStarted",
    "OwnerChanged",
    "QuestionAnswered",
    "QuestionAsked",
    "Range",
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunStarted",
    "SessionClosed",
    "SessionStarted",
    "Stamp",
    "Stamped",
    "TextDelta",
    "Thinking",
    "ToolCall",
    "ToolInputDelta",
    "ToolPending",
    "ToolProgress",
    "ToolResult",
    "ToolResultChunk",
    "ToolResultLate",
    "ToolRetry",
    "ToolStarted",
    "Usage",
    "UserMessage",
    "event_types",
    "wire_name",
]

Hash = NewType("Hash", bytes)
"""A SHA-256: 32 bytes."""

Json = NewType("Json", str)
"""JSON text, already serialised: passed through untouched, so that what was logged is what is shown."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every record of a session log begins with.

    `prev` is the hash of the record before it (of the session id, for the first); `cause` the id of the input that it
    answers; `at` is for people, never for order; `trace` a W3C traceparent.
    """

    session: SessionId
    seq: Seq
    epoch: int
    prev: Hash
    cause: str | None
    at: int
    trace: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls took, in the provider's tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

    @property
    def tokens(self) -> int:
        """All tokens, however they are billed."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a stable `code` for programs, a `message` for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What one run may use before it is stopped. `None` is no limit."""

    steps: int | None = 32
    calls: int | None = 128
    tokens: int | None = None
    wall_seconds: int | None = 3600


@dataclass(frozen=True, slots=True)
class Range:
    """The seqs from `first` to `last`, both included."""

    first: Seq
    last: Seq


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A session begins; everything that its runs depend on beside the log is named here."""

    agent: str
    agent_version: str
    model: str
    metadata: Json
    forked_from: str | None = None
    budget: Budget = Budget()
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class OwnerChanged:
    """An orchestrator instance took the session over."""

    epoch: int
    owner: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A user said something; `content` is a JSON string or a list of content blocks."""

    run_id: RunId
    message_id: MessageId
    content: Json


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The work for one user message begins."""

    run_id: RunId
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """A run ended well."""

    run_id: RunId
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run ended without an answer."""

    run_id: RunId
    error: Failure


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """A run was stopped on purpose."""

    run_id: RunId
    reason: str


@dataclass(frozen=True, slots=True)
class ModelCallStarted:
    """An attempt at a step's model call is about to be made."""

    run_id: RunId
    step: int
    attempt: int
    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of the model's reasoning, superseded by the step's completed message."""

    run_id: RunId
    step: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, superseded by the step's completed message."""

    run_id: RunId
    step: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolInputDelta:
    """A piece of a tool call's input (JSON text, cut anywhere), superseded by the step's completed message."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    json: str


@dataclass(frozen=True, slots=True)
class ModelCallCompleted:
    """The one accepted attempt of a step: `message` is `{"role": "assistant", "content": [blocks]}`.

    `stop_reason` is the provider's, or `interrupted` or `cancelled` where we stopped it and kept what was said.
    """

    run_id: RunId
    step: int
    attempt: int
    message: Json
    usage: Usage
    stop_reason: str
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class ModelCallFailed:
    """An attempt failed; the next one starts in `retry_in_ms`, or never if that is absent."""

    run_id: RunId
    step: int
    attempt: int
    error: Failure
    retry_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCallAbandoned:
    """An attempt was lost with its owner: drop what it said."""

    run_id: RunId
    step: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. Step 0 is a call that was made by hand: no model asked for it.

    It is not handed out before the calls in `waits_for` have their results. Calls of one `key` run one after the other,
    whatever session they are of. `reconciles`: the tool can find out what became of a call that was lost.
    """

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    name: str
    input: Json
    effect: str
    pool: str
    waits_for: tuple[CallId, ...] = ()
    key: str | None = None
    reconciles: bool = False


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A worker began to run a call."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    worker: str


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """A running call says how far it is: `progress` of `total`, in the tool's own unit."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResultChunk:
    """A part of a running call's output, superseded by its result."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    output: Json


@dataclass(frozen=True, slots=True)
class ToolRetry:
    """A try of a call failed; the next one starts in `delay_ms`.

    With `delivery` it is the owner that says so, of a worker that fell silent: the call is handed out once more, for
    the `delivery`th time (a lost `once` call, to be looked into).
    """

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    try_: int
    delay_ms: int
    error: Failure
    delivery: int | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The one end of a call. `status`: ok, error, timeout, cancelled, denied, fallback or unknown."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    status: str
    output: Json
    elapsed_ms: int
    cached: bool = False


@dataclass(frozen=True, slots=True)
class ToolPending:
    """A call's result comes later, from outside: no worker is at it. Without one `until` (see `at`) it times out."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    until: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResultLate:
    """What a call brought after it had ended without: for people. The model is not told, and the result stands."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    status: str
    output: Json
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A call waits for a person's yes."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    reason: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """A person decided; `decision` is approve or deny."""

    run_id: RunId
    step: int
    attempt: int
    call_id: CallId
    decision: str
    by: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionAsked:
    """The agent asks the user something; `schema` is the JSON Schema that an answer must have.

    If a call asks, it is run again with the answer, and with the `state` that it left here.
    """

    run_id: RunId
    step: int
    attempt: int
    question_id: str
    content: Json
    schema: Json | None = None
    call_id: CallId | None = None
    state: Json | None = None


@dataclass(frozen=True, slots=True)
class QuestionAnswered:
    """The user answered."""

    run_id: RunId
    step: int
    attempt: int
    question_id: str
    content: Json
    by: str


@dataclass(frozen=True, slots=True)
class GuardrailTripped:
    """A guardrail judged; `withdraws` are the seqs that must no longer be shown."""

    run_id: RunId
    step: int
    attempt: int
    guardrail: str
    verdict: str
    withdraws: Range | None = None


@dataclass(frozen=True, slots=True)
class FinalResponse:
    """The run's answer, whole. `message_id` is the answer's own."""

    run_id: RunId
    text: str
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The last event of a session's log."""

    reason: str


Event = (
    SessionStarted
    | OwnerChanged
    | UserMessage
    | RunStarted
    | RunCompleted
    | RunFailed
    | RunCancelled
    | ModelCallStarted
    | Thinking
    | TextDelta
    | ToolInputDelta
    | ModelCallCompleted
    | ModelCallFailed
    | ModelCallAbandoned
    | ToolCall
    | ToolStarted
    | ToolProgress
    | ToolResultChunk
    | ToolRetry
    | ToolResult
    | ToolPending
    | ToolResultLate
    | ApprovalRequested
    | ApprovalGiven
    | QuestionAsked
    | QuestionAnswered
    | GuardrailTripped
    | FinalResponse
    | SessionClosed
)


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event in its place in a session's log."""

    stamp: Stamp
    event: Event


def event_types() -> tuple[type[Event], ...]:
    """List every event type, in the order of their definition."""
    return get_args(Event)


def wire_name(kind: type[object]) -> str:
    """Give the name that a type has on the wire: `TextDelta` is `text_delta`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
