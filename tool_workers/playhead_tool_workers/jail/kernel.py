"""How to speak to the kernel where Python has no words for it."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["LIBC", "LINUX", "PR", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGXFSZ", "RefusedError", "demand"]
__all__ += ["process_control", "system_call"]

LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None, use_errno=True)

# The module `signal` would cost as much as all other imports. SIGSTOP has this number on Linux, where it is used.
SIGKILL, SIGPIPE, SIGSTOP, SIGXFSZ = 9, 13, 19, 25


class PR:
    """What prctl(2) is asked for."""

    SET_PDEATHSIG = 1
    SET_DUMPABLE = 4
    SET_SECCOMP = 22
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38


class RefusedError(Exception):
    """The system refused what the spec demands."""


def process_control(option: int, value: int) -> int:
    """Call prctl(2)."""
    nothing = ctypes.c_ulong(0)
    return LIBC.prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing)


def system_call(name: str, number: int, *arguments: int | bytes) -> int:
    """Call what the C library has no function for."""
    given = (ctypes.c_long(value) if isinstance(value, int) else value for value in arguments)
    return demand(name, LIBC.syscall(ctypes.c_long(number), *given))


def demand(name: str, result: int) -> int:
    """Insist that a call worked."""
    if result < 0:
        raise RefusedError(f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
