"""What lasts until a worker is told to stop, and what is open for as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

from playhead.errors import Misconfigured
from playhead.lifespan import Lifespan

__all__ = ["opened", "until"]


async def until(stop: asyncio.Event, work: Coroutine[object, object, object]) -> None:
    """Do a piece of work, or as much of it as is done when `stop` is set."""
    async with asyncio.TaskGroup() as group:
        working, stopped = group.create_task(work), group.create_task(stop.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopped.cancel()


@asynccontextmanager
async def opened(lifespan: Lifespan) -> AsyncGenerator[object, None]:
    """Open what the pool's tools share, and close it. Raises `Misconfigured` if that fails."""
    context = lifespan.open()
    try:
        resources = await context.__aenter__()
    except Exception as error:
        why = f"the lifespan of pool {lifespan.pool} failed before it yielded: {type(error).__name__}: {error}"
        raise Misconfigured(why) from error
    try:
        yield resources
    finally:
        try:
            await context.__aexit__(None, None, None)
        except Exception as error:
            why = f"the lifespan of pool {lifespan.pool} failed after it yielded: {type(error).__name__}: {error}"
            raise Misconfigured(why) from error
