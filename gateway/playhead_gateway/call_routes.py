"""The routes of calls: results and answers that come from outside."""

from __future__ import annotations

from dataclasses import replace

import orjson
from fastapi import Security
from fastapi.security import HTTPBearer
from playhead.events import Json
from playhead.ids import parse_session_id
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.answers import Add, json_answer, replay
from playhead_gateway.bodies import AnswerBody, ResultBody, idempotency_key, json_text, read_body
from playhead_gateway.entry import principal_of
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import NewAnswer
from playhead_gateway.openapi import Answer

__all__ = ["add_call_routes"]

TICKET = HTTPBearer(
    scheme_name="ticket",
    bearerFormat="<session>.<call>.<lease>",
    description="What `ToolContext.ticket` gave for the call.",
    auto_error=False,
)
"""Only described by this: a ticket is checked by `Deliveries`, with a problem of ours where it is wrong."""


def add_call_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of calls."""
    routes = CallRoutes(gateway)
    delivered = Answer(202, openapi.DELIVERED)
    result = "/v1/calls/{call_id}/result"
    add(
        "POST",
        result,
        routes.result,
        delivered,
        body=ResultBody,
        has_key=False,
        dependencies=[Security(TICKET)],
        scope=None,
    )
    answer = "/v1/sessions/{session}/answers/{question_id}"
    add("POST", answer, routes.answer, Answer(202, openapi.ANSWERED), body=AnswerBody, scope="sessions:write")


class CallRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.limits

    async def result(self, request: Request) -> Response:
        """Take the result of a call that waits for one from outside; a second one changes nothing."""
        call_id = str(request.path_params["call_id"])
        report = self._gateway.deliveries.admit(request.headers.get("authorization"), call_id)
        body = await read_body(request, ResultBody, self._limits)
        if body.failed:
            told = {"type": "ToolFailed", "message": body.error}  # as a tool that raises it has its result
            report = replace(report, status="error", output=Json(orjson.dumps(told).decode()))
        else:
            report = replace(report, output=json_text(body.output, "a result", self._limits.content_bytes_max))
        await self._gateway.deliveries.deliver(report)
        return json_answer({"call_id": report.call_id}, 202)

    async def answer(self, request: Request) -> Response:
        """Answer a question: the call that asked it goes on."""
        session, key = parse_session_id(str(request.path_params["session"])), idempotency_key(request)
        body = await read_body(request, AnswerBody, self._limits)
        content = json_text(body.content, "an answer", self._limits.content_bytes_max)
        given = NewAnswer(str(request.path_params["question_id"]), content, principal_of(request).name)
        state = (await self._gateway.folded(session)).state
        found = await self._gateway.questions.all(session)
        replayed = await self._gateway.intake.answer(state, given, key, found)
        return json_answer({"id": session, "question_id": given.question}, 202, replay(replayed))
