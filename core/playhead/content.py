"""What a tool can return beside plain values: pictures and files, a promise to answer later, a question.

Anything else that a tool returns is its result as JSON. These are values: the worker knows what to do with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from playhead.errors import Misconfigured

__all__ = ["Answer", "Completed", "File", "Image", "Pending", "Question"]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")

PENDING_SECONDS_MAX = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for the model. Alone or in a list beside texts. Raises `Misconfigured` for a type no model reads."""

    data: bytes = field(repr=False)
    media_type: str = "image/png"

    def __post_init__(self) -> None:
        if self.media_type not in IMAGE_TYPES:
            raise Misconfigured(f"an image is one of {', '.join(IMAGE_TYPES)}, not {self.media_type!r}")


@dataclass(frozen=True, slots=True)
class File:
    """A document for the model, such as a PDF. Alone or in a list beside texts."""

    data: bytes = field(repr=False)
    media_type: str = "application/pdf"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """Returned by a tool whose result comes later, from somebody who was given its `ToolContext.ticket`.

    The call's slot is free at once. Without a result after `seconds` the call ends as timed out. `message` is shown.
    """

    seconds: float
    message: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= PENDING_SECONDS_MAX:
            raise Misconfigured(f"a result may be pending for at most {PENDING_SECONDS_MAX} s, not {self.seconds!r}")


@dataclass(frozen=True, slots=True)
class Question:
    """Returned by a tool that needs an answer from the user before it can go on.

    `content` is what the user is asked, `schema` the JSON Schema that the answer must have. The call's slot is free at
    once. When the answer comes the tool is called again, with the same arguments and `ToolContext.answer`, which also
    brings back `state`.
    """

    content: str
    _: KW_ONLY
    schema: Mapping[str, Any] | None = None
    state: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user answered to a `Question`, and the `state` that came with it."""

    content: Any
    state: Any = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended. `exit_code` is negative where a signal ended it, as in `subprocess`.

    `stdout` and `stderr` are what it wrote, decoded, each up to the sandbox's `output_bytes`; `truncated` says that
    there was more. `timed_out`: it was killed because its time was up.
    """

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = False
    timed_out: bool = False
