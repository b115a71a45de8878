"""The routes of the AI SDK's chat transport: a message, the stream of the run that is going, and a stop.

Of `messages` the last one is new, and it must be the user's: the session's own log is the conversation, so the rest is
what the client remembers of it. A message has an idempotency key made of its id, so a request that is sent again gets
the same run, told from its start. A client that leaves only leaves: what stops a run is a stop, which names the message
of the assistant, so that one that comes too late cannot stop a newer run.

Who comes back is told of the run that is going. The stock transport does not say what it has, and takes 204 for an
answer that is whole: a client that names its unfinished message is told of it even if its run is over by now.

What was said stays said. A message that was answered cannot be asked anew or changed, and both are refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from playhead.errors import Unavailable, UnknownSession
from playhead.events import Json
from playhead.ids import BEGINNING, RunId, is_session_id
from playhead.session import Session
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.answers import Add, json_answer
from playhead_gateway.bodies import Body, checked, json_text, read_body
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import Asked, NewSession
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem
from playhead_gateway.projections.ui_content import Unsupported, content_of
from playhead_gateway.projections.ui_stream import UiStream
from playhead_gateway.query import trace_of
from playhead_gateway.watch import stream_of

__all__ = ["add_ui_routes"]

KIND = "ui"
"""Tells names of chats and messages from those of other protocols."""

MESSAGES_MAX = 10_000
PARTS_MAX = 1_000
CHAT_CHARS_MAX = 255
HISTORY_TIMES = 16
"""How many times larger a body may be here: a client sends its whole conversation, with the pictures in it."""

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": CHAT_CHARS_MAX}
CHAT = {"name": "chat", "in": "path", "required": True, "schema": ID}
STOPPING = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "run_id": {"type": "string"}, "stopping": {"type": "boolean"}},
    "required": ["id", "run_id", "stopping"],
}
MESSAGE_SHAPE = {
    "type": "object",
    "properties": {"id": ID, "role": {"type": "string"}, "parts": {"type": "array", "maxItems": PARTS_MAX}},
    "required": ["id", "role", "parts"],
}
EXAMPLE: dict[str, Any] = {
    "id": "chat-1",
    "messages": [{"id": "message-1", "role": "user", "parts": [{"type": "text", "text": "What time is it in Oslo?"}]}],
    "trigger": "submit-message",
    "agent": "support",
}
RUN = "run_" + "0" * 26
RUN_ID = re.compile(r"run_[0-9a-z]{26}")
UNFINISHED = {"name": "messageId", "in": "query", "schema": {"type": "string", "pattern": f"^{RUN_ID.pattern}$"}}

Name = Annotated[str, Field(min_length=1, max_length=CHAT_CHARS_MAX)]
Named = Annotated[str, Field(pattern=f"^{RUN_ID.pattern}$")]


class _UserMessage(Body):
    """The message that is new. What is not read of it is the client's own."""

    model_config = ConfigDict(extra="ignore")

    id: Name
    role: str
    parts: Annotated[list[Any], Field(max_length=PARTS_MAX)]


class ChatBody(Body):
    """What the stock transport sends, and the agent of a new chat, if the application names one."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [EXAMPLE]})

    id: Name
    messages: Annotated[
        list[Any],
        Field(min_length=1, max_length=MESSAGES_MAX),
        WithJsonSchema({"type": "array", "items": MESSAGE_SHAPE, "minItems": 1, "maxItems": MESSAGES_MAX}),
    ]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    agent: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class AssistantMessage(BaseModel):
    """The message as far as the client has it."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    id: Named


class StopBody(Body):
    """Which run is to be stopped: the id of the assistant's message that it tells, in one of the usual places."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"messageId": RUN}]})

    message: Annotated[Named | None, Field(alias="messageId")] = None
    stream: Annotated[Named | None, Field(alias="activeStreamId")] = None
    assistant: Annotated[AssistantMessage | None, Field(alias="assistantMessage")] = None

    @property
    def run(self) -> RunId | None:
        """The run that is named."""
        named = self.message or self.stream or (None if self.assistant is None else self.assistant.id)
        return None if named is None else RunId(named)


def add_ui_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of the AI SDK."""
    routes = UiRoutes(gateway)
    told, resumed = Answer(200, streams=True), Answer(200, streams=True, is_empty_at_end=True)
    add("POST", "/ui/chat", routes.chat, told, body=ChatBody, has_key=False, scope="sessions:write")
    # A chat's id may be anything, a slash too: the client encodes it, and the server has decoded it.
    add(
        "GET",
        "/ui/chat/{chat:path}/stream",
        routes.stream,
        resumed,
        parameters=[CHAT, UNFINISHED],
        scope="sessions:read",
    )
    stopped, stop = Answer(202, STOPPING), "/ui/chat/{chat:path}/stop"
    add("POST", stop, routes.stop, stopped, body=StopBody, has_key=False, parameters=[CHAT], scope="sessions:write")


class UiRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def chat(self, request: Request) -> Response:
        """Take the user's new message, and tell of the run that answers it."""
        gateway, limits = self._gateway, self._gateway.limits
        roomier = replace(limits, body_bytes_max=limits.body_bytes_max * HISTORY_TIMES)
        given = await read_body(request, ChatBody, roomier)
        message = _new_message(given)
        content = self._content(message)
        gateway.check_agent(principal_of(request), given.agent)
        if gateway.fanout.draining:
            raise Unavailable("this gateway is draining")  # nothing was begun
        session = await gateway.named_session(request, KIND, given.id)
        folded = await gateway.began(session)
        asked = await self._ask(request, given, folded.state, message.id, content)
        # What was not said before is answered after what the log shows now.
        cursor = BEGINNING if asked.replayed else folded.head.cursor
        return await stream_of(gateway, session, cursor, UiStream(session, asked.run_id), request)

    async def stream(self, request: Request) -> Response:
        """Tell of the run that is going, from its start; or of one that the client names, even if it is over."""
        chat, named = _chat_of(request), _told_of(request)
        try:
            session = await self._gateway.find_session(request, KIND, chat)
        except UnknownSession:
            if is_session_id(chat):
                raise
            return Response(status_code=204, headers=NO_STORE)  # a chat in which nothing was said yet
        run = named or _going((await self._gateway.began(session)).state)
        if run is None:
            return Response(status_code=204, headers=NO_STORE)
        return await stream_of(self._gateway, session, BEGINNING, UiStream(session, run), request)

    async def stop(self, request: Request) -> Response:
        """Stop the run that a message of the assistant tells, if it is not over."""
        chat = _chat_of(request)
        given = await read_body(request, StopBody, self._gateway.limits)
        run = given.run
        if run is None:
            detail = "name what is to be stopped: the id of the assistant's message, as `messageId`"
            raise Problem(422, "nothing-to-stop", detail)
        session = await self._gateway.find_session(request, KIND, chat)
        state = (await self._gateway.began(session)).state
        stopping = run not in state.runs and not state.closed
        if stopping:
            await self._gateway.intake.cancel(session, run, f"{KIND} stop {run}")
        return json_answer({"id": session, "run_id": run, "stopping": stopping}, 202)

    def _content(self, message: _UserMessage) -> Json:
        try:
            return json_text(content_of(message.parts), "a message", self._gateway.limits.content_bytes_max)
        except Unsupported as unsupported:
            raise Problem(422, "invalid-message", f"the message {message.id!r}: {unsupported}") from None

    async def _ask(self, request: Request, given: ChatBody, state: Session, named: str, content: Json) -> Asked:
        intake, principal, trace = self._gateway.intake, principal_of(request), trace_of(request)
        key = f"{KIND} {named}"
        if given.agent is not None and state.agent not in (None, given.agent):
            detail = f"the chat {given.id!r} has the agent {state.agent!r}, and keeps it"
            raise Problem(409, "other-agent", detail, agent=state.agent)
        if not state.started:
            # Apart from the first message: of two that begin one chat at a time, both are said.
            new = NewSession(given.agent, None, Json("{}"), principal.tenant)
            await intake.start(state, new, None, trace)
            self._gateway.remember_agent(state.id, given.agent)
            state = replace(state, tenant=principal.tenant)
        try:
            return await intake.say(state, content, "queue", key, trace)
        except Problem as problem:
            if problem.code != "idempotency-mismatch":
                raise
            detail = f"the message {named!r} was said and cannot be changed: say another one"
            raise Problem(422, "cannot-edit", detail) from None


def _chat_of(request: Request) -> str:
    chat = str(request.path_params["chat"])
    if not 1 <= len(chat) <= CHAT_CHARS_MAX:
        raise Problem(400, "invalid-id", f"a chat's id has 1 to {CHAT_CHARS_MAX} characters")
    return chat


def _told_of(request: Request) -> RunId | None:
    named = request.query_params.get("messageId")
    if named is None:
        return None
    if not RUN_ID.fullmatch(named):
        raise Problem(400, "invalid-query", "`messageId` must be the id of a message of the assistant")
    return RunId(named)


def _new_message(given: ChatBody) -> _UserMessage:
    if given.trigger == "regenerate-message":
        detail = "an answer stays in the log and cannot be made anew; say something else"
        raise Problem(422, "cannot-regenerate", detail)
    match given.messages[-1]:
        case {"role": "user"} as last:
            return checked(last, _UserMessage)
        case _:
            detail = "the last of `messages` must be the user's: approvals and answers are given to the session itself"
            raise Problem(422, "nothing-new", detail)


def _going(state: Session) -> RunId | None:
    if state.run is not None:
        return state.run.run_id
    return state.waiting[0].run_id if state.waiting else None
