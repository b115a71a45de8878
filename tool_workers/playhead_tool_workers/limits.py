"""The limits of a worker, each with its name. Their defaults suit production; tests shorten them."""

from __future__ import annotations

from dataclasses import dataclass, field

from playhead_tool_workers.retry import Backoff

__all__ = ["WorkerLimits"]


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long and how much, where a tool does not say so itself."""

    heartbeat_seconds: float = 2.0
    """How often a running call says so: owners take three missed ones for a dead worker."""
    progress_seconds: float = 0.25
    """The least time between two progress reports of a call."""
    grace_seconds: float = 10.0
    """How long running calls may go on when the worker is told to stop."""
    cleanup_seconds: float = 1.0
    """How long a cancelled tool may take to clean up before its call is reported without it."""
    ask_seconds: float = 2.0
    """How long a worker waits for the answer when it has asked whether it may run a call, before it asks again."""
    grant_seconds: float = 5.0
    """How old a grant may be: who was suspended meanwhile asks again, since the call may have been given up."""
    old_seconds: float = 7.0
    """A call that was dispatched longer ago may be over, or have killed other workers: it is asked for first."""
    slow_seconds: float = 5.0
    """After how long a running call is called slow, in the log."""
    reconcile_tries: int = 3
    """How often a `once` tool's `reconcile` is tried before the outcome is unknown."""
    backlog_max: int = 1_000
    """How many calls may wait for a slot before no more are taken from the queue."""
    leaked_max: int = 32
    """How many stopped tries that do not return (threads cannot be stopped) are put up with beside the running ones."""
    result_bytes_max: int = 256 * 1024
    """How large an output may be in an event; a larger one goes to the archive, if there is one."""
    block_bytes_max: int = 64 * 1024
    """How large a picture or a file may be in an event, if there is an archive."""
    archived_bytes_max: int = 64 * 1024 * 1024
    """How large an output may be at all."""
    finished_max: int = 1_024
    """How many results are remembered, for calls that are delivered again."""
    finished_bytes_max: int = 16 * 1024 * 1024
    stopped_max: int = 4_096
    """How many stops are remembered of calls that have not come yet."""
    retry: Backoff = field(default_factory=Backoff)
    """Between the tries of a tool."""
    reconnect: Backoff = field(default_factory=lambda: Backoff(0.1, 5.0))
    """Between tries to reach the queue."""
