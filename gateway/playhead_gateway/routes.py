"""The `/v1` routes: read the request, ask the gateway, answer. Each decision is somewhere else."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from playhead.errors import Unavailable
from playhead.ids import RunId, SessionId, parse_session_id
from playhead.session import empty
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.access.schemes import described_for
from playhead_gateway.agui.routes import add_agui_routes
from playhead_gateway.answers import Endpoint, guarded, json_answer, replay
from playhead_gateway.bodies import (
    CancelBody,
    CloseBody,
    SayBody,
    StartBody,
    StreamBody,
    TaskBody,
    idempotency_key,
    json_text,
    read_body,
)
from playhead_gateway.call_routes import add_call_routes
from playhead_gateway.channels import add_channel_routes
from playhead_gateway.durable_routes import add_durable_routes
from playhead_gateway.entry import principal_of
from playhead_gateway.examples import with_example
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import NewSession, Started
from playhead_gateway.letter_routes import add_letter_routes
from playhead_gateway.openapi import Answer, operation
from playhead_gateway.outputs import add_output_routes
from playhead_gateway.principal import Scope
from playhead_gateway.query import choice, directory_cursor, number, trace_of
from playhead_gateway.responses.routes import add_responses_routes
from playhead_gateway.tool_routes import add_tool_routes
from playhead_gateway.ui_routes import add_ui_routes
from playhead_gateway.views import (
    View,
    agent_view,
    listed_view,
    session_view,
    task_view,
    without_none,
)
from playhead_gateway.watch import events_response, stream_response

__all__ = ["add_routes"]

READ: Scope = "sessions:read"
WRITE: Scope = "sessions:write"

STATUSES = ("idle", "running", "waiting", "closed")


MORE = (
    add_call_routes,
    add_tool_routes,
    add_letter_routes,
    add_output_routes,
    add_channel_routes,
    add_agui_routes,
    add_ui_routes,
    add_durable_routes,
    add_responses_routes,
)
"""The routes that have modules of their own."""


def add_routes(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes of a gateway to an application."""
    routes = Routes(gateway)

    def add(
        method: str, path: str, endpoint: Endpoint, answer: Answer, *, scope: Scope | None, **described: Any
    ) -> None:
        dependencies = described.pop("dependencies", None)
        if scope is not None and gateway.parts.authenticate is not None:
            dependencies = described_for(method, path)
        shown = with_example(method, path, operation(path, answer, **described))
        entering = guarded(gateway.entry, scope, f"{method} {path}", endpoint)
        app.add_api_route(path, entering, methods=[method], response_model=None, dependencies=dependencies, **shown)

    limits = gateway.limits
    of_events, of_directory = openapi.event_parameters(limits), openapi.directory_parameters(limits)
    add("POST", "/v1/sessions", routes.start, Answer(201, openapi.STARTED), body=StartBody, scope=WRITE)
    add("GET", "/v1/sessions", routes.directory, Answer(200, openapi.DIRECTORY), parameters=of_directory, scope=READ)
    add("GET", "/v1/sessions/{session}", routes.session, Answer(200, openapi.SESSION), scope=READ)
    add("POST", "/v1/sessions/{session}/messages", routes.say, Answer(202, openapi.ASKED), body=SayBody, scope=WRITE)
    events = Answer(200, openapi.EVENTS, streams=True, is_empty_at_end=True)
    add("GET", "/v1/sessions/{session}/events", routes.events, events, parameters=of_events, scope=READ)
    add(
        "POST",
        "/v1/sessions/{session}/cancel",
        routes.cancel,
        Answer(202, openapi.CANCELLED),
        body=CancelBody,
        scope=WRITE,
    )
    add("POST", "/v1/sessions/{session}/close", routes.close, Answer(202, openapi.CLOSED), body=CloseBody, scope=WRITE)
    add("POST", "/v1/stream", routes.stream, Answer(200, streams=True), body=StreamBody, scope=WRITE)
    add("POST", "/v1/tasks", routes.start_task, Answer(202, openapi.TASK_STARTED), body=TaskBody, scope=WRITE)
    add("GET", "/v1/tasks/{session}", routes.task, Answer(200, openapi.TASK), scope=READ)
    add("GET", "/v1/agents", routes.agents, Answer(200, openapi.AGENTS), scope=READ)
    for add_more in MORE:
        add_more(add, gateway)
    if gateway.parts.authenticate is not None:
        # Imported here, so that a gateway without authentication does not load the cryptography of tokens.
        from playhead_gateway.access.routes import add_access_routes  # noqa: PLC0415

        add_access_routes(add, gateway.parts.authenticate)
    for method, alias, endpoint in (
        ("POST", "/agent/stream", routes.stream),
        ("POST", "/agent/task", routes.start_task),
        ("GET", "/agent/task/{session}", routes.task),
    ):
        entering = guarded(gateway.entry, WRITE if method == "POST" else READ, f"{method} {alias}", endpoint)
        app.add_api_route(alias, entering, methods=[method], response_model=None, include_in_schema=False)


class Routes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.limits

    async def start(self, request: Request) -> Response:
        """Begin a session, perhaps with a message."""
        body = await read_body(request, StartBody, self._limits)
        started = await self._start(request, body)
        session = started.session
        status, last_seq = ("idle" if started.message is None else "running"), 0
        agent = self._gateway.agent_of(session)
        if started.replayed:
            folded = await self._gateway.began(session)
            agent = folded.state.agent or agent
            if folded.state.started:
                status, last_seq = folded.state.status, folded.head.seq
        shown: View = {"id": session, "agent": agent, "status": status, "last_seq": last_seq}
        headers = replay(started.replayed) | {"Location": f"/v1/sessions/{session}"}
        return json_answer(shown | _asked(started), 201, headers)

    async def directory(self, request: Request) -> Response:
        """List sessions, newest first."""
        principal = principal_of(request)
        page = self._gateway.catalog.page(
            sees=principal.sees,
            status=choice(request, "status", STATUSES),
            agent=request.query_params.get("agent"),
            limit=number(request, "limit", self._limits.directory_page, self._limits.directory_page_max),
            after=directory_cursor(request),
        )
        shown: View = {"sessions": [listed_view(line) for line in page.sessions], "next_cursor": page.next_after}
        return json_answer(without_none(shown))

    async def session(self, request: Request) -> Response:
        """Show a session as its log says it is."""
        session = _session(request)
        folded = await self._gateway.folded(session)
        questions = await self._gateway.questions.open(folded.state)
        view = session_view(folded.state, folded.head.cursor, questions)
        if not folded.state.started:
            view["agent"] = self._gateway.agent_of(session)
        return json_answer(view)

    async def say(self, request: Request) -> Response:
        """Take a message."""
        session, key = _session(request), idempotency_key(request)
        body = await read_body(request, SayBody, self._limits)
        content = json_text(body.content, "a message", self._limits.content_bytes_max)
        folded = await self._gateway.folded(session)
        asked = await self._gateway.intake.say(folded.state, content, body.mode, key, trace_of(request))
        shown: View = {"run_id": asked.run_id, "message_id": asked.message_id}
        return json_answer(shown, 202, replay(asked.replayed))

    async def events(self, request: Request) -> Response:
        """Show a session's events: as a stream to who accepts one, else as a page."""
        return await events_response(self._gateway, _session(request), request)

    async def cancel(self, request: Request) -> Response:
        """Ask for a run, or for everything, to be stopped."""
        session, key = _session(request), idempotency_key(request)
        body = await read_body(request, CancelBody, self._limits)
        folded = await self._gateway.folded(session)
        if not folded.state.closed:
            run = None if body.run_id is None else RunId(body.run_id)
            await self._gateway.intake.cancel(session, run, key)
        return json_answer(without_none({"id": session, "run_id": body.run_id}), 202)

    async def close(self, request: Request) -> Response:
        """Ask for a session to be ended. Closing a closed one changes nothing."""
        session, key = _session(request), idempotency_key(request)
        await read_body(request, CloseBody, self._limits)
        folded = await self._gateway.folded(session)
        if not folded.state.closed:
            await self._gateway.intake.close(session, key)
        return json_answer({"id": session}, 202)

    async def stream(self, request: Request) -> Response:
        """Begin a session with a message and answer with its stream."""
        body = await read_body(request, StreamBody, self._limits)
        if self._gateway.fanout.draining:
            raise Unavailable("this gateway is draining")  # nothing was begun, and no EventSource sends a POST
        started = await self._start(request, body)
        return await stream_response(self._gateway, started, request, cancels=body.cancel_on_disconnect)

    async def start_task(self, request: Request) -> Response:
        """Begin a session with a message and answer with its name: fire and poll."""
        body = await read_body(request, TaskBody, self._limits)
        started = await self._start(request, body)
        session = started.session
        view: View = {"id": session, "status": "queued"}
        if started.replayed:
            view = task_view((await self._gateway.began(session)).state)
        headers = replay(started.replayed) | {"Location": f"/v1/tasks/{session}"}
        return json_answer(view | _asked(started), 202, headers)

    async def task(self, request: Request) -> Response:
        """Show how a task is getting on."""
        folded = await self._gateway.folded(_session(request))
        return json_answer(task_view(folded.state))

    async def agents(self, request: Request) -> Response:
        """List the agents that orchestrators announced."""
        agents = self._gateway.agents_for(principal_of(request))
        return json_answer({"agents": [agent_view(agent) for agent in agents]})

    async def _start(self, request: Request, body: StartBody | TaskBody) -> Started:
        key = idempotency_key(request)
        limits = self._limits
        content = None if body.input is None else json_text(body.input, "a message", limits.content_bytes_max)
        metadata = json_text(body.metadata, "metadata", limits.metadata_bytes_max)
        principal = principal_of(request)
        self._gateway.check_agent(principal, body.agent)
        session = await self._gateway.new_session(principal, key)
        state = empty(session) if key is None else (await self._gateway.began(session)).state
        new = NewSession(body.agent, content, metadata, principal.tenant)
        started = await self._gateway.intake.start(state, new, key, trace_of(request))
        if not started.replayed:
            self._gateway.remember_agent(session, body.agent)
        return started


def _session(request: Request) -> SessionId:
    return parse_session_id(str(request.path_params["session"]))


def _asked(started: Started) -> View:
    message = started.message
    return {} if message is None else {"run_id": message.run_id, "message_id": message.message_id}
