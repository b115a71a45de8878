"""A shim over SQLite's own file layer, in the very library that Python's `sqlite3` is linked to.

While it is the default VFS, every connection that this process opens goes through it, so the code under test is the
product's, unchanged. All is handed on to the system's VFS and to real files; writes, truncations, syncs, creations and
deletions are noted in a `Trace` on the way. Nothing is taken over: locks and shared memory are the system's own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

from tests.power.disk import Sync, SyncFolder, Trace, Truncate, Write

__all__ = ["NoShim", "Shim"]

OK = 0
RECORDED = 0x00000100 | 0x00000800 | 0x00080000
"""SQLITE_OPEN_MAIN_DB, _MAIN_JOURNAL and _WAL: what outlives a connection."""


class NoShim(Exception):
    """Python's SQLite cannot be reached. The message says why."""


class File(ctypes.Structure):
    """`sqlite3_file`."""


class Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""


class Vfs(ctypes.Structure):
    """`sqlite3_vfs`."""


CLOSE = ctypes.CFUNCTYPE(c_int, POINTER(File))
WRITE = ctypes.CFUNCTYPE(c_int, POINTER(File), c_void_p, c_int, c_int64)
TRUNCATE = ctypes.CFUNCTYPE(c_int, POINTER(File), c_int64)
SYNC = ctypes.CFUNCTYPE(c_int, POINTER(File), c_int)
OPEN = ctypes.CFUNCTYPE(c_int, POINTER(Vfs), c_void_p, POINTER(File), c_int, POINTER(c_int))
DELETE = ctypes.CFUNCTYPE(c_int, POINTER(Vfs), c_char_p, c_int)
SET_SYSTEM_CALL = ctypes.CFUNCTYPE(c_int, POINTER(Vfs), c_char_p, c_void_p)
GET_SYSTEM_CALL = ctypes.CFUNCTYPE(c_void_p, POINTER(Vfs), c_char_p)
OPEN_FOLDER = ctypes.CFUNCTYPE(c_int, c_char_p, POINTER(c_int))

File._fields_ = [("methods", POINTER(Methods))]
Methods._fields_ = [
    ("version", c_int),
    ("close", CLOSE),
    ("read", c_void_p),
    ("write", WRITE),
    ("truncate", TRUNCATE),
    ("sync", SYNC),
    *((f"other_{number}", c_void_p) for number in range(13)),
]
Vfs._fields_ = [
    ("version", c_int),
    ("file_bytes", c_int),
    ("path_bytes", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    ("open", OPEN),
    ("delete", DELETE),
    *((f"other_{number}", c_void_p) for number in range(11)),
    ("set_system_call", SET_SYSTEM_CALL),
    ("get_system_call", GET_SYSTEM_CALL),
    ("next_system_call", c_void_p),
]


class Shim:
    """The shim. Raises `NoShim` where it cannot be."""

    def __init__(self) -> None:
        self._library = _library()
        found = self._library.sqlite3_vfs_find(None)
        if not found or found.contents.name != b"unix" or found.contents.version < 3:
            raise NoShim("this system's SQLite does not write to files as Unix does")
        self._system: Vfs = found.contents
        self._trace: Trace | None = None
        self._folder = Path()
        self._files: dict[int, int] = {}
        self._tables: dict[int, tuple[Methods, Methods]] = {}
        self._ours = Vfs.from_buffer_copy(self._system)
        self._ours.name = b"power"
        # Python callables that C holds pointers to must live as long as the shim.
        self._callbacks = CLOSE(self._close), WRITE(self._write), TRUNCATE(self._truncate), SYNC(self._sync)
        self._ours.open, self._ours.delete = OPEN(self._open), DELETE(self._delete)
        self._system_open_folder = OPEN_FOLDER(self._system.get_system_call(found, b"openDirectory"))
        self._open_folder = OPEN_FOLDER(self._folder_opened)

    @contextmanager
    def recording(self, folder: Path, trace: Trace | None) -> Generator[None, None, None]:
        """Note what is done to a folder's files. Without a trace nothing is noted, and nothing synced either.

        Connections that are opened inside must be closed inside.
        """
        self._trace, self._folder = trace, folder.resolve()  # SQLite resolves links too
        self._system.set_system_call(byref(self._system), b"openDirectory", self._open_folder)
        self._library.sqlite3_vfs_register(byref(self._ours), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_register(byref(self._system), 1)
            self._library.sqlite3_vfs_unregister(byref(self._ours))
            self._system.set_system_call(byref(self._system), b"openDirectory", None)
            assert not self._files, "a connection was left open"

    def _open(self, _vfs: Any, name: int | None, file: Any, flags: int, flags_given: Any) -> int:
        status = self._system.open(byref(self._ours), name, file, flags, flags_given)
        if status == OK and name is not None and flags & RECORDED:
            path = Path((ctypes.string_at(name)).decode())
            if path.parent == self._folder:
                self._files[_address(file)] = self._trace.opened(path.name) if self._trace is not None else -1
                self._divert(file)
        return status

    def _divert(self, file: Any) -> None:
        """Put our four functions in the place of the system's, in a copy of the table that the file was given."""
        theirs = file.contents.methods.contents
        key = ctypes.addressof(theirs)
        if key not in self._tables:
            ours = Methods.from_buffer_copy(theirs)
            ours.close, ours.write, ours.truncate, ours.sync = self._callbacks
            self._tables[key] = theirs, ours
            self._tables[ctypes.addressof(ours)] = theirs, ours
        file.contents.methods = ctypes.pointer(self._tables[key][1])

    def _theirs(self, file: Any) -> Methods:
        return self._tables[ctypes.addressof(file.contents.methods.contents)][0]

    def _close(self, file: Any) -> int:
        theirs = self._theirs(file)
        del self._files[_address(file)]
        return theirs.close(file)

    # A write counts from when it has been made, a sync from before it begins: if two threads meet, the disk has less.

    def _write(self, file: Any, data: int, size: int, offset: int) -> int:
        status = self._theirs(file).write(file, data, size, offset)
        if self._trace is not None and status == OK:
            self._trace.note(Write(self._files[_address(file)], offset, ctypes.string_at(data, size)))
        return status

    def _truncate(self, file: Any, size: int) -> int:
        status = self._theirs(file).truncate(file, size)
        if self._trace is not None and status == OK:
            self._trace.note(Truncate(self._files[_address(file)], size))
        return status

    def _sync(self, file: Any, flags: int) -> int:
        if self._trace is None:
            return OK
        self._trace.note(Sync(self._files[_address(file)]))
        return self._theirs(file).sync(file, flags)

    def _delete(self, _vfs: Any, name: bytes, sync_folder: int) -> int:
        path = Path(name.decode())
        if self._trace is not None and path.parent == self._folder:
            self._trace.deleted(path.name)
        return self._system.delete(byref(self._ours), name, sync_folder)

    def _folder_opened(self, name: bytes, descriptor: Any) -> int:
        # SQLite opens a folder, or a file's folder, for nothing but to sync it.
        if self._trace is not None and self._folder in (Path(name.decode()), Path(name.decode()).parent):
            self._trace.note(SyncFolder())
        return self._system_open_folder(name, descriptor)


def _address(file: Any) -> int:
    return ctypes.addressof(file.contents)


def _library() -> Any:
    """Give the library that `sqlite3` itself uses: what its extension module is linked to."""
    found = importlib.util.find_spec("_sqlite3")
    origin = found.origin if found is not None else None
    library: Any = ctypes.CDLL(origin if origin and Path(origin).is_file() else None)
    try:
        source: Callable[[], bytes] = library.sqlite3_sourceid
        source.restype = c_char_p  # pyright: ignore[reportFunctionMemberAccess] - a function of C
        library.sqlite3_vfs_find.restype = POINTER(Vfs)
        library.sqlite3_vfs_find.argtypes = [c_char_p]
        library.sqlite3_vfs_register.argtypes = [POINTER(Vfs), c_int]
        library.sqlite3_vfs_unregister.argtypes = [POINTER(Vfs)]
    except AttributeError as error:
        raise NoShim("this Python has its SQLite built in and hides its functions: use another build") from error
    connection = sqlite3.connect(":memory:")
    (used,) = connection.execute("SELECT sqlite_source_id()").fetchone()
    connection.close()
    if source().decode() != used:
        raise NoShim("another SQLite was found than the one that Python uses")
    return library
