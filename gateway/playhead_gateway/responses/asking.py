"""From a request of the Responses API to the session that it is for, and the run that answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import orjson
from playhead.errors import UnknownSession
from playhead.events import Json
from playhead.ids import BEGINNING, Cursor, RunId, is_session_id, message_id, run_id
from playhead.session import Session, empty
from starlette.requests import Request

from playhead_gateway.bodies import idempotency_key, json_text
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import Asked, NewSession
from playhead_gateway.projections.response_name import ResponseName, ToolItems, parse_response_name
from playhead_gateway.projections.responses_run import About
from playhead_gateway.query import trace_of
from playhead_gateway.responses.body import CreateBody, content_of
from playhead_gateway.responses.errors import Refused
from playhead_gateway.responses.reading import seen

__all__ = ["Following", "ask"]

KIND = "responses"
"""What names conversations apart from the sessions of other protocols."""


@dataclass(frozen=True, slots=True)
class Following:
    """A response that was asked for. All of it comes after `cursor`."""

    name: ResponseName
    about: About
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes: a session as its log has it up to `cursor`, or one that `is_new` and is to begin.

    `is_named`: others may begin it at the same time.
    """

    state: Session
    cursor: Cursor
    is_new: bool
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What is said, and what a session begins with."""

    agent: str | None
    metadata: dict[str, str]
    content: Json


async def ask(gateway: Gateway, request: Request, body: CreateBody, tool_items: ToolItems) -> Following:
    """Have a run answer a request. Raises `Refused`, `Problem` and what the log says."""
    content = json_text(content_of(body.input), "a message", gateway.limits.content_bytes_max)
    message = Message(body.model, body.metadata or {}, content)
    gateway.check_agent(principal_of(request), message.agent)
    place = await _place(gateway, request, body)
    state = place.state
    agent = state.agent if state.started else gateway.agent_of(state.id)
    _check_same(message, agent, state)
    begins = place.is_new and (agent is None or not place.is_named)
    asked = await (_begin if begins else _say)(gateway, request, place, message)
    if state.started:
        about = About.of(state.agent, orjson.loads(state.metadata))
    else:
        about = About(gateway.agent_of(state.id) or "", message.metadata)
    name = ResponseName(state.id, asked.run_id, tool_items=tool_items)
    return Following(name, about, BEGINNING if asked.replayed else place.cursor)


async def _place(gateway: Gateway, request: Request, body: CreateBody) -> Place:
    key, conversation = idempotency_key(request), body.conversation_id
    if body.previous_response_id is not None:
        return await _after(gateway, request, body.previous_response_id, key)
    if conversation is None:
        session = await gateway.new_session(principal_of(request), key)
        if key is None:
            return Place(empty(session), BEGINNING, is_new=True)
    else:
        try:
            session = await gateway.named_session(request, KIND, conversation)
        except UnknownSession:
            message = f"Conversation with id {conversation!r} not found."
            raise Refused("conversation", message, "conversation_not_found") from None
    folded = await gateway.began(session)
    # A session that somebody names by its id has been begun, whether its log shows it yet or not.
    is_new = not folded.state.started and not (conversation is not None and is_session_id(conversation))
    return Place(folded.state, folded.head.cursor, is_new, is_named=conversation is not None)


async def _after(gateway: Gateway, request: Request, previous: str, key: str | None) -> Place:
    """Find the session that a response is the last of. Raises `Refused`."""
    name = parse_response_name(previous)
    advice = f"Previous response with id {previous[:200]!r} not found."
    missing = Refused("previous_response_id", advice, "previous_response_not_found")
    if name is None:
        raise missing
    try:
        await gateway.entry.enter(request, name.session)
        folded = await seen(gateway, name.session, name.run)
    except UnknownSession:
        raise missing from None
    state, latest = folded.state, _latest(folded.state)
    place = Place(state, folded.head.cursor, is_new=False)
    if key is not None and _knows(state, run_id(state.id, message_id(state.id, key))):
        return place  # asked again: what follows the earlier response is the answer to this
    if not _knows(state, name.run):
        raise missing
    if name.run != latest:
        last = "" if latest is None else f" The last one is {ResponseName(state.id, latest)}."
        advice = f"{previous} is not the last response of its conversation, which does not branch.{last}"
        raise Refused("previous_response_id", advice, "unsupported_value")
    if state.run is not None and state.run.run_id == name.run and any(call.question for call in state.open_calls):
        advice = f"{previous} waits for an answer: its metadata say where to send it, and which response goes on then"
        raise Refused("previous_response_id", advice, "response_waits_for_an_answer")
    return place


async def _begin(gateway: Gateway, request: Request, place: Place, message: Message) -> Asked:
    """Begin a session. One that others may begin too begins without a message: it does so once, and loses none."""
    state, tenant = place.state, principal_of(request).tenant
    metadata = json_text(message.metadata, "metadata", gateway.limits.metadata_bytes_max)
    new = NewSession(message.agent, None if place.is_named else message.content, metadata, tenant)
    key = None if place.is_named else idempotency_key(request)
    started = await gateway.intake.start(state, new, key, trace_of(request))
    if not started.replayed:
        gateway.remember_agent(state.id, message.agent)
    if started.message is not None:
        return started.message
    return await _say(gateway, request, replace(place, state=replace(state, tenant=tenant)), message)


async def _say(gateway: Gateway, request: Request, place: Place, message: Message) -> Asked:
    key, trace = idempotency_key(request), trace_of(request)
    return await gateway.intake.say(place.state, message.content, "queue", key, trace)


def _check_same(message: Message, agent: str | None, state: Session) -> None:
    """Refuse what would have to change a conversation that has begun. Raises `Refused`."""
    if agent is not None and message.agent not in (None, agent):
        raise Refused("model", f"this conversation is with the agent {agent!r}, and stays with it", "model_mismatch")
    if state.started and message.metadata and cast("object", orjson.loads(state.metadata)) != message.metadata:
        advice = "metadata are those of the conversation: give them with its first response, or the same ones"
        raise Refused("metadata", advice, "unsupported_value")


def _latest(state: Session) -> RunId | None:
    """Give the run of the message that was sent last, as far as the log shows."""
    if state.waiting:
        return state.waiting[-1].run_id
    if state.run is not None:
        return state.run.run_id
    return state.messages[-1].run_id if state.messages else None


def _knows(state: Session, run: RunId) -> bool:
    going = state.run is not None and state.run.run_id == run
    return going or run in state.runs or any(one.run_id == run for one in state.waiting)
