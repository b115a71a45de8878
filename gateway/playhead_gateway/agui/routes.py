"""The routes of AG-UI 1.0: a request to run, a thread's stream for who comes back, and what an agent offers."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
from playhead.commands import AnnounceAgent, AnnounceTool
from playhead.errors import Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId, parse_cursor
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.agui.asking import KIND, RunInput, ask, open_interrupts
from playhead_gateway.answers import Add, json_answer
from playhead_gateway.bodies import read_body
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem
from playhead_gateway.projections.agui import AgUi, Window
from playhead_gateway.watch import NO_STORE, stream_of

__all__ = ["add_agui_routes"]

HISTORY_TIMES = 16
"""A client sends its whole conversation each time, so a body may be this much larger than other bodies."""

NAME = {"type": "string", "minLength": 1, "maxLength": 255}
AGENT = {"name": "agent", "in": "query", "schema": {"type": "string"}}
THREAD = {"name": "thread", "in": "path", "required": True, "schema": NAME | {"pattern": "^[^/]+$"}}
AFTER = {"name": "after", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9a-f]{8})?$"}}


def add_agui_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of AG-UI."""
    routes = AgUiRoutes(gateway)
    told, resumed = Answer(200, streams=True), Answer(200, streams=True, is_empty_at_end=True)
    add("POST", "/agui", routes.run, told, body=RunInput, has_key=False, parameters=[AGENT], scope="sessions:write")
    offered = Answer(200, {"type": "object"})
    add("GET", "/agui/capabilities", routes.capabilities, offered, parameters=[AGENT], scope="sessions:read")
    parameters = [THREAD, AFTER]
    add("GET", "/agui/{thread}/events", routes.events, resumed, parameters=parameters, scope="sessions:read")


class AgUiRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def run(self, request: Request) -> Response:
        """Take messages and answers, and tell of the run that they make, or of the one that they made before."""
        gateway, limits = self._gateway, self._gateway.limits
        roomier = replace(limits, body_bytes_max=limits.body_bytes_max * HISTORY_TIMES)
        given = await read_body(request, RunInput, roomier)
        if given.tools:
            detail = (
                "tools that the client would run are not taken: send `tools: []`, and give the agent tools of workers"
            )
            raise Problem(422, "client-tools", detail)
        if gateway.fanout.draining:
            raise Unavailable("this gateway is draining")  # nothing was begun
        session = await gateway.named_session(request, KIND, given.thread)
        state = (await gateway.began(session)).state
        following = await ask(gateway, request, given, state)
        window = Window(following.until, following.first, following.answers)
        dialect = AgUi(given.thread, window, {following.until: given.run})
        return await stream_of(gateway, session, BEGINNING, dialect, request)

    async def events(self, request: Request) -> Response:
        """Tell of a thread from a cursor on; without one, how it stands and what comes."""
        gateway, thread = self._gateway, str(request.path_params["thread"])
        session = await gateway.find_session(request, KIND, thread)
        after = request.query_params.get("after")
        cursor = parse_cursor(after) if after else None
        if cursor is not None:
            await self._check(session, cursor)
        folded = await gateway.began(session)
        state, last_seq = folded.state, folded.head.seq
        rests = not state.waiting if state.run is None else bool(open_interrupts(state))
        knows = not (state.runs or state.run) if cursor is None else cursor.seq >= last_seq
        if rests and knows:
            return Response(status_code=204, headers=NO_STORE)
        window = Window(after=last_seq if cursor is None else cursor.seq, last_seq=last_seq, restates=cursor is None)
        return await stream_of(gateway, session, BEGINNING, AgUi(thread, window), request)

    async def capabilities(self, request: Request) -> Response:
        """Show what an agent offers, as `AgentCapabilities`. AG-UI gives that no address; this one is ours."""
        gateway, principal = self._gateway, principal_of(request)
        named = request.query_params.get("agent") or gateway.catalog.default_agent
        gateway.check_agent(principal, named)
        agent = next((one for one in gateway.agents_for(principal) if one.name == named), None)
        wanted = frozenset[str]() if agent is None else frozenset(agent.tools)
        tools = [tool for tool in gateway.tools_for(principal) if tool.name in wanted]
        return json_answer(_capabilities(agent, tools))

    async def _check(self, session: SessionId, cursor: Cursor) -> None:
        """Have the log say whether a cursor is on it. Raises `CursorConflict`, `CursorExpired`."""
        async with aclosing(self._gateway.parts.log.read(session, cursor)) as pages:
            async for _ in pages:
                return


def _capabilities(agent: AnnounceAgent | None, tools: list[AnnounceTool]) -> dict[str, Any]:
    items = [
        {"name": tool.name, "description": tool.description, "parameters": orjson.Fragment(tool.input_schema)}
        for tool in tools
    ]
    shown: dict[str, Any] = {
        "transport": {
            "streaming": True,
            "websocket": False,
            "httpBinary": False,
            "pushNotifications": False,
            "resumable": True,
        },
        "tools": {"supported": True, "parallelCalls": True, "clientProvided": False, "items": items},
        "state": {"snapshots": False, "deltas": False},
        "reasoning": {"supported": True, "streaming": True, "encrypted": False},
        "multimodal": {"input": {"image": True, "pdf": True, "audio": False, "video": False}},
        "humanInTheLoop": {"supported": True, "interrupts": True, "approvals": False},
        "custom": {"playhead": {"resume": "/agui/{threadId}/events?after={cursor}"}},
    }
    if agent is None:
        return shown
    identity = {"name": agent.name, "type": "playhead", "description": agent.description, "version": agent.version}
    return {"identity": identity, **shown}
