"""A provider's SDK client, made when it is first needed: importing an SDK takes a second or two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from playhead_orchestrator.model import ModelFailed

__all__ = ["LazyClient"]


class Closable(Protocol):
    """What holds connections."""

    async def close(self) -> None:
        """Let go of them."""
        ...


C = TypeVar("C", bound=Closable)


class LazyClient(Generic[C]):
    """One client, made in a thread by whoever asks first. `make` may raise `ModelFailed`: the next one asks again."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._client: C | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> C:
        """Give the client. Raises `ModelFailed`."""
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make)
            return self._client

    async def warm_up(self) -> None:
        """Make the client ahead. What is missing is for the first call to say."""
        with suppress(ModelFailed):
            await self.open()

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
