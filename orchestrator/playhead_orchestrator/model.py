"""The model port: what the orchestrator asks of a model, and what comes back while it speaks.

  M1  `stream` yields what the model says as it says it, in batches as they arrive, and ends with one `Finished`.
  M2  Whatever goes wrong, before or while it speaks, is one `ModelFailed` that says whether trying again can help.
  M3  Closing the generator ends the call and frees its connection.
  M4  Content blocks are neutral: `text`, `thinking`, `tool_use` (its `id` is our call id), as `ModelRequest` has them.

Adapters make no retries of their own: an attempt is an event, so the orchestrator makes them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from playhead.errors import PlayheadError
from playhead.events import Usage

__all__ = [
    "Finished",
    "Model",
    "ModelFailed",
    "ModelRequest",
    "Said",
    "TextSaid",
    "ThinkingSaid",
    "ToolInputSaid",
    "ToolOffer",
]

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may use; `input_schema` is a JSON Schema."""

    name: str
    description: str
    input_schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `messages` are neutral: role `user` or `assistant`, and a list of content blocks.

    Blocks: `{"type": "text", "text"}`, `{"type": "thinking", "text", "signature"?}`,
    `{"type": "tool_use", "id", "name", "input"}`, `{"type": "tool_result", "tool_use_id", "content", "is_error"}` (its
    content any JSON value), and any other block that a client sent, passed through (`image`, …).

    `attempt` counts the tries of this step from 1; providers need not know it.
    """

    model: str
    instructions: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[ToolOffer] = ()
    max_tokens: int = 8192
    thinking_tokens: int | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class TextSaid:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingSaid:
    """A piece of reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolInputSaid:
    """A piece of the JSON input of the tool use at a place among those of this message (0 is the first)."""

    index: int
    json: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole message, the last thing a stream yields.

    `content` are neutral blocks. A `tool_use` block has no `id` yet (the orchestrator derives it from its place); its
    `input` is the parsed object, or if the model's JSON was broken the raw text, and `invalid` says why.
    """

    content: tuple[Block, ...]
    usage: Usage
    stop_reason: str


Said = TextSaid | ThinkingSaid | ToolInputSaid | Finished


class Model(Protocol):
    """A model provider."""

    @property
    def provider(self) -> str:
        """The part of a model's name before the colon: `anthropic`, `openai`, `scripted`."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Call the model. Raises `ModelFailed` from the iteration."""
        ...

    async def close(self) -> None:
        """Free what the adapter holds."""
        ...


@dataclass
class ModelFailed(PlayheadError):
    """A model call that brought no message. `code` is stable: `rate_limited`, `overloaded`, `timeout`, `stream_broken`,
    `unavailable` (retryable), `refused`, `invalid_request`, `authentication`, `misconfigured` (not).
    """

    code: str
    message: str
    retryable: bool
    retry_after_seconds: float | None = field(default=None)

    def __post_init__(self) -> None:
        super().__init__(f"{self.code}: {self.message}")
