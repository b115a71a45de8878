"""The JavaScript client, as a file that any page can import. It is nobody's secret, so nobody is asked who he is."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["static_routes"]

MODULE = "playhead.js"


def static_routes() -> list[Route]:
    """Make the route `/static/playhead.js`. Who has the file asks whether it is still the same: it may be upgraded."""
    body = files("playhead_gateway").joinpath("static", MODULE).read_bytes()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}

    async def module(request: Request) -> Response:
        given = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
        if tag in given or "*" in given:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/javascript")

    return [Route(f"/static/{MODULE}", module, methods=["GET"])]
