"""What a stream says, in one wire protocol: the port between following a session and speaking of it.

A dialect is pure and synchronous: it gets a session's native frames in order, in any portions, and gives bytes. The
same frames give the same bytes, however they come. It holds what it must know of what went before, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["Dialect"]


class Dialect(Protocol):
    """One client's protocol, for the length of one stream."""

    @property
    def protocol(self) -> str:
        """The name of the protocol in metrics, such as `sse` or `agui`."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response."""
        ...

    @property
    def heartbeat(self) -> bytes:
        """What is said when nothing was said for a while; no bytes where the protocol has nothing for it."""
        ...

    @property
    def done(self) -> bool:
        """Whether all is said: the response ends after what `opening` or `say` gave last."""
        ...

    def opening(self) -> bytes:
        """Give what is said before anything else."""
        ...

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the native frames that come next, as `projections.sse` makes them; one without bytes cannot be shown."""
        ...

    def ending(self, last_seq: int) -> bytes:
        """Give the last words after the last event of a closed session."""
        ...

    def farewell(self, reason: str) -> bytes:
        """Give the last words of a stream that the gateway must end early."""
        ...
