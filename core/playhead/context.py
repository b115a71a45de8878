"""What a tool may know of its call, and say, while it runs. Filled in by the worker; `Tool.test` fills in its own."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from playhead.content import Answer, Completed
from playhead.ids import CallId, SessionId

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

__all__ = ["Running", "ToolContext"]


class Running(Protocol):
    """What the worker knows of a try while it runs. Any thread may ask."""

    @property
    def cancelled(self) -> bool:
        """True once the tool should come to an end: nobody waits any more, or its (soft) time is up."""
        ...

    def remaining(self) -> float:
        """Tell how many seconds this try has left: 0 or more."""
        ...

    def progress(self, done: float, total: float | None, message: str | None) -> Awaitable[None]:
        """Take note of how far the call is."""
        ...

    def emit(self, output: object) -> Awaitable[None]:
        """Publish a part of the output."""
        ...

    async def run(self, argv: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Completed:
        """Run a command in the tool's sandbox."""
        ...

    async def deliver(self, ticket: str, output: object, error: str | None) -> None:
        """Give the result of a pending call."""
        ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its call and say while it runs.

    A parameter annotated with this class is filled in by the worker and hidden from the model. In a function that is
    not `async`, which runs in a thread, leave the `await` before `progress` and `emit` away: they work without. `run`
    and `deliver` are for `async` functions only.
    """

    session_id: SessionId
    call_id: CallId
    idempotency_key: str
    """The same however often the call is delivered or tried: hand it to whatever must not happen twice."""
    try_number: int
    """1 for the first try."""
    deadline: datetime
    """When this try should be over (its soft timeout if it has one), in UTC. To count down, ask `remaining`."""
    log: BoundLogger
    """A logger that knows the session, the run and the call."""
    running: Running = field(repr=False)
    tenant: str = ""
    """Whom the session belongs to; empty where there are no tenants."""
    secrets: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """The tool's secrets by name. They are cut out of whatever the tool says, wherever it says it."""
    resources: Any = field(default=None, repr=False)
    """What the pool's `@lifespan` function yielded: shared by all calls of the process."""
    answer: Answer | None = None
    """The user's answer, when the tool had returned a `Question`."""
    ticket: str = field(default="", repr=False)
    """Who has it may give the result of this call once the tool has returned `Pending`: hand it to who will."""

    @property
    def cancelled(self) -> bool:
        """True once the tool should come to an end: nobody waits for the result any more, or the time is up.

        With a soft timeout, what the tool returns from then on is its partial result. A thread must look here: it
        cannot be stopped.
        """
        return self.running.cancelled

    def remaining(self) -> float:
        """Tell how many seconds this try has left: 0 or more."""
        return self.running.remaining()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Say how far the call is, in any unit. Never waits; at most four a second are shown; it cannot go back."""
        return self.running.progress(done, total, message)

    def emit(self, output: object) -> Awaitable[None]:
        """Show a part of the output (anything that JSON can carry) before the result replaces it."""
        return self.running.emit(output)

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Completed:
        """Run a command in the sandbox that the tool declares, until it ends or the try's time is up.

        Raises `Misconfigured` where the tool declares none, or the system offers less than the sandbox asks for.
        """
        return await self.running.run(argv, stdin, env or {})

    async def deliver(self, ticket: str, output: object = None, *, error: str | None = None) -> None:
        """Give the result (or, with `error`, the failure) of a pending call, here or in another pool."""
        await self.running.deliver(ticket, output, error)
