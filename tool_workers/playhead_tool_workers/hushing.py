"""Reports without secrets: every text of them that a tool had a hand in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from playhead.commands import (
    Command,
    ReportChunk,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportRetry,
)
from playhead.events import Json

__all__ = ["redacted"]

Text = TypeVar("Text", bound=str | None)


def redacted(command: Command, redact: Callable[[str], str]) -> Command:
    """Give a command as it may be said. Calls, announcements and letters hold nothing that a tool said."""

    def cut(text: Text) -> Text:
        return text if text is None else type(text)(redact(text))

    match command:
        case ReportResult(output=output) | ReportChunk(output=output):
            return replace(command, output=Json(redact(output)))
        case ReportProgress(message=message) | ReportPending(message=message):
            return replace(command, message=cut(message))
        case ReportRetry(error=error):
            return replace(command, error=replace(error, message=redact(error.message)))
        case ReportQuestion(content=content, schema=schema, state=state):
            return replace(command, content=Json(redact(content)), schema=cut(schema), state=cut(state))
        case _:
            return command
