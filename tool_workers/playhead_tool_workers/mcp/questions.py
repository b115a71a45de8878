"""What an MCP server asks before it can go on, as a question to the user, and the answer as what it waits for. Pure.

A server asks one thing or several, by form or by URL; the user is asked once. What it must be given back travels in the
question's state, so that any worker can go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    InputResponse,
)
from playhead.content import Answer, Question
from playhead.tools import ToolFailed
from pydantic import ValidationError

__all__ = ["Resumption", "question_of", "resumption_of", "url_question"]

ASKED_MAX = 20
"""How many things a server may ask at a time."""

DECLINED = ElicitResult(action="decline")

DONE = {"type": "boolean", "description": "true once it is done, false to decline"}

Asked = ElicitRequestFormParams | ElicitRequestURLParams


@dataclass(frozen=True, slots=True)
class Resumption:
    """With what a call goes on."""

    responses: dict[str, InputResponse] | None = None
    state: str | None = None


def question_of(required: InputRequiredResult) -> Question:
    """Ask the user all that a server asks. Raises `ToolFailed` for what only a client of another kind has."""
    asked: dict[str, Asked] = {}
    for key, request in (required.input_requests or {}).items():
        if not isinstance(request, ElicitRequest):
            raise ToolFailed(f"the tool asks its client for {request.method}, which Playhead does not offer to servers")
        asked[key] = request.params
    if len(asked) > ASKED_MAX:
        raise ToolFailed(f"the tool asks {len(asked)} things at a time, and {ASKED_MAX} is the most")
    state = {
        "state": required.request_state,
        "asked": {key: {"mode": one.mode, "fields": _fields(one)} for key, one in asked.items()},
    }
    if len(asked) == 1:
        only = next(iter(asked.values()))
        return Question(_words(only), schema=_schema(only), state=state)
    schema = {
        "type": "object",
        "properties": {key: {**_schema(one), "title": one.message} for key, one in asked.items()},
        "required": list(asked),
    }
    return Question("\n\n".join(_words(one) for one in asked.values()), schema=schema, state=state)


def url_question(urls: list[ElicitRequestURLParams]) -> Question:
    """Ask the user to visit what an older server says must be visited first; then the call is made again."""
    words = "\n\n".join(_words(one) for one in urls[:ASKED_MAX])
    return Question(words, schema=DONE, state={"state": None, "asked": None})


def resumption_of(answer: Answer | None) -> Resumption:
    """Give what the server waits for. Raises `ToolFailed` where the user declined what must come first."""
    if answer is None:
        return Resumption()
    state = cast("Mapping[str, Any]", answer.state)
    asked = cast("Mapping[str, Mapping[str, Any]] | None", state["asked"])
    content: object = answer.content
    if asked is None:
        if not _agreed(content):
            raise ToolFailed("the user declined what the tool needs first")
        return Resumption()
    if len(asked) == 1:
        key, how = next(iter(asked.items()))
        return Resumption({key: _response(how, content)}, state["state"])
    given: Mapping[str, object] = cast("Mapping[str, object]", content) if isinstance(content, Mapping) else {}
    return Resumption({key: _response(how, given.get(key)) for key, how in asked.items()}, state["state"])


def _words(asked: Asked) -> str:
    return asked.message if isinstance(asked, ElicitRequestFormParams) else f"{asked.message}\n{asked.url}"


def _schema(asked: Asked) -> dict[str, Any]:
    return dict(asked.requested_schema) if isinstance(asked, ElicitRequestFormParams) else DONE


def _fields(asked: Asked) -> dict[str, str]:
    """The fields of a form, each with its type."""
    if not isinstance(asked, ElicitRequestFormParams):
        return {}
    named: object = asked.requested_schema.get("properties")
    properties: Mapping[str, object] = cast("Mapping[str, object]", named) if isinstance(named, Mapping) else {}
    return {name: _type(one) for name, one in properties.items()}


def _type(described: object) -> str:
    known: Mapping[str, object] = cast("Mapping[str, object]", described) if isinstance(described, Mapping) else {}
    return str(known.get("type", "string"))


def _response(how: Mapping[str, Any], content: object) -> ElicitResult:
    """Accept with what was given, or decline: by null or false, or by an answer that no field can take."""
    if how["mode"] == "url":
        return ElicitResult(action="accept" if _agreed(content) else "decline")
    if isinstance(content, str):
        content = _read(content, cast("Mapping[str, str]", how["fields"]))
    if not isinstance(content, Mapping):
        return DECLINED
    try:
        return ElicitResult(action="accept", content=dict(cast("Mapping[str, Any]", content)))
    except ValidationError:
        return DECLINED


def _read(text: str, fields: Mapping[str, str]) -> object:
    """Read an answer that was typed: the object as JSON, or the value of the only field."""
    try:
        read: object = json.loads(text)
    except ValueError:
        read = text
    if isinstance(read, Mapping) or len(fields) != 1:
        return cast("object", read)
    name, kind = next(iter(fields.items()))
    return {name: text if kind == "string" else read}


def _agreed(content: object) -> bool:
    return content is True or (isinstance(content, str) and content.strip().lower() in {"true", "yes", "done", "ok"})
