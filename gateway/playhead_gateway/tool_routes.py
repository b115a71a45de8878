"""The routes of tools: which there are, and calls that somebody makes by hand."""

from __future__ import annotations

from playhead.commands import AnnounceTool
from playhead.session import empty
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.answers import Add, json_answer, replay
from playhead_gateway.bodies import CallBody, idempotency_key, json_text, read_body
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import NewCall
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem
from playhead_gateway.query import trace_of
from playhead_gateway.views import View, tool_view

__all__ = ["add_tool_routes"]

NAMES_SHOWN_MAX = 100
"""How many tools a refusal names."""


def add_tool_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of tools."""
    routes = ToolRoutes(gateway)
    add("GET", "/v1/tools", routes.tools, Answer(200, openapi.TOOLS), scope="sessions:read")
    add("GET", "/v1/tools/{tool}", routes.tool, Answer(200, openapi.TOOL), scope="sessions:read")
    add(
        "POST",
        "/v1/tools/{tool}/calls",
        routes.call,
        Answer(202, openapi.CALLED),
        body=CallBody,
        scope="sessions:write",
    )


class ToolRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.limits

    async def tools(self, request: Request) -> Response:
        """List the tools that workers announced."""
        tools = self._gateway.tools_for(principal_of(request))
        return json_answer({"tools": [self._view(tool) for tool in tools]})

    async def tool(self, request: Request) -> Response:
        """Show one tool."""
        return json_answer(self._view(self._find(request)))

    async def call(self, request: Request) -> Response:
        """Begin a session that makes one call of a tool."""
        key, tool, limits = idempotency_key(request), self._find(request), self._limits
        body = await read_body(request, CallBody, limits)
        given = json_text(body.input, "an input", limits.content_bytes_max)
        metadata = json_text(body.metadata, "metadata", limits.metadata_bytes_max)
        principal = principal_of(request)
        new = NewCall(tool.name, given, metadata, principal.tenant)
        session = await self._gateway.new_session(principal, key)
        state = empty(session) if key is None else (await self._gateway.began(session)).state
        called = await self._gateway.intake.call(state, new, key, trace_of(request))
        headers = replay(called.replayed) | {"Location": f"/v1/sessions/{session}"}
        return json_answer({"id": session, "run_id": called.run_id}, 202, headers)

    def _find(self, request: Request) -> AnnounceTool:
        """Find a tool by its name; where several pools have it, that of the first, which is also who gets calls."""
        name, tools = str(request.path_params["tool"]), self._gateway.tools_for(principal_of(request))
        found = next((tool for tool in tools if tool.name == name), None)
        if found is None:
            known = sorted({tool.name for tool in tools})[:NAMES_SHOWN_MAX]
            detail = f"no tool is named {name!r}; there are: {', '.join(known) or 'none'}"
            raise Problem(404, "unknown-tool", detail, tools=known)
        return found

    def _view(self, tool: AnnounceTool) -> View:
        breaker = self._gateway.catalog.breaker(tool.pool, tool.name)
        return tool_view(tool, breaker, self._gateway.parts.clock())
