"""The archive as a folder: one folder a session, one file a thing. And in memory, for tests."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from pathlib import Path

from playhead.errors import Invalid, Misconfigured, NotArchived, TooLarge, Unavailable
from playhead.ids import SessionId

__all__ = ["FolderArchive", "MemoryArchive"]

NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,128}")


class FolderArchive:
    """Keeps things under a folder, which is made if it is not there. Raises `Misconfigured` if it cannot be."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Misconfigured(f"the archive {folder} cannot be made: {error.strerror}") from error
        self._folder = folder

    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        """Keep a thing: written beside its place, synchronised, and moved there at once."""
        path = self._path(session, name)
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            raise Unavailable(f"the archive cannot keep {name}: {error.strerror}") from error

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        """Give a thing."""
        path = self._path(session, name)
        try:
            data = await asyncio.to_thread(_read, path, bytes_max)
        except FileNotFoundError as error:
            raise NotArchived(f"the archive has no {name} of session {session}") from error
        except OSError as error:
            raise Unavailable(f"the archive cannot be read: {error.strerror}") from error
        return _bounded(name, data, bytes_max)

    def _path(self, session: SessionId, name: str) -> Path:
        return self._folder / _checked(session) / _checked(name)


class MemoryArchive:
    """Keeps things for as long as it lives."""

    def __init__(self) -> None:
        self._things: dict[tuple[str, str], bytes] = {}

    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        """Keep a thing."""
        self._things[_checked(session), _checked(name)] = data

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        """Give a thing."""
        try:
            data = self._things[_checked(session), _checked(name)]
        except KeyError as error:
            raise NotArchived(f"the archive has no {name} of session {session}") from error
        return _bounded(name, data, bytes_max)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Invalid(name[:80], "a name in the archive has 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`")
    return name


def _bounded(name: str, data: bytes, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise TooLarge(name, f"it has more than {bytes_max} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    if not path.exists():  # the name says what the content is
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _place(path, data)
    # Also where it was there: who put it may have died before this.
    _sync(path.parent)
    _sync(path.parent.parent)


def _place(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make sure that the names in a folder survive a power loss."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        return file.read(bytes_max + 1)
