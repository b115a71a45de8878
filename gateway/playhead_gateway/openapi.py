"""What the OpenAPI document says of each route: its parameters, its body, and the shapes of its answers.

It describes and decides nothing; `docs/protocol.md` says what the shapes mean. `tests/gateway/test_openapi.py` asks a
running gateway whether all of this is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from playhead_gateway.limits import Limits
from playhead_gateway.pace import SPEED_MAX

__all__ = [
    "AGENTS",
    "ANSWERED",
    "ASKED",
    "CALLED",
    "CANCELLED",
    "CLOSED",
    "COOKIE",
    "DELIVERED",
    "DIRECTORY",
    "EVENTS",
    "HANDLED",
    "LETTER",
    "LETTERS",
    "RAW",
    "SESSION",
    "STARTED",
    "TASK",
    "TASK_STARTED",
    "TICKET",
    "TOOL",
    "TOOLS",
    "Answer",
    "directory_parameters",
    "event_parameters",
    "letter_parameters",
    "operation",
]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
FREE: Schema = {"type": "object"}
SESSION_ID: Schema = {"type": "string", "pattern": "^ses_[0-9a-z]{26}$"}
CALL_ID: Schema = {"type": "string", "pattern": "^call_[0-9a-z]{26}$"}
QUESTION_ID: Schema = {"type": "string", "pattern": "^[0-9A-Za-z_.:-]{1,200}$"}
LETTER_ID: Schema = {"type": "string", "pattern": "^[0-9]{1,9}-[0-9]{1,18}$", "examples": ["0-17"]}
CURSOR: Schema = {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9a-f]{8})?$"}
TYPES: Schema = {"type": "string", "pattern": "^([a-z][a-z_]{0,63}(,[a-z][a-z_]{0,63}){0,63})?$"}
STATUS: Schema = {"type": "string", "enum": ["idle", "running", "waiting", "closed"]}
TASK_STATUS: Schema = {"type": "string", "enum": ["queued", "running", "completed", "failed", "cancelled"]}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers when all is well. A stream may stand beside the JSON or alone.

    `refusal` is the shape of its refusals where they are not problems.
    """

    status: int
    shape: Schema | None = None
    streams: bool = False
    is_empty_at_end: bool = False
    is_bytes: bool = False
    refusal: Schema | None = None


def _record(required: Schema, **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


ASKED = _record({"run_id": TEXT, "message_id": TEXT})
STARTED = _record(
    {"id": SESSION_ID, "agent": {"type": ["string", "null"]}, "status": STATUS, "last_seq": COUNT},
    run_id=TEXT,
    message_id=TEXT,
)
USAGE = _record(
    dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), COUNT),
)
SESSION = _record(
    {
        "id": SESSION_ID,
        "metadata": FREE,
        "status": STATUS,
        "messages": _list(_record({"role": TEXT, "run_id": TEXT, "content": ANYTHING}, message_id=TEXT)),
        "pending": _list(
            _record(
                {"type": TEXT, "run_id": TEXT},
                call_id=TEXT,
                name=TEXT,
                input=ANYTHING,
                effect=TEXT,
                pool=TEXT,
                worker=TEXT,
                waits_for=_list(TEXT),
                until=COUNT,
                question=_record({"question_id": TEXT, "content": ANYTHING}, schema=ANYTHING),
                message_id=TEXT,
                content=ANYTHING,
            )
        ),
        "usage": USAGE,
        "last_seq": COUNT,
        "cursor": CURSOR,
    },
    agent=TEXT,
    agent_version=TEXT,
    model=TEXT,
    run=_record({"run_id": TEXT, "message_id": TEXT, "started_at": COUNT, "step": COUNT, "attempt": COUNT}),
    created_at=COUNT,
    updated_at=COUNT,
)
DIRECTORY = _record(
    {
        "sessions": _list(
            _record(
                {
                    "id": SESSION_ID,
                    "agent": TEXT,
                    "status": STATUS,
                    "created_at": COUNT,
                    "updated_at": COUNT,
                    "last_seq": COUNT,
                    "metadata": FREE,
                }
            )
        )
    },
    next_cursor=TEXT,
)
EVENTS = _record(
    {"events": _list(_record({"seq": COUNT, "type": TEXT, "at": COUNT})), "next_after": CURSOR, "last_seq": COUNT}
)
ERROR = _record({"code": TEXT, "message": TEXT})
CANCELLED = _record({"id": SESSION_ID}, run_id=TEXT)
CLOSED = _record({"id": SESSION_ID})
ANSWERED = _record({"id": SESSION_ID, "question_id": QUESTION_ID})
DELIVERED = _record({"call_id": CALL_ID})
TASK_STARTED = _record({"id": SESSION_ID, "status": TASK_STATUS, "run_id": TEXT}, message_id=TEXT)
TASK = _record({"id": SESSION_ID, "status": TASK_STATUS}, result=TEXT, error=ERROR, run_id=TEXT)
CALLED = _record({"id": SESSION_ID, "run_id": TEXT})
TOOL = _record(
    {
        "pool": TEXT,
        "name": TEXT,
        "description": TEXT,
        "input_schema": ANYTHING,
        "schema_hash": TEXT,
        "effect": {"type": "string", "examples": ["read", "write", "once"]},
        "timeout_ms": COUNT,
        "retries": COUNT,
        "at": COUNT,
        "after": _list(TEXT),
        "exclusive": FLAG,
        "reconciles": FLAG,
        "approval": TEXT,
        "fallback": FLAG,
    },
    output_schema=ANYTHING,
    soft_timeout_ms=COUNT,
    concurrency=COUNT,
    key=TEXT,
    rate_limit=TEXT,
    cache_seconds={"type": "number"},
    breaker=_record({"state": {"type": "string", "enum": ["closed", "open", "half_open"]}}, until=COUNT, worker=TEXT),
)
LETTER = _record(
    {
        "id": LETTER_ID,
        "state": {"type": "string", "examples": ["new", "retried", "dropped"]},
        "at": COUNT,
        "topic": TEXT,
        "key": TEXT,
        "error": TEXT,
        "bytes": COUNT,
    },
    handled_at=COUNT,
    partition=COUNT,
    offset=COUNT,
    type=TEXT,
    obstacle=TEXT,
    session=TEXT,
    run_id=TEXT,
    call_id=TEXT,
    tool=TEXT,
    pool=TEXT,
    effect=TEXT,
    input=ANYTHING,
)
LETTERS = _record({"letters": _list(LETTER)}, next_cursor=LETTER_ID)
HANDLED = _record({"id": LETTER_ID, "state": TEXT})
TOOLS = _record({"tools": _list(TOOL)})
AGENTS = _record({"agents": _list(_record({"name": TEXT, "version": TEXT, "model": TEXT, "default": FLAG}))})
TICKET = _record({"ticket": TEXT, "expires_at": COUNT, "url": TEXT})
COOKIE = _record({"name": TEXT, "scopes": _list(TEXT), "expires_at": COUNT}, tenant=TEXT)
PROBLEM = _record({"type": TEXT, "title": TEXT, "status": COUNT, "detail": TEXT, "code": TEXT})

KEY = r'^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-[\]-~]|\\["\\]){1,255}")$'
"""What `bodies.idempotency_key` takes, bare or quoted."""

OUTPUT_NAME: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "examples": ["0" * 64]}

IN_PATH: dict[str, Schema] = {
    "session": SESSION_ID,
    "call_id": CALL_ID,
    "question_id": QUESTION_ID,
    "letter": LETTER_ID,
    "name": OUTPUT_NAME,
    "tool": {"type": "string", "pattern": "^[^/]+$"},
    "response_id": {"type": "string", "pattern": "^resp_[0-9a-z]{26}_[0-9a-z]{26}(_[1-9][0-9]{0,5})?(_function)?$"},
}
"""What may stand in a path, by its name there."""

IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": KEY},
}
LAST_EVENT_ID: Schema = {"name": "Last-Event-ID", "in": "header", "schema": CURSOR}


def _in_query(name: str, schema: Schema, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "schema": schema} | ({"required": True} if required else {})


def _up_to(most: int, default: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}


RAW: Schema = _in_query("raw", {"type": "string", "enum": ["true", "false"]})


def event_parameters(limits: Limits) -> list[Schema]:
    """Describe what may stand in the query of `GET …/events`."""
    return [
        _in_query("after", CURSOR),
        _in_query("limit", _up_to(limits.page_events_max, limits.page_events)),
        _in_query("types", TYPES),
        _in_query("deltas", {"type": "string", "enum": ["all", "final"]}),
        _in_query("until", {"type": "string", "pattern": "^([0-9]{1,18}(-[0-9a-f]{8})?|run_[0-9a-z]{26})$"}),
        _in_query("speed", {"type": "number", "exclusiveMinimum": 0, "maximum": SPEED_MAX}),
        _in_query("wait", {"type": "number", "exclusiveMinimum": 0, "maximum": limits.wait_seconds_max}),
        LAST_EVENT_ID,
    ]


def channel_parameters(limits: Limits) -> list[Schema]:
    """Describe what may stand in the query of `GET /v1/events`."""
    one, more = "ses_[0-9a-z]{26}", limits.channels_max - 1
    place = "[0-9]{1,18}(-[0-9a-f]{8})?"
    return [
        _in_query("sessions", {"type": "string", "pattern": f"^{one}(,{one}){{0,{more}}}$"}, required=True),
        _in_query("after", {"type": "string", "pattern": f"^{place}(\\.{place}){{0,{more}}}$"}),
        _in_query("types", TYPES),
        _in_query("deltas", {"type": "string", "enum": ["all", "final"]}),
    ]


def directory_parameters(limits: Limits) -> list[Schema]:
    """Describe what may stand in the query of `GET /v1/sessions`."""
    return [
        _in_query("status", STATUS),
        _in_query("agent", TEXT),
        _in_query("limit", _up_to(limits.directory_page_max, limits.directory_page)),
        _in_query("cursor", {"type": "string", "pattern": "^-?[0-9]{1,18}-ses_[0-9a-z]{26}$"}),
    ]


def letter_parameters(limits: Limits) -> list[Schema]:
    """Describe what may stand in the query of `GET /v1/deadletters`."""
    return [
        _in_query("state", {"type": "string", "enum": ["new", "retried", "dropped"]}),
        _in_query("limit", _up_to(limits.letters_page_max, limits.letters_page)),
        _in_query("cursor", LETTER_ID),
    ]


def _refused(answer: Answer) -> Schema:
    refused: Schema = {"application/problem+json": {"schema": PROBLEM}}
    if answer.refusal is not None:
        refused["application/json"] = {"schema": answer.refusal}
    return refused


def operation(
    path: str,
    answer: Answer,
    body: type[BaseModel] | None = None,
    parameters: list[Schema] | None = None,
    *,
    has_key: bool = True,
) -> dict[str, Any]:
    """Give what FastAPI is told of a route, as arguments of `add_api_route`. What has a body takes a key, or not."""
    content: Schema = {} if answer.shape is None else {"application/json": {"schema": answer.shape}}
    if answer.streams:
        content["text/event-stream"] = {"schema": ANYTHING}  # each event is what its protocol says
    if answer.is_bytes:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    responses: dict[int | str, Schema] = {
        answer.status: {"description": "Done, or taken to be done.", "content": content},
        "4XX": {"description": "Refused: the request must change.", "content": _refused(answer)},
        "5XX": {"description": "Not now.", "content": _refused(answer)},
    }
    if answer.is_empty_at_end:
        responses[204] = {"description": "The session is closed, and the cursor is at its end."}
    named: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in IN_PATH.items()
        if f"{{{name}}}" in path
    ]
    extra: Schema = {"parameters": named + (parameters or [])}
    if body is not None:
        if has_key:
            extra["parameters"] = [*extra["parameters"], IDEMPOTENCY_KEY]
        shape = body.model_json_schema()
        extra["requestBody"] = {
            "required": bool(shape.get("required") or shape.get("oneOf")),
            "content": {"application/json": {"schema": shape}},
        }
    return {
        "status_code": answer.status,
        "response_class": Response,
        "responses": responses,
        "openapi_extra": extra,
    }
