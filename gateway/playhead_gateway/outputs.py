"""What tools returned that was too large for an event: given whole, to who names it."""

from __future__ import annotations

from playhead.errors import Invalid, NotArchived, TooLarge, UnknownSession
from playhead.ids import parse_session_id
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.answers import Add
from playhead_gateway.gateway import Gateway
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem

__all__ = ["add_output_routes"]

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


def add_output_routes(add: Add, gateway: Gateway) -> None:
    """Add the route of outputs."""
    archive, bytes_max = gateway.parts.archive, gateway.limits.output_bytes_max

    async def output(request: Request) -> Response:
        """Give an output. It is a tool's, so a stranger's: no browser is to take it for a page of ours."""
        session, name = parse_session_id(str(request.path_params["session"])), str(request.path_params["name"])
        try:
            if archive is None:
                raise NotArchived("this gateway has no archive")
            data = await archive.get(session, name, bytes_max)
        except TooLarge:
            raise
        except (Invalid, NotArchived, UnknownSession) as error:
            raise Problem(404, "unknown-output", f"there is no output {name[:80]} of this session") from error
        headers = HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, 200, headers, "application/octet-stream")

    add("GET", "/v1/sessions/{session}/outputs/{name}", output, Answer(200, is_bytes=True), scope="sessions:read")
