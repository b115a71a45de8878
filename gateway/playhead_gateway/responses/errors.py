"""Refusals as the OpenAI API words them: `{"error": {"message", "type", "param", "code"}}`. Its clients read these."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

import orjson
from playhead.errors import PlayheadError
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway.answers import Endpoint
from playhead_gateway.entry import RATES, Entry
from playhead_gateway.principal import Scope
from playhead_gateway.problems import Problem, problem_of

__all__ = ["REFUSAL", "Refused", "enveloped", "unknown_response"]

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

SAID_OTHERWISE = {"unknown-agent": (404, "model_not_found"), "idempotency-mismatch": (400, "idempotency_mismatch")}
"""What has a status of its own there; else a 422 is a 400, and the code is ours."""

_TEXT_OR_NULL = {"type": ["string", "null"]}
REFUSAL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": _TEXT_OR_NULL,
                "code": _TEXT_OR_NULL,
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
"""The shape of a refusal, for the OpenAPI document."""


class Refused(Exception):
    """A request that is refused in this API's own words."""

    def __init__(self, param: str, message: str, code: str = "unsupported_parameter", status: int = 400) -> None:
        self.param = param
        self.code = code
        self.status = status
        super().__init__(message)


def unknown_response(name: str) -> Refused:
    """Refuse the id of a response that there is not, or that is not for who asks."""
    return Refused("response_id", f"Response with id {name[:200]!r} not found.", "response_not_found", 404)


def enveloped(entry: Entry, scope: Scope, action: str, endpoint: Endpoint) -> Endpoint:
    """Have an endpoint asked only by those who may, and word every refusal as this API does."""

    @wraps(endpoint)
    async def answering(request: Request) -> Response:
        try:
            await entry.admit(request, scope, action)
            response = await endpoint(request)
        except Refused as refusal:
            response = _answer(refusal.status, str(refusal), refusal.param, refusal.code)
        except Problem as problem:
            response = _worded(problem)
        except PlayheadError as error:
            problem = problem_of(error)
            if problem.status == 500:
                raise  # ours: logged at the edge
            response = _worded(problem)
        response.headers.update(request.scope.get(RATES, {}))
        return response

    return answering


def _worded(problem: Problem) -> Response:
    default = 400 if problem.status == 422 else problem.status, problem.code.replace("-", "_")
    status, code = SAID_OTHERWISE.get(problem.code, default)
    return _answer(status, problem.detail, _param(problem), code, problem.headers)


def _answer(
    status: int, message: str, param: str | None, code: str, headers: Mapping[str, str] | None = None
) -> Response:
    kind = "server_error" if status >= 500 else TYPES.get(status, "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    all_headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(orjson.dumps({"error": error}), status, all_headers, "application/json")


def _param(problem: Problem) -> str | None:
    if problem.code == "unknown-agent":
        return "model"
    errors: list[dict[str, str]] = problem.more.get("errors", [])
    pointed = errors[0]["pointer"].strip("/").partition("/")[0] if errors else ""
    return problem.more.get("parameter") or pointed or None
