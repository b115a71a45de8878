"""From the body of a provider's answer to what the model says, a network chunk at a time. Shared by the SDKs' adapters.

Knows HTTP bodies and no provider: what the events mean is a `Wire`'s affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Protocol

from playhead_orchestrator.adapters.failures import broken, timed_out
from playhead_orchestrator.adapters.sse_lines import SseLines, TooLong
from playhead_orchestrator.model import Finished, ModelFailed, Said

if TYPE_CHECKING:
    from httpx2 import Response

__all__ = ["Wire", "read_message", "reason"]

END_SECONDS = 0.05
"""How long the end of a body is waited for once its message is whole. A body that was read to its end leaves a
connection that the next step can use, without another TLS handshake; it nearly always comes with the last event."""


class Wire(Protocol):
    """The events of one message, in a provider's own form."""

    @property
    def is_whole(self) -> bool:
        """Whether no event that matters can follow."""
        ...

    def feed(self, events: Iterable[bytes], said: list[Said]) -> None:
        """Take the data of events and add what they say to `said`. Raises `ModelFailed`."""
        ...

    def end(self) -> Finished:
        """Give the message. Raises `ModelFailed` if it is not whole, or was refused."""
        ...


async def read_message(response: Response, wire: Wire, provider: str) -> AsyncGenerator[list[Said], None]:
    """Yield what the model says, in batches as they arrive, and `Finished` alone at the end. Raises `ModelFailed`."""
    from httpx2 import HTTPError, TimeoutException  # noqa: PLC0415  slow, and imported by the SDK by now

    lines = SseLines()
    try:
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                said, failed = _hear(wire, lines.feed(chunk))
                if said:
                    yield said
                if failed is not None:
                    raise failed
                if wire.is_whole:
                    break
            else:
                said, failed = _hear(wire, lines.end())
                if said:
                    yield said
                if failed is not None:
                    raise failed
            finished = wire.end()
            try:
                yield [finished]
            finally:
                # After the message was handed on: nobody waits for this but the connection's next user.
                await _read_to_end(chunks)
    except TooLong as error:
        raise broken(f"{provider} sent {error} without an end") from error
    except TimeoutException as error:
        raise timed_out(f"{provider} was silent for too long while it answered: {reason(error)}") from error
    except HTTPError as error:
        raise broken(f"the connection to {provider} broke: {reason(error)}") from error


def _hear(wire: Wire, events: Iterable[bytes]) -> tuple[list[Said], ModelFailed | None]:
    """Give what a chunk's events say, and the failure that came after it, if one did."""
    said: list[Said] = []
    try:
        wire.feed(events, said)
    except ModelFailed as failure:
        return said, failure
    return said, None


async def _read_to_end(chunks: AsyncGenerator[bytes, None]) -> None:
    from httpx2 import HTTPError  # noqa: PLC0415  see `read_message`

    with suppress(TimeoutError, HTTPError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in chunks:
                pass


def reason(error: BaseException) -> str:
    """Say what an error says, or at least what it is called."""
    return str(error) or type(error).__name__
