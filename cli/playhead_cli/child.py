"""A `playhead` as a child process: started until it says that it is ready, killed, or stopped in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from playhead.errors import Unavailable

__all__ = ["Child", "start", "start_dev"]

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
LAST_WORDS_MAX = 20

_ADDRESS = re.compile(r"https?://127\.0\.0\.1:(\d+)")


class Child:
    """A process that serves, its port, and the last lines that it logged."""

    def __init__(self, process: asyncio.subprocess.Process, command: str) -> None:
        self._process = process
        self._command = command
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS_MAX)
        self._listening = asyncio.create_task(self._listen())  # ended and awaited in `_close`
        self.port = 0

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where its gateway answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_over(self) -> bool:
        """True once the process has ended."""
        return self._process.returncode is not None

    async def until_ready(self) -> None:
        """Wait until it says that it serves. Raises `Unavailable` with its last words if it does not."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                while line := (await self._process.stdout.readline()).decode():
                    found = _ADDRESS.search(line)
                    self.port = int(found[1]) if found and not self.port else self.port
                    if "ready" in line:
                        return
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        await self._close()
        said = " / ".join(self._last_words) or "nothing"
        raise Unavailable(f"`playhead {self._command}` did not become ready; it said: {said}")

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._close()

    async def stop(self) -> int:
        """Ask it to stop, and give its exit code; kill it if it does not."""
        if not self.is_over:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS_MAX):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        await self._close()
        return await self._process.wait()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._last_words.append(line.decode(errors="replace").strip())

    async def _close(self) -> None:
        # The pipe of a process that is over ends by itself; waiting gets its last words.
        await self._listening


async def start_dev(data: Path, port: int, variables: Mapping[str, str]) -> Child:
    """Start `playhead dev` on a data folder and wait until it serves. Raises `Unavailable`."""
    return await start(("dev", "--port", str(port), "--data", str(data)), variables)


async def start(arguments: Sequence[str], variables: Mapping[str, str]) -> Child:
    """Start a command that serves and wait until it does. Raises `Unavailable`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "playhead_cli", *arguments),
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C in the terminal is for the parent, which stops its child in order.
        start_new_session=True,
    )
    child = Child(process, arguments[0])
    try:
        await child.until_ready()
    except asyncio.CancelledError:
        await asyncio.shield(child.kill())
        raise
    return child
