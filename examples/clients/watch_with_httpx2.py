"""Watch a session with httpx2, and resume where the stream broke.

python watch_with_httpx2.py http://127.0.0.1:4141 ses_…
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import httpx2

SILENCE_SECONDS = 25.0
"""A gateway gives a sign of life every 10 seconds; after so long without one the connection is dead."""

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""httpx2 takes frames of 1 MiB unless told otherwise, and a large event may be longer."""


async def watch(url: str, session: str) -> AsyncIterator[httpx2.ServerSentEvent]:
    """Yield the events of a session, each once and in order, until it is over."""
    token = os.environ.get("PLAYHEAD_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    retry_seconds = 2.0
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(5, read=SILENCE_SECONDS)) as http:
        while True:
            stream = http.sse(f"{url}/v1/sessions/{session}/events", headers=headers, max_event_size=FRAME_BYTES_MAX)
            try:
                async with stream as source:
                    if source.response.status_code == 204:
                        return
                    source.response.raise_for_status()
                    async for frame in source:
                        if frame.retry is not None:
                            retry_seconds = frame.retry / 1000
                        if frame.event == "end":
                            return
                        if frame.event not in ("ready", "draining"):
                            yield frame
                            headers["Last-Event-ID"] = frame.id
            except httpx2.TransportError as error:
                print(f"{error!r}; resuming after {headers.get('Last-Event-ID')}", file=sys.stderr)
            await asyncio.sleep(retry_seconds)


async def main(url: str, session: str) -> None:
    """Print the events."""
    async for frame in watch(url, session):
        print(frame.id, frame.data, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
