"""The routes of the OpenAI Responses API: a response made, retrieved, followed, cancelled; agents as models.

Nothing is kept here: a response's id names its session and run, so every answer is made of the log. What was asked for
goes on whoever listens, so every response is one in the background.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any, cast

from playhead.errors import Unavailable, UnknownSession
from playhead.ids import BEGINNING
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.access.schemes import described_for
from playhead_gateway.answers import Add, Endpoint, json_answer
from playhead_gateway.bodies import idempotency_key, read_body
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.openapi import COUNT, FREE, TEXT, Answer
from playhead_gateway.principal import Scope
from playhead_gateway.problems import Problem
from playhead_gateway.projections.response_name import ResponseName, ToolItems, parse_response_name
from playhead_gateway.projections.responses import ResponseStream, WholeResponse
from playhead_gateway.projections.responses_run import Telling
from playhead_gateway.query import choice
from playhead_gateway.responses.asking import Following, ask
from playhead_gateway.responses.body import CreateBody, refuse_unsupported
from playhead_gateway.responses.errors import REFUSAL, enveloped, unknown_response
from playhead_gateway.responses.reading import Reading
from playhead_gateway.speech import SessionSpeech
from playhead_gateway.stream import EventStream
from playhead_gateway.watch import manner_of, open_at, stream_of

__all__ = ["add_responses_routes"]

NUMBER = re.compile(r"-1|[0-9]{1,9}")
MICROSECONDS = 1_000_000

RESPONSE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "object": {"const": "response"},
        "created_at": {"type": "number"},
        "status": {"enum": ["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]},
        "model": TEXT,
        "output": {"type": "array", "items": FREE},
        "metadata": {"type": "object", "additionalProperties": TEXT},
    },
    "required": ["id", "object", "created_at", "status", "model", "output", "metadata"],
}
MODEL = {"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}
MODELS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"type": "object", "properties": MODEL, "required": list(MODEL)}},
    },
    "required": ["object", "data"],
}
TOOL_ITEMS = {"name": "tool_items", "in": "query", "schema": {"type": "string", "enum": ["mcp", "function"]}}
STREAM = {"name": "stream", "in": "query", "schema": {"type": "string", "enum": ["true", "false"]}}
PLACE = {"type": "integer", "minimum": -1, "maximum": 999_999_999}
STARTING_AFTER = {"name": "starting_after", "in": "query", "schema": PLACE}


def add_responses_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of the Responses API."""
    routes = ResponseRoutes(gateway)
    is_open = gateway.parts.authenticate is None

    def add_one(method: str, path: str, endpoint: Endpoint, shape: dict[str, Any], **described: Any) -> None:
        scope: Scope = "sessions:read" if method == "GET" else "sessions:write"
        answer = Answer(200, shape, streams=described.pop("streams", False), refusal=REFUSAL)
        entering = enveloped(gateway.entry, scope, f"{method} {path}", endpoint)
        credentials = None if is_open else described_for(method, path)
        add(method, path, entering, answer, scope=None, dependencies=credentials, **described)

    one = "/v1/responses/{response_id}"
    asked = [STREAM, STARTING_AFTER, TOOL_ITEMS]
    add_one("POST", "/v1/responses", routes.create, RESPONSE, body=CreateBody, parameters=[TOOL_ITEMS], streams=True)
    add_one("GET", one, routes.retrieve, RESPONSE, parameters=asked, streams=True)
    add_one("POST", f"{one}/cancel", routes.cancel, RESPONSE, parameters=[TOOL_ITEMS])
    add_one("GET", "/v1/models", routes.models, MODELS)


class ResponseRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.limits

    async def create(self, request: Request) -> Response:
        """Have an agent answer: as a stream, or whole once it is over; in the background, at once."""
        body = await read_body(request, CreateBody, self._limits)
        refuse_unsupported(body)
        form = _form(request)
        if self._gateway.fanout.draining:
            raise Unavailable("this gateway is draining")  # nothing was begun
        following = await ask(self._gateway, request, body, form or "mcp")
        telling = self._telling(following.name, following)
        if body.stream:
            dialect = ResponseStream(telling)
            return await stream_of(self._gateway, following.name.session, following.cursor, dialect, request)
        if body.background:
            reading = Reading(self._gateway, telling)
            await reading.until(lambda: telling.is_begun)
            return json_answer(telling.response())
        return await self._whole(request, following, telling)

    async def retrieve(self, request: Request) -> Response:
        """Show a response as it stands, or stream it: from its start, or after an event that the client has."""
        name = await self._enter(request)
        if choice(request, "stream", ("true", "false")) == "true":
            dialect = ResponseStream(self._telling(name), _starting_after(request))
            return await stream_of(self._gateway, name.session, BEGINNING, dialect, request)
        reading = Reading(self._gateway, self._telling(name))
        await reading.on()
        return _shown(reading)

    async def cancel(self, request: Request) -> Response:
        """Stop the run that a response tells, and show the response as it is then."""
        name = await self._enter(request)
        reading = Reading(self._gateway, self._telling(name))
        await reading.on()
        state = (await self._gateway.folded(name.session)).state
        if name.run not in state.runs and not state.closed:
            await self._gateway.intake.cancel(name.session, name.run, idempotency_key(request))
            await reading.until(lambda: reading.telling.is_over)
        return _shown(reading)

    async def models(self, request: Request) -> Response:
        """List the agents, as models."""
        agents = self._gateway.agents_for(principal_of(request))
        models = [
            {"id": agent.name, "object": "model", "created": agent.at // MICROSECONDS, "owned_by": "playhead"}
            for agent in agents
        ]
        return json_answer({"object": "list", "data": models})

    async def _whole(self, request: Request, following: Following, telling: Telling) -> Response:
        """Answer once the response is over; one that takes longer than a client may be kept waiting, as it is then."""
        fanout, dialect = self._gateway.fanout, WholeResponse(telling)
        opening = await open_at(self._gateway, following.name.session, following.cursor)
        if isinstance(opening, str):
            return Response(dialect.farewell(opening), headers=dict(dialect.headers))
        until = asyncio.get_running_loop().time() + self._limits.response_seconds_max
        manner = manner_of(self._gateway, request)
        speech = SessionSpeech(fanout, opening, dialect, replace(manner, expires_at=min(until, manner.expires_at)))
        return EventStream(fanout, speech, self._gateway.telemetry)

    async def _enter(self, request: Request) -> ResponseName:
        """Let who asks to the response that the path names. Raises `Refused`, `Unavailable`."""
        given = str(request.path_params["response_id"])
        name = parse_response_name(given)
        if name is None:
            raise unknown_response(given)
        try:
            await self._gateway.entry.enter(request, name.session)
            await self._gateway.parts.log.end(name.session)
        except UnknownSession:
            raise unknown_response(given) from None
        return replace(name, tool_items=_form(request) or name.tool_items)

    def _telling(self, name: ResponseName, following: Following | None = None) -> Telling:
        about = None if following is None else following.about
        return Telling(name, about, self._gateway.parts.clock() / MICROSECONDS)


def _shown(reading: Reading) -> Response:
    if reading.is_missing:
        raise unknown_response(str(reading.telling.name))
    return json_answer(reading.telling.response())


def _form(request: Request) -> ToolItems | None:
    return cast("ToolItems | None", choice(request, "tool_items", ("mcp", "function")))


def _starting_after(request: Request) -> int:
    given = request.query_params.get("starting_after", "-1")
    if not NUMBER.fullmatch(given):
        advice = "`starting_after` must be a sequence number"
        raise Problem(400, "invalid-query", advice, parameter="starting_after")
    return int(given)
