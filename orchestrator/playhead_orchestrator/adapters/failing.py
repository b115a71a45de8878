"""A model with a failpoint before it is asked, and one when it has said all it has to say. For tests alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from playhead.failpoints import Action, Faults

from playhead_orchestrator.model import Finished, Model, ModelFailed, ModelRequest, Said

__all__ = ["FailingModel"]

BOUNDARY = "owner.model"


class FailingModel:
    """A model provider with failpoints. See `playhead_orchestrator.model.Model`."""

    def __init__(self, model: Model, faults: Faults) -> None:
        self._model = model
        self._faults = faults

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._model.provider

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Call the model. Done twice, it is paid for twice, and what it says the second time nobody hears."""
        if await self._faults.at(f"{BOUNDARY}.before") is Action.REFUSED:
            raise ModelFailed("unavailable", "refused by a failpoint", retryable=True, retry_after_seconds=0.0)
        async with aclosing(self._model.stream(request)) as stream:
            async for said in stream:
                if any(isinstance(one, Finished) for one in said):
                    await self._finish(request)
                yield said

    async def _finish(self, request: ModelRequest) -> None:
        action = await self._faults.at(f"{BOUNDARY}.after")
        if action is Action.LOST:
            raise ModelFailed("stream_broken", "lost by a failpoint", retryable=True, retry_after_seconds=0.0)
        if action is Action.TWICE:
            async with aclosing(self._model.stream(request)) as stream:
                async for _ in stream:
                    pass

    async def close(self) -> None:
        """Free what the model holds."""
        await self._model.close()
