"""How a call ends for a worker: with a result, or with the promise of one from elsewhere. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from playhead.content import Pending, Question
from playhead.events import Json

from playhead_tool_workers.outcome import Failed, Redact, Try, json_of, readable

__all__ = ["Asks", "Deferred", "Ended", "Outcome", "deferral", "denied", "ended", "in_part", "unknown"]


QUESTION_BYTES_MAX = 256 * 1024
"""How large a question may be, with its schema and the state that comes back."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The call has its result. `status` is one of `ToolResult`'s."""

    status: str
    output: Json
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Somebody outside brings the result within `seconds`."""

    seconds: float
    message: str | None


@dataclass(frozen=True, slots=True)
class Asks:
    """The user is asked, and then the call is made again."""

    content: Json
    schema: Json | None
    state: Json


Outcome = Ended | Deferred | Asks


def ended(came: Try) -> Ended:
    """Give the end that a try's outcome is."""
    return Ended(came.status, came.output)


def denied(kind: str, message: str) -> Ended:
    """Give the end of a call that may not be run."""
    return Ended("denied", _told(kind, message))


def unknown(message: str) -> Ended:
    """Give the end of a call of which nobody can say what became of it."""
    return Ended("unknown", _told("Unknown", message))


def in_part(came: Try, name: str, seconds: float) -> Ended:
    """Give the end of a call that was asked to stop, with what it had by then."""
    if isinstance(came, Failed):
        return ended(came)
    told = json.dumps({"type": "SoftTimeout", "message": f"{name} was asked to stop after {seconds:g} s"})
    return Ended("timeout", Json(f'{told[:-1]}, "partial": {came.output}}}'))


def deferral(value: Pending | Question, redact: Redact) -> Deferred | Asks | Failed:
    """Give what a tool promises by what it returned."""
    if isinstance(value, Pending):
        return Deferred(value.seconds, None if value.message is None else readable(value.message, redact))
    try:
        schema = None if value.schema is None else json_of(dict(value.schema))
        asks = Asks(json_of(value.content), schema, json_of(value.state))
    except Exception as error:  # noqa: BLE001 - serialising runs code of the tool's own types
        why = f"the question cannot be turned into JSON: {error}"
        return Failed("error", "UnserialisableQuestion", readable(why, redact))
    size = sum(len(part.encode()) for part in (asks.content, asks.schema or "", asks.state))
    if size > QUESTION_BYTES_MAX:
        why = f"the question, its schema and its state have {size} bytes of JSON, and at most {QUESTION_BYTES_MAX} do"
        return Failed("error", "QuestionTooLarge", why)
    return asks


def _told(kind: str, message: str) -> Json:
    return Json(json.dumps({"type": kind, "message": readable(message)}, ensure_ascii=False))
