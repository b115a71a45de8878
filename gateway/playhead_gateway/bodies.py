"""What strangers send: read within bounds, then checked. Nothing of a body is believed before that."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import orjson
from playhead.errors import TooLarge
from playhead.events import Json
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from starlette.requests import ClientDisconnect, Request

from playhead_gateway.limits import Limits
from playhead_gateway.problems import Problem, invalid_body

__all__ = [
    "AnswerBody",
    "Body",
    "CallBody",
    "CancelBody",
    "CloseBody",
    "Content",
    "ResultBody",
    "SayBody",
    "StartBody",
    "StreamBody",
    "TaskBody",
    "checked",
    "idempotency_key",
    "json_text",
    "parsed",
    "read_body",
]

IDEMPOTENCY_KEY_MAX = 255
ERROR_CHARS_MAX = 2_000
QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
"""An RFC 8941 string, which the draft of the header wants. Nearly everyone sends it bare, so that is taken too."""
BARE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def _content(value: object) -> object:
    if isinstance(value, str):
        if not value:
            raise ValueError("must not be empty")
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("must be a non-empty string or a non-empty list of content blocks")
    for place, block in enumerate(cast("list[object]", value)):
        kind = cast("dict[str, object]", block).get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"block {place} must be an object whose `type` is a string")
    return cast("object", value)


CONTENT_SHAPE = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"type": {"type": "string", "minLength": 1}},
                "required": ["type"],
            },
        },
    ]
}
Content = Annotated[object, AfterValidator(_content), WithJsonSchema(CONTENT_SHAPE)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Body(BaseModel):
    """A request's body. Unknown members are refused: a misspelt `metadata` must not be lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _such_as(*examples: dict[str, Any]) -> ConfigDict:
    """Have the document show what a body can look like."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})


HELLO = {"agent": "support", "input": "What time is it in Oslo?", "metadata": {"tenant": "acme"}}


class StartBody(Body):
    """A new session, perhaps with its first message."""

    model_config = _such_as(HELLO)

    agent: Name | None = None
    input: Content | None = None
    metadata: dict[str, Any] = {}


class TaskBody(Body):
    """A new session that begins with a message."""

    model_config = _such_as(HELLO)

    agent: Name | None = None
    input: Content
    metadata: dict[str, Any] = {}


class StreamBody(TaskBody):
    """The same; `cancel_on_disconnect` has the run cancelled if the client leaves before its end."""

    cancel_on_disconnect: bool = False


class SayBody(Body):
    """A message to a session."""

    model_config = _such_as({"content": "And in Rome?", "mode": "queue"})

    content: Content
    mode: Literal["queue", "interrupt", "reject"] = "queue"


class AnswerBody(Body):
    """The answer to a question: any JSON."""

    model_config = _such_as({"content": "yes"}, {"content": {"amount": 12.5}})

    content: Any


class CallBody(Body):
    """One call of a tool: its arguments, and the metadata of the session that is begun for it."""

    model_config = _such_as({"input": {"city": "Oslo"}, "metadata": {"tenant": "acme"}})

    input: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class CancelBody(Body):
    """Which run to cancel; all of them if none is named."""

    model_config = _such_as({}, {"run_id": "run_" + "0" * 26})

    run_id: Annotated[str, Field(pattern=r"^run_[0-9a-z]{26}$")] | None = None


class CloseBody(Body):
    """Nothing needs saying."""

    model_config = _such_as({})


def _exactly_one(shape: dict[str, Any]) -> None:
    shape["oneOf"] = [{"required": ["output"]}, {"required": ["error"]}]
    for member in shape["properties"].values():
        member.pop("default", None)
    shape["examples"] = [{"output": {"paid": True}}, {"error": "the bank said no"}]


class ResultBody(Body):
    """What came of a call: its output, or in a sentence why there is none."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    output: Any = None
    error: Annotated[str, Field(min_length=1, max_length=ERROR_CHARS_MAX)] = ""

    @property
    def failed(self) -> bool:
        """Whether there is an error, and no output."""
        return "error" in self.model_fields_set

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of `output` and `error`")
        return self


B = TypeVar("B", bound=Body)


async def read_body(request: Request, kind: type[B], limits: Limits) -> B:
    """Read and check a request's JSON body; none at all is an empty object. Raises `Problem`."""
    return checked(_parse(await _read(request, limits), request, limits), kind)


def checked(value: object, kind: type[B]) -> B:
    """Check JSON that somebody sent. Raises `Problem`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        found = [
            {"pointer": "".join(f"/{_escaped(str(part))}" for part in one["loc"]), "detail": one["msg"]}
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise invalid_body(found) from None


def json_text(value: object, what: str, bytes_max: int) -> Json:
    """Write a checked value as the JSON that goes into the log. Raises `TooLarge`."""
    data = orjson.dumps(value)
    if len(data) > bytes_max:
        raise TooLarge(f"{what} of {len(data)} bytes", f"it may have {bytes_max}")
    return Json(data.decode())


def idempotency_key(request: Request) -> str | None:
    """Read the `Idempotency-Key`, quoted or bare. Raises `Problem`."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    quoted = QUOTED.fullmatch(given)
    if quoted is not None:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    else:
        key = given if BARE.fullmatch(given) and not given.startswith('"') else ""
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX:
        detail = f"an Idempotency-Key is a string of 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters"
        raise Problem(400, "invalid-idempotency-key", detail)
    return key


async def _read(request: Request, limits: Limits) -> bytes:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "unsupported-encoding", "request bodies are not decompressed here; send it plain")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.body_bytes_max:
                # The rest is not read, so the connection cannot serve another request.
                close = {"Connection": "close"}
                raise Problem(413, "too-large", f"a body has at most {limits.body_bytes_max} bytes", headers=close)
    except ClientDisconnect:
        raise Problem(400, "incomplete-body", "the connection ended within the body") from None
    return bytes(body)


def _parse(body: bytes, request: Request, limits: Limits) -> object:
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, "unsupported-media-type", "send JSON, with Content-Type: application/json")
    return parsed(body, limits)


def parsed(body: bytes | str, limits: Limits) -> object:
    """Read JSON that is not nested too deep. Raises `Problem`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "invalid-json", f"the body is not JSON: {error}") from None
    if _deeper_than(value, limits.json_depth_max):
        raise Problem(422, "too-deep", f"JSON may be nested {limits.json_depth_max} deep")
    return value


def _deeper_than(value: object, depth_max: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth_max + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(cast("dict[str, object]", one).values())
            elif isinstance(one, list):
                inner.extend(cast("list[object]", one))
        if not inner:
            return False
        level = inner
    return True


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
