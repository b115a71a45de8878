"""All that strangers' bytes reach, and the targets that try it.

A module of the product that reads what others wrote stands here once: with the targets that reach it, or with the
reason why there is none. `test_surfaces.py` finds those modules by what they call.
"""

from __future__ import annotations

from tests.fuzz import asked, called, credentials, heard, hosted, received, shown, spoken, stored, tooled
from tests.fuzz.target import Target

__all__ = ["NOT_FROM_STRANGERS", "SURFACES", "TARGETS", "named"]

TARGETS: tuple[Target, ...] = (
    *(*stored.TARGETS, *received.TARGETS, *asked.TARGETS, *called.TARGETS, *credentials.TARGETS),
    *(*spoken.TARGETS, *shown.TARGETS, *tooled.TARGETS, *hosted.TARGETS, *heard.TARGETS),
)

SURFACES: dict[str, tuple[str, ...]] = {
    "playhead.codec": ("commands", "records"),
    "playhead.accept": ("records",),
    "playhead.canonical": ("canonical-json", "commands", "tool-outputs"),
    "playhead.adapters.progress": ("commit-metadata",),
    "playhead.adapters.archive": ("archive-names",),
    "playhead.ids": ("cursors-and-ids",),
    "playhead.session.decide": ("commands-to-a-session",),
    "playhead.session.fold": ("commands-to-a-session",),
    "playhead.session.hearing": ("commands-to-a-session",),
    "playhead_orchestrator.dispatch": ("commands-to-a-session", "anthropic-stream"),
    "playhead_orchestrator.prompt": ("commands-to-a-session", "anthropic-stream", "openai-stream"),
    "playhead_gateway.connection": ("http",),
    "playhead_gateway.query": ("http",),
    "playhead_gateway.bodies": ("http", "websocket-messages", "grpc-documents"),
    "playhead_gateway.app": ("http",),
    "playhead_gateway.guard": ("http",),
    "playhead_gateway.routes": ("http",),
    "playhead_gateway.intake": ("http", "websocket-messages"),
    "playhead_gateway.call_routes": ("http",),
    "playhead_gateway.deliveries": ("http",),
    "playhead_gateway.durable_routes": ("http",),
    "playhead_gateway.letter_routes": ("http",),
    "playhead_gateway.tool_routes": ("http",),
    "playhead_gateway.ui_routes": ("http",),
    "playhead_gateway.agui.routes": ("http",),
    "playhead_gateway.responses.asking": ("http",),
    "playhead_gateway.responses.body": ("http",),
    "playhead_gateway.responses.reading": ("http", "views-of-a-log"),
    "playhead_gateway.responses.routes": ("http",),
    "playhead_gateway.sockets.connection": ("websocket-frames",),
    "playhead_gateway.sockets.commands": ("websocket-messages",),
    "playhead_gateway.grpc.service": ("grpc-requests", "grpc-documents"),
    "playhead_gateway.grpc.inside": ("grpc-requests",),
    "playhead_gateway.access.asking": ("credentials",),
    "playhead_gateway.access.cookies": ("credentials",),
    "playhead_gateway.access.keys": ("credentials",),
    "playhead_gateway.access.signed": ("credentials",),
    "playhead_gateway.access.claims": ("tokens",),
    "playhead_gateway.access.tokens": ("tokens",),
    "playhead_gateway.access.jwks": ("issuer-keys",),
    "playhead_gateway.projections.durable": ("cursors-and-ids", "views-of-a-log"),
    "playhead_gateway.projections.response_name": ("cursors-and-ids",),
    "playhead_gateway.projections.agui": ("views-of-a-log",),
    "playhead_gateway.projections.responses": ("views-of-a-log",),
    "playhead_gateway.projections.sse": ("views-of-a-log",),
    "playhead_gateway.projections.ui_content": ("http", "views-of-a-log"),
    "playhead_gateway.projections.ui_stream": ("views-of-a-log",),
    "playhead_gateway.views": ("http", "views-of-a-log"),
    "playhead_orchestrator.adapters.reading": ("anthropic-stream", "openai-stream"),
    "playhead_orchestrator.adapters.sse_lines": ("anthropic-stream", "openai-stream"),
    "playhead_orchestrator.adapters.claude_wire": ("anthropic-stream",),
    "playhead_orchestrator.adapters.openai_wire": ("openai-stream",),
    "playhead_orchestrator.adapters.failures": ("provider-headers",),
    "playhead_orchestrator.gather": ("anthropic-stream", "openai-stream"),
    "playhead_orchestrator.speaking": ("anthropic-stream", "openai-stream"),
    "playhead.arguments": ("tool-arguments",),
    "playhead_tool_workers.outcome": ("tool-outputs",),
    "playhead_tool_workers.output": ("tool-outputs", "mcp-results"),
    "playhead_tool_workers.ends": ("tool-outputs", "mcp-results"),
    "playhead_tool_workers.mcp.arguments": ("tool-arguments", "mcp-offers"),
    "playhead_tool_workers.mcp.offering": ("mcp-offers",),
    "playhead_tool_workers.mcp.calling": ("mcp-results",),
    "playhead_tool_workers.mcp.results": ("mcp-results",),
    "playhead_tool_workers.mcp.questions": ("mcp-results",),
    "playhead_tool_workers.mcp.connection": ("mcp-servers",),
    "playhead.client.asking": ("python-client",),
    "playhead.client.watching": ("python-client",),
    "playhead.client.sessions": ("python-client",),
}
"""Modules that strangers' bytes reach, each with its targets. `playhead.js` has `javascript-client`."""

NOT_FROM_STRANGERS = {
    "playhead.agents": "an application's own definitions",
    "playhead.declaring": "an application's own definitions",
    "playhead.guard": "what a tool of the application returned; it has tests of its own",
    "playhead.options": "an application's own definitions",
    "playhead.redaction": "secrets that the operator names",
    "playhead.returns": "what a tool of the application returned; it has tests of its own",
    "playhead.secrets": "references that the operator writes",
    "playhead_gateway.access.rules": "the access file, which the operator writes",
    "playhead_gateway.letters": "commands that the codec has checked, and bytes that are only shown",
    "playhead_gateway.pace": "an application's own definitions",
    "playhead_orchestrator.adapters.scenario": "the scenario file of a developer",
    "playhead_orchestrator.catalogue": "announcements that the codec has checked",
    "playhead_tool_workers.execute": "commands that the codec has checked",
    "playhead_tool_workers.mcp.servers": "flags that the operator writes",
}


def named(name: str) -> Target:
    """Find a target."""
    return next(target for target in TARGETS if target.name == name)
