"""The access file as it is now: looked at again every few seconds, so that a key can be taken back while all runs."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from playhead.errors import Misconfigured
from playhead.telemetry import logger

from playhead_gateway.access.rules import Rules, read_rules

__all__ = ["CHECK_SECONDS", "FILE_BYTES_MAX", "AccessFile"]

CHECK_SECONDS = 2.0
"""How long a change may go unnoticed, once requests come."""

FILE_BYTES_MAX = 4 * 1024 * 1024

_log = logger("playhead.gateway")


class AccessFile:
    """Gives the rules of a file. One that cannot be used any more changes nothing, and is logged once."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._path = path
        self._environment = environment
        self._monotonic = monotonic
        self._check_seconds = check_seconds
        content = _content(path)
        self.rules: Rules = read_rules(_text(content), environment)
        self._seen = _digest(content)
        self._complaint = ""
        self._due = monotonic() + check_seconds
        self._checking = asyncio.Lock()

    async def current(self) -> Rules:
        """Give the rules, after a look at the file if the last one was a while ago."""
        if self._monotonic() >= self._due and not self._checking.locked():
            async with self._checking:
                try:
                    await asyncio.to_thread(self._look)
                finally:
                    self._due = self._monotonic() + self._check_seconds
        return self.rules

    def _look(self) -> None:
        try:
            content = _content(self._path)
            if (seen := _digest(content)) == self._seen:
                self._complaint = ""
                return
            self.rules = read_rules(_text(content), self._environment)
        except Misconfigured as error:
            if (complaint := str(error)) != self._complaint:
                self._complaint = complaint
                _log.error("the access file cannot be used; the last good one holds", reason=complaint)
        else:
            self._seen, self._complaint = seen, ""
            _log.info("the access file was read anew", keys=len(self.rules.keys))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Misconfigured(f"the access file {path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise Misconfigured(f"the access file {path} has more than {FILE_BYTES_MAX} bytes")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Misconfigured("the access file is not UTF-8") from None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
