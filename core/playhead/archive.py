"""The archive port: what is too large for a log, kept by session and name. Names say what the content is.

A1  What `put` has kept is there for every later `get`, whatever process crashes.
A2  Putting the same again changes nothing. A reader sees a thing whole or not at all.
A3  What is of one session is never found under another.
"""

from __future__ import annotations

from typing import Protocol

from playhead.ids import SessionId

__all__ = ["Archive"]


class Archive(Protocol):
    """Things kept beside the logs of sessions. A name is 1 to 128 of `A-Z a-z 0-9 . _ -`, and not only dots."""

    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        """Keep a thing. Raises `Unavailable`, and `Invalid` for a name that cannot be."""
        ...

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        """Give a thing, whole. Raises `NotArchived`, `TooLarge` for one of more than `bytes_max`, `Unavailable`."""
        ...
