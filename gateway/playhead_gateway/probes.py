"""Whether a process lives, whether it should get work, and its metrics. Every role serves these: Starlette alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from playhead.telemetry import Telemetry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["EXPOSITION", "Admit", "Checks", "anybody", "probe_routes", "probes"]

Checks = Callable[[], Mapping[str, str | None]]
"""Names what readiness depends on, each with why it is not given, or None where it is."""

Admit = Callable[[Request], Awaitable[None]]
"""Lets an operator see the metrics, or raises."""

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


async def anybody(_: Request) -> None:
    """Admit whoever asks: a role's probes listen where operators alone can reach them."""


def probe_routes(telemetry: Telemetry, checks: Checks, admit: Admit = anybody) -> list[Route]:
    """Make the routes `/livez`, `/readyz` and `/metrics`; the last is for those whom `admit` lets in.

    `/livez` depends on nothing but a turning event loop: a restart must be able to mend what it reports.
    """

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        found = {name: reason or "ok" for name, reason in checks().items()}
        ready = all(reason == "ok" for reason in found.values())
        return JSONResponse({"status": "ok" if ready else "not ready", "checks": found}, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        await admit(request)
        return Response(telemetry.exposition(), media_type=EXPOSITION)

    return [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


def probes(telemetry: Telemetry, checks: Checks) -> Starlette:
    """Make an application of the probes alone, for roles that serve nothing else."""
    return Starlette(routes=probe_routes(telemetry, checks))
