"""The tool of the pool that `bench.tools` measures: it takes 50 ms, and says when it began and ended, and where."""

from __future__ import annotations

import asyncio
import os
import time

from playhead import tool

__all__ = ["nap"]

NAP_SECONDS = 0.05


@tool(effect="read", concurrency=1_000)
async def nap() -> list[int]:
    """Wait, as a call to another service would."""
    began = time.monotonic_ns()
    await asyncio.sleep(NAP_SECONDS)
    return [began, time.monotonic_ns(), os.getpid()]
