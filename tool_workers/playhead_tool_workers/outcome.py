"""What came of a try, and the JSON that stands for it in a result. Pure.

A model reads these outputs, so an error says in a sentence what it can do, and nothing of our insides: a traceback is
for the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from playhead.canonical import check_json
from playhead.events import Failure, Json
from pydantic_core import to_json

__all__ = ["Failed", "Redact", "Returned", "Try", "failed", "json_of", "readable", "returned"]

MESSAGE_CHARS_MAX = 2_000

Redact = Callable[[str], str]
"""Takes secrets out of a text."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The tool returned; `output` is what it returned."""

    output: Json

    @property
    def status(self) -> Literal["ok"]:
        """The result's status."""
        return "ok"


@dataclass(frozen=True, slots=True)
class Failed:
    """The try brought nothing, or only a part. `kind` names the sort of failure, as an exception's class does."""

    status: Literal["error", "timeout", "cancelled"]
    kind: str
    message: str
    retryable: bool = False
    partial: tuple[Json, ...] = ()
    broken: bool = False
    """Whether it speaks against the tool, and not against what was asked of it."""

    @property
    def output(self) -> Json:
        """What the model is told."""
        told = json.dumps({"type": self.kind, "message": self.message}, ensure_ascii=False)
        return Json(f'{told[:-1]}, "partial": [{", ".join(self.partial)}]}}' if self.partial else told)

    @property
    def failure(self) -> Failure:
        """What a retry tells of the try before it."""
        return Failure(self.status, f"{self.kind}: {self.message}")


Try = Returned | Failed


def returned(value: object, bytes_max: int) -> Try:
    """Turn what a tool returned into JSON: whatever pydantic can dump, with `"NaN"` and `"Infinity"` as strings."""
    try:
        output = json_of(value)
    except Exception as error:  # noqa: BLE001 - serialising runs code of the tool's own types
        why = f"the tool returned a {type(value).__name__} that cannot be turned into JSON: {_text(error)}"
        return Failed("error", "UnserialisableResult", readable(why))
    size = len(output.encode())
    if size > bytes_max:
        why = f"the tool returned {size} bytes of JSON and a result has at most {bytes_max}; ask for less"
        return Failed("error", "ResultTooLarge", why)
    return Returned(output)


def json_of(value: object) -> Json:
    """Write a value as JSON that all who read the log can read. Raises whatever a tool's own types raise, and
    `Undecodable` for what is too deep or too large a number: a report with it would be set aside unread.
    """
    text = to_json(value, inf_nan_mode="strings", bytes_mode="utf8").decode()
    check_json(text)
    return Json(text)


def failed(error: BaseException, *, retryable: bool, broken: bool = False, redact: Redact = str) -> Failed:
    """Turn what a tool raised into what is told of it."""
    return Failed("error", type(error).__name__, readable(_text(error), redact), retryable, broken=broken)


def readable(text: str, redact: Redact = str) -> str:
    """Cut a text to what is worth telling, and replace what is not Unicode (Avro and JSON would refuse it).

    It is redacted before: half a secret would not be found any more.
    """
    text = redact(text)
    cut = text if len(text) <= MESSAGE_CHARS_MAX else f"{text[:MESSAGE_CHARS_MAX]}…"
    return cut.encode("utf-8", "replace").decode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the tool's exception class may be as broken as the tool
        return "its message cannot be shown"
