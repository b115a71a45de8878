"""One call of an MCP tool: sent, its progress passed on, and what comes of it told as a tool of ours would.

Cancelled, it cancels the request at the server. Of a transport that failed nobody knows whether the tool did anything:
that is said, and left to the worker's retries and the tool's effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp.types as mcp_types
from mcp import ClientSession, MCPError, UrlElicitationRequiredError
from playhead.content import Question
from playhead.errors import Unavailable
from playhead.tools import ToolContext, ToolFailed
from pydantic import ValidationError

from playhead_tool_workers.mcp.connection import Connection
from playhead_tool_workers.mcp.hiding import hide
from playhead_tool_workers.mcp.questions import Resumption, question_of, resumption_of, url_question
from playhead_tool_workers.mcp.results import result_of

if TYPE_CHECKING:
    from mcp.types import RequestParamsMeta

__all__ = ["RemoteTool"]

STATE_DELAY_SECONDS = 0.05
STATE_DELAY_SECONDS_MAX = 1.0
"""Between tries of a server that asks for nothing but to be called again; the tool's timeout ends them."""

FINAL = frozenset({mcp_types.INVALID_PARAMS, mcp_types.METHOD_NOT_FOUND})
"""What another try cannot change."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool of a server, by the server's own name for it."""

    connection: Connection
    name: str

    async def call(self, given: Mapping[str, Any], context: ToolContext) -> object:
        """Call it. Raises `ToolFailed` for what the model is to know, `Unavailable` for what may be tried again."""
        going_on = resumption_of(context.answer)
        session = await self.connection.session()
        try:
            result = await self._ask(session, dict(given), context, going_on)
        except MCPError as error:
            return self._refused(error)
        except (RuntimeError, ValidationError) as error:
            # The SDK checks results by the server's own schemas, once the tool has run: another try would not help.
            raise ToolFailed(f"the tool returned what it should not: {self.connection.shown(error)}") from error
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._unknown(error) from error
        if isinstance(result, Question):
            return self._hidden(result)
        return result_of(result, self.connection.redact)

    async def _ask(
        self, session: ClientSession, given: dict[str, Any], context: ToolContext, going_on: Resumption
    ) -> mcp_types.CallToolResult | Question:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            shown = None if message is None else self.connection.redact(message)
            await context.progress(progress, total, shown)

        delay_seconds = STATE_DELAY_SECONDS
        while True:
            result = await session.call_tool(
                self.name,
                given,
                progress_callback=on_progress,
                input_responses=going_on.responses,
                request_state=going_on.state,
                meta=_meta(context),
                allow_input_required=True,
            )
            if isinstance(result, mcp_types.CallToolResult):
                return result
            if result.input_requests:
                return question_of(result)
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(delay_seconds * 2, STATE_DELAY_SECONDS_MAX)
            going_on = Resumption(None, result.request_state)

    def _refused(self, error: MCPError) -> Question:
        """Ask what an older server wants first, or raise what became of the call."""
        if error.code == mcp_types.URL_ELICITATION_REQUIRED:
            try:
                urls = UrlElicitationRequiredError.from_error(error.error).elicitations
            except (ValueError, TypeError, LookupError, AttributeError):
                raise self._unknown(error) from error
            return self._hidden(url_question(urls))
        if error.code in FINAL:
            self.connection.relist()  # it may have another list of tools by now
            raise ToolFailed(self.connection.redact(error.message)) from error
        if error.code == mcp_types.HEADER_MISMATCH:
            self.connection.relist()
        raise self._unknown(error) from error

    def _unknown(self, error: Exception) -> Unavailable:
        server = self.connection.server.label
        return Unavailable(f"the {server} failed, and whether the tool ran is unknown: {self.connection.shown(error)}")

    def _hidden(self, question: Question) -> Question:
        redact = self.connection.redact
        schema = cast("Mapping[str, Any] | None", hide(question.schema, redact))
        return Question(redact(question.content), schema=schema, state=question.state)


def _meta(context: ToolContext) -> RequestParamsMeta:
    """What the server may know of the call; the SDK adds the trace, if there is one."""
    return cast(
        "RequestParamsMeta",
        {
            "playhead/session": context.session_id,
            "playhead/call": context.call_id,
            "playhead/idempotency-key": context.idempotency_key,
        },
    )
