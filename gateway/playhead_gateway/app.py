"""The HTTP application: routes, probes, and how errors look."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI
from playhead.errors import PlayheadError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from playhead_gateway.gateway import Gateway, GatewayParts
from playhead_gateway.guard import Guard
from playhead_gateway.probes import probe_routes
from playhead_gateway.problems import Problem, problem_of, problem_response
from playhead_gateway.routes import add_routes
from playhead_gateway.sockets.routes import socket_routes
from playhead_gateway.static_routes import static_routes

__all__ = ["Gateway", "GatewayParts", "create_app"]

CORS_REQUEST_HEADERS = (
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Traceparent",
    "X-API-Key",
)
CORS_RESPONSE_HEADERS = (
    "Content-Location",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "Stream-Closed",
    "Stream-Cursor",
    "Stream-Next-Offset",
    "Stream-Up-To-Date",
    "WWW-Authenticate",
)


def create_app(gateway: Gateway | GatewayParts) -> FastAPI:
    """Make the application. Its lifespan runs the gateway; who runs that otherwise serves it without lifespan."""
    serving = gateway if isinstance(gateway, Gateway) else Gateway(gateway)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        async with serving.running():
            yield

    app = FastAPI(title="Playhead", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.gateway = serving
    _add_rings(app, serving)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(PlayheadError, _playhead_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.router.routes.extend(probe_routes(serving.telemetry, serving.checks, partial(_operators_only, serving)))
    app.router.routes.extend(socket_routes(serving))
    app.router.routes.extend(static_routes())
    add_routes(app, serving)
    return app


def _add_rings(app: FastAPI, gateway: Gateway) -> None:
    """Add what every request passes: the last to be added is the first to see it."""
    origins = _origins(gateway)
    authenticates = gateway.parts.authenticate is not None
    if origins or authenticates:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_RESPONSE_HEADERS,
            allow_credentials=authenticates and "*" not in origins,
        )
    app.add_middleware(Guard, limits=gateway.limits, origins=origins)


def _origins(gateway: Gateway) -> Collection[str]:
    allowed, authenticate = gateway.limits.allowed_origins, gateway.parts.authenticate
    if authenticate is None:
        return allowed
    from playhead_gateway.access.authenticator import Authenticator  # noqa: PLC0415 - as in `routes`
    from playhead_gateway.access.origins import Origins  # noqa: PLC0415

    return Origins(allowed, authenticate) if isinstance(authenticate, Authenticator) else allowed


async def _operators_only(gateway: Gateway, request: Request) -> None:
    """Admit operators: what is counted is counted for all tenants."""
    await gateway.entry.admit(request, "admin", "GET /metrics")


async def _problem(_: Request, error: Exception) -> Response:
    return problem_response(cast("Problem", error))


async def _playhead_error(_: Request, error: Exception) -> Response:
    problem = problem_of(cast("PlayheadError", error))
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error  # ours: logged at the edge
    return problem_response(problem)


async def _http_error(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    path = request.url.path
    match found.status_code:
        case 404:
            problem = Problem(404, "not-found", f"there is nothing at {path}")
        case 405:
            allow = {"Allow": ", ".join(sorted(_methods_at(request)))}
            problem = Problem(405, "method-not-allowed", f"{request.method} is not for {path}", headers=allow)
        case status:
            problem = Problem(status, "refused", str(found.detail), headers=found.headers)
    return problem_response(problem)


def _methods_at(request: Request) -> set[str]:
    """List what may be asked of a path: the router itself only says what its first route for it takes."""
    app = cast("FastAPI", request.app)
    routes = [route for route in app.routes if isinstance(route, Route)]
    return {
        method
        for route in routes
        if route.path_regex.fullmatch(request.scope["path"])
        for method in route.methods or ()
    }
