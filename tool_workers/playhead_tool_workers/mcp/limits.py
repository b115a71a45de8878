"""The limits of what is taken from MCP servers, each with its name."""

from __future__ import annotations

from dataclasses import dataclass, field

from playhead_tool_workers.retry import Backoff

__all__ = ["McpLimits"]


@dataclass(frozen=True, slots=True)
class McpLimits:
    """How long, how many and how much."""

    start_seconds: float = 60.0
    """How long a server may take until its tools are known: some are downloaded first."""
    patience_seconds: float = 5.0
    """How long a call waits for a server that is being restarted, before that try fails."""
    close_seconds: float = 8.0
    """How long a server may take to end: the SDK asks, then terminates, then kills."""
    reconnect: Backoff = field(default_factory=lambda: Backoff(0.5, 30.0))
    """Between starts of a server that ended, and between tries to hear of its changes."""
    steady_seconds: float = 30.0
    """How long a server must have been there for its end not to count as one of a row."""
    relist_seconds: float = 5.0
    """After a listing that failed."""
    pages_max: int = 50
    """Of one listing."""
    tools_max: int = 256
    """That one server may offer."""
    schema_bytes_max: int = 64 * 1024
    """Of one tool's schema, as JSON: a model is sent it with every call."""
    description_chars_max: int = 4_000
    words_kept: int = 10
    """How many of its last lines on stderr are told when a server does not start."""
    word_chars_max: int = 500
    """Of one such line."""
