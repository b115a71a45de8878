"""What a request of AG-UI asks of a session: which of it is new, and which run answers it.

The session's own log is the conversation, so of `messages[]` only the user's messages at the end are taken, and of
those what the session does not have: the rest is what the client remembers. A message has an idempotency key made of
its id, so a request that is sent again gets the same run. An answer in `resume[]` has one made of the request's
`runId`. An interrupt that is `cancelled` cancels the run that waits for it: nothing else can be done with a question
that stays without an answer. `state` and `context` are not read: there is nothing here that they would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from playhead.events import Json
from playhead.ids import MessageId, RunId, message_id, run_id
from playhead.session import Session
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from playhead_gateway.bodies import Body, json_text
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import NewAnswer, NewSession
from playhead_gateway.problems import Problem
from playhead_gateway.projections.agui_content import Unsupported, blocks_of
from playhead_gateway.query import trace_of

__all__ = ["KIND", "Following", "RunInput", "ask", "open_interrupts"]

KIND = "agui"
"""Tells names of threads and messages from those of other protocols."""

MESSAGES_MAX = 10_000
"""How many messages, or answers, a request may have."""


class Part(BaseModel):
    """A part of a request. What is not read of it is the client's own."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class InputMessage(Part):
    """A message that the client has."""

    id: Annotated[str, Field(min_length=1, max_length=255)]
    role: str
    content: Any = None


class ResumeEntry(Part):
    """An answer to an interrupt."""

    interrupt: Annotated[str, Field(alias="interruptId", min_length=1, max_length=200)]
    status: Literal["resolved", "cancelled"]
    payload: Any = None


MESSAGE_SHAPE = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 255},
        "role": {"type": "string"},
        "content": {},
    },
    "required": ["id", "role"],
}
ENTRY_SHAPE = {
    "type": "object",
    "properties": {
        "interruptId": {"type": "string", "minLength": 1, "maxLength": 200},
        "status": {"type": "string", "enum": ["resolved", "cancelled"]},
        "payload": {},
    },
    "required": ["interruptId", "status"],
}
ENTRIES_SHAPE = {"anyOf": [{"type": "array", "items": ENTRY_SHAPE, "maxItems": MESSAGES_MAX}, {"type": "null"}]}
MESSAGES_SHAPE = {"type": "array", "items": MESSAGE_SHAPE, "maxItems": MESSAGES_MAX}

EXAMPLE: dict[str, Any] = {
    "threadId": "thread-1",
    "runId": "run-1",
    "protocolVersion": "1.0",
    "messages": [{"id": "message-1", "role": "user", "content": "What time is it in Oslo?"}],
    "forwardedProps": {"agent": "support"},
}


class RunInput(Body):
    """AG-UI's `RunAgentInput`, as far as it is read."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [EXAMPLE]})

    thread: Annotated[str, Field(alias="threadId", min_length=1, max_length=255)]
    run: Annotated[str, Field(alias="runId", min_length=1, max_length=255)]
    messages: Annotated[list[InputMessage], Field(max_length=MESSAGES_MAX), WithJsonSchema(MESSAGES_SHAPE)]
    tools: list[Any] | None = None
    forwarded: Annotated[Any, Field(alias="forwardedProps")] = None
    resume: Annotated[list[ResumeEntry] | None, Field(max_length=MESSAGES_MAX), WithJsonSchema(ENTRIES_SHAPE)] = None


@dataclass(frozen=True, slots=True)
class Following:
    """What answers a request: the runs of its messages, what comes of its answers, all until one run is over."""

    until: RunId
    first: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()


def open_interrupts(state: Session) -> dict[str, RunId]:
    """Give what a session waits for from its user, and the run of each. Nothing while a call goes on without him."""
    if state.status != "waiting":
        return {}
    return {call.question: call.run_id for call in state.open_calls if call.question is not None}


async def ask(gateway: Gateway, request: Request, given: RunInput, state: Session) -> Following:
    """Send what is new to a session whose log shows `state`, and find the run that answers it. Raises `Problem`."""
    agent = _agent(gateway, request, given, state)
    messages = _last_said(given.messages)
    # One that the session has under the client's name is said again: the intake tells whether it is still the same.
    said = [(message.id, _content(gateway, message)) for message in messages if not _is_ours(state, message)]
    is_new = any(_run_of(state, message) is None for message in messages)
    _check_interrupts(given, state, says=is_new)
    answered = await _answer(gateway, request, given, state) if given.resume else None
    if answered is not None and not is_new:
        return answered
    if said:
        await _say(gateway, request, agent, state, said)
    runs = [_run_of(state, message) or _named(state, message) for message in messages]
    if not runs:
        mine = (_run_of(state, message) for message in reversed(given.messages) if message.role == "user")
        runs = [run for run in mine if run is not None][:1]
    if not runs:
        raise Problem(422, "nothing-to-run", "there is neither a message of the user at the end, nor an answer")
    return Following(runs[-1], frozenset(runs), frozenset() if answered is None else answered.answers)


def _agent(gateway: Gateway, request: Request, given: RunInput, state: Session) -> str | None:
    match given.forwarded:
        case {"agent": str(forwarded)}:
            named = request.query_params.get("agent", forwarded)
        case _:
            named = request.query_params.get("agent")
    gateway.check_agent(principal_of(request), named)
    if named is not None and state.agent not in (None, named):
        detail = f"the thread {given.thread!r} has the agent {state.agent!r}, and keeps it"
        raise Problem(409, "other-agent", detail, agent=state.agent)
    return named


def _last_said(messages: Sequence[InputMessage]) -> list[InputMessage]:
    """Give what the user said since the agent last did. What was answered elsewhere is not asked again."""
    spoke = (n for n in reversed(range(len(messages))) if messages[n].role in ("assistant", "tool"))
    return [message for message in messages[next(spoke, -1) + 1 :] if message.role == "user"]


def _content(gateway: Gateway, message: InputMessage) -> Json:
    content = message.content
    is_text, is_list = isinstance(content, str), isinstance(content, list)
    if not content or not (is_text or (is_list and all(isinstance(part, dict) for part in content))):
        raise Problem(
            422, "invalid-message", f"the message {message.id!r} must be a text, or a list of parts, and not empty"
        )
    try:
        return json_text(blocks_of(content), "a message", gateway.limits.content_bytes_max)
    except Unsupported as unsupported:
        raise Problem(422, "invalid-message", f"the message {message.id!r}: {unsupported}") from None


def _named(state: Session, message: InputMessage) -> RunId:
    """Name the run of a message that is said under the client's own name for it."""
    return run_id(state.id, message_id(state.id, _key(message.id)))


def _is_ours(state: Session, message: InputMessage) -> bool:
    """Tell whether the client has a message from a snapshot, under our name for it."""
    return run_id(state.id, MessageId(message.id)) in _runs(state)


def _run_of(state: Session, message: InputMessage) -> RunId | None:
    """Give the run of a message that the session has, under either name."""
    named = _named(state, message), run_id(state.id, MessageId(message.id))
    return next((run for run in named if run in _runs(state)), None)


def _key(name: str) -> str:
    return f"{KIND} {name}"


def _runs(state: Session) -> set[RunId]:
    going = set[RunId]() if state.run is None else {state.run.run_id}
    return going | state.runs.keys() | {waiting.run_id for waiting in state.waiting}


async def _say(
    gateway: Gateway, request: Request, agent: str | None, state: Session, said: Sequence[tuple[str, Json]]
) -> None:
    principal, trace = principal_of(request), trace_of(request)
    if not state.started:
        # Apart from the first message: of two that begin one thread at a time, both are said.
        new = NewSession(agent, None, Json("{}"), principal.tenant)
        await gateway.intake.start(state, new, None, trace)
        gateway.remember_agent(state.id, agent)
        state = replace(state, tenant=principal.tenant)
    for name, content in said:
        await gateway.intake.say(state, content, "queue", _key(name), trace)


def _check_interrupts(given: RunInput, state: Session, *, says: bool) -> None:
    """Refuse to go on while something is asked that the request says nothing to."""
    left = open_interrupts(state).keys() - {entry.interrupt for entry in given.resume or ()}
    if left and (says or given.resume):
        detail = f"the thread waits for the user: `resume` must have an entry for each of {', '.join(sorted(left))}"
        raise Problem(409, "interrupted", detail, interrupts=sorted(left))


async def _answer(gateway: Gateway, request: Request, given: RunInput, state: Session) -> Following:
    entries = given.resume or []
    found = await gateway.questions.all(state.id)
    unknown = [entry.interrupt for entry in entries if entry.interrupt not in found.asked]
    if unknown:
        raise Problem(422, "unknown-interrupt", f"the thread was never interrupted by {', '.join(unknown)}")
    contents = [json_text(entry.payload, "an answer", gateway.limits.content_bytes_max) for entry in entries]
    for entry, content in zip(entries, contents, strict=True):
        asked = found.asked[entry.interrupt]
        if entry.status == "cancelled":
            await gateway.intake.cancel(state.id, asked.run_id, _key(entry.interrupt), "interrupt_cancelled")
        else:
            answer = NewAnswer(entry.interrupt, content, principal_of(request).name)
            await gateway.intake.answer(state, answer, _key(given.run), found)
    resolved = frozenset(entry.interrupt for entry in entries if entry.status == "resolved")
    return Following(found.asked[entries[0].interrupt].run_id, answers=resolved)
