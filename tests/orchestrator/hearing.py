"""What every test of a model adapter does: call it, and take all that it says, or how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import pytest
from playhead_orchestrator.adapters.reading import Wire
from playhead_orchestrator.adapters.sse_lines import SseLines
from playhead_orchestrator.model import Finished, Model, ModelFailed, ModelRequest, Said

__all__ = ["asking", "failure", "hear", "read"]


def asking(text: str, name: str = "fake") -> ModelRequest:
    """Make the request for an answer to one message."""
    return ModelRequest(name, "be brief", [{"role": "user", "content": [{"type": "text", "text": text}]}])


async def hear(model: Model, request: ModelRequest) -> tuple[list[Said], Finished]:
    """Give what a model says, and the message at its end."""
    said: list[Said] = []
    async with aclosing(model.stream(request)) as stream:
        async for batch in stream:
            said += batch
    finished = said.pop()
    assert isinstance(finished, Finished)
    assert not any(isinstance(one, Finished) for one in said)
    return said, finished


async def failure(model: Model, request: ModelRequest) -> tuple[ModelFailed, list[Said]]:
    """Give how a call fails, and what was said before."""
    said: list[Said] = []
    with pytest.raises(ModelFailed) as caught:
        async with aclosing(model.stream(request)) as stream:
            async for batch in stream:
                said += batch
    return caught.value, said


def read(wire: Wire, chunks: Sequence[bytes]) -> tuple[list[Said], Finished]:
    """Give what a wire makes of a body that comes in these chunks."""
    lines, said = SseLines(), list[Said]()
    for chunk in chunks:
        wire.feed(lines.feed(chunk), said)
    wire.feed(lines.end(), said)
    return said, wire.end()
