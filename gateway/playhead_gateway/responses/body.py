"""What a client of the OpenAI Responses API may ask for, and what of it is refused. Nothing is taken in silence that
would change the answer: an agent's instructions, tools and limits are its own.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, WithJsonSchema

from playhead_gateway.bodies import Body, Name
from playhead_gateway.responses.errors import Refused

__all__ = ["CreateBody", "content_of", "refuse_unsupported"]

PAIRS_MAX, KEY_MAX, VALUE_MAX = 16, 64, 512
NAME_MAX = 200

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
WEB_URL = re.compile(r"https?://.+", re.DOTALL)

Item = dict[str, Any]  # Any: checked part by part, below

TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "input_text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
INPUT_SHAPE = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "type": {"const": "message"},
                    "role": {"const": "user"},
                    "content": {
                        "anyOf": [
                            {"type": "string", "minLength": 1},
                            {"type": "array", "minItems": 1, "items": TEXT_PART},
                        ]
                    },
                },
                "required": ["role", "content"],
            },
        },
    ]
}
NAME_SHAPE = {"type": "string", "minLength": 1, "maxLength": NAME_MAX}
CONVERSATION_SHAPE: dict[str, Any] = {
    "anyOf": [
        NAME_SHAPE,
        {"type": "object", "properties": {"id": NAME_SHAPE}, "required": ["id"]},
        {"type": "null"},
    ]
}
NO_TEXT: dict[str, Any] = {"type": ["string", "null"], "maxLength": 0}
NO_ITEMS: dict[str, Any] = {"type": ["array", "null"], "maxItems": 0}

EXAMPLES: list[Any] = [
    {"model": "support", "input": "What time is it in Oslo?"},
    {"model": "support", "input": [{"role": "user", "content": "And in Rome?"}], "background": True, "stream": True},
]


class CreateBody(Body):
    """A request for a response. What is not named here is ignored."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": EXAMPLES})

    input: Annotated[str | list[Item], Field(min_length=1), WithJsonSchema(INPUT_SHAPE)]
    model: Name | None = None
    stream: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Annotated[Name | dict[str, Any] | None, WithJsonSchema(CONVERSATION_SHAPE)] = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=KEY_MAX)], Annotated[str, Field(max_length=VALUE_MAX)]],
            Field(max_length=PAIRS_MAX),
        ]
        | None
    ) = None
    instructions: Annotated[Any, WithJsonSchema(NO_TEXT)] = None
    max_output_tokens: Annotated[int | None, WithJsonSchema({"type": "null"})] = None
    store: Annotated[bool | None, WithJsonSchema({"enum": [True, None]})] = None
    tools: Annotated[list[Any] | None, WithJsonSchema(NO_ITEMS)] = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation's name, given alone or as an object. Raises `Refused`."""
        match self.conversation:
            case None | str() as name:
                return name
            case {"id": str(name)} if 0 < len(name) <= NAME_MAX:
                return name
            case _:
                raise Refused("conversation", "`conversation` is an id, or an object with one", "invalid_type")


def refuse_unsupported(body: CreateBody) -> None:
    """Refuse what cannot be honoured. Raises `Refused`."""
    if body.instructions:
        raise Refused("instructions", "an agent's instructions are its own: choose an agent by `model`")
    if body.tools:
        raise Refused("tools", "tools that the client brings are not taken: an agent's tools run on the server")
    if body.max_output_tokens is not None:
        raise Refused("max_output_tokens", "how much an agent may answer is configured with the agent")
    if body.store is False:
        raise Refused("store", "a response lives in its session's log, so it is always stored")
    if body.previous_response_id is not None and body.conversation is not None:
        advice = "give `previous_response_id` or `conversation`, not both"
        raise Refused("conversation", advice, "mutually_exclusive_parameters")


def content_of(given: str | list[Item]) -> str | list[Item]:
    """Give the input as the content of one user message. Raises `Refused`."""
    if isinstance(given, str):
        return given
    blocks: list[Item] = []
    for place, item in enumerate(given):
        where = f"input[{place}]"
        kind, role = item.get("type", "message"), item.get("role")
        if kind != "message" or role != "user":
            what = f"an item of the type {kind!r}" if kind != "message" else f"a message of the role {role!r}"
            advice = "only messages of the user are taken: what was said before is kept here (`previous_response_id`)"
            raise Refused(where, f"{what} cannot be taken; {advice}", "unsupported_value")
        content: object = item.get("content")
        if isinstance(content, str):
            content = [{"type": "input_text", "text": content}]
        if not isinstance(content, list) or not content:
            raise Refused(where, "`content` must be a string or a list of parts, and not empty", "invalid_type")
        parts = enumerate(cast("list[object]", content))
        blocks += [_block(part, f"{where}.content[{number}]") for number, part in parts]
    return blocks


def _block(part: object, where: str) -> Item:
    match part:
        case {"type": "input_text", "text": str(text)} if text:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            return {"type": "image", "source": _source(url, where)}
        case {"type": "input_file", "file_data": str(data), "filename": str(name)}:
            return {"type": "document", "source": _source(data, where), "title": name}
        case {"type": "input_file", "file_data": str(data)}:
            return {"type": "document", "source": _source(data, where)}
        case {"type": "input_file", "file_url": str(url)}:
            return {"type": "document", "source": _source(url, where)}
        case _:
            known = "input_text, input_image with an image_url, input_file with file_data or a file_url"
            raise Refused(where, f"this part cannot be taken; there are {known}", "unsupported_value")


def _source(url: str, where: str) -> Item:
    if found := DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": found[1], "data": found[2]}
    if WEB_URL.fullmatch(url):
        return {"type": "url", "url": url}
    raise Refused(where, "give a `data:<type>;base64,…` or an `https:` URL", "invalid_value")
