"""What the process takes on that becomes the command: another user, no privileges, Landlock, the filter, the limits."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

from .kernel import LIBC, LINUX, PR, SIGKILL, SIGPIPE, SIGXFSZ, RefusedError, demand, process_control, system_call
from .namespaces import own_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from playhead_tool_workers.confinement import Spec

__all__ = ["become_command"]

SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522

CLOSE_RANGE, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 436, 444, 445, 446

LANDLOCK_EXECUTE = 1 << 0
LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3
"""Execute, read a file, read a folder."""
LANDLOCK_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""The rights that a file can have, and not only a folder: execute, write, read, truncate, device ioctl."""
LANDLOCK_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""From which version on there are which rights on files."""


class SocketFilter(ctypes.Structure):
    """Struct sock_fprog: a filter program, by its length in instructions and where it is."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def become_command(spec: Spec, report: int) -> None:
    """Take on all that confines, then become the command. Does not return."""
    LIBC.signal(SIGPIPE, None)  # Python ignores these two, and what is ignored stays so in the command
    LIBC.signal(SIGXFSZ, None)
    os.setsid()
    rules = landlock_rules(spec) if spec["landlock"] else None
    if spec["user"] >= 0:
        become(spec)
    os.chdir(spec["home"])
    os.umask(0o077)
    if LINUX:
        demand("PR_SET_PDEATHSIG", process_control(PR.SET_PDEATHSIG, SIGKILL))
        demand("PR_SET_NO_NEW_PRIVS", process_control(PR.SET_NO_NEW_PRIVS, 1))
        header = CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
        demand("capset", LIBC.capset(header, bytes(24)))
    if rules is not None:
        system_call("landlock_restrict_self", LANDLOCK_RESTRICT, rules, 0)
    close_files(report)
    if spec["filter"]:
        program = SocketFilter(len(spec["filter"]) // 8, spec["filter"])
        done = LIBC.prctl(PR.SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program))
        demand("PR_SET_SECCOMP", done)
    limit(spec)
    try:
        os.execve(spec["program"], spec["argv"], spec["env"])
    except OSError as error:
        advice = "a program has to be where the sandbox may read"
        raise RefusedError(f"cannot run {spec['program']}: {error.strerror}; {advice}") from error


def close_files(report: int) -> None:
    """Close all that is open beside the streams and the report, which closes itself when the command comes."""
    os.closerange(3, report)
    if not LINUX or LIBC.syscall(CLOSE_RANGE, report + 1, 0xFFFFFFFF, 0) < 0:
        os.closerange(report + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def become(spec: Spec) -> None:
    """Give up being root for good."""
    user = spec["user"]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if spec["level"] in ("namespaces", "bubblewrap"):
        # In a user namespace of its own the command's processes are counted apart from all others of that user.
        demand("PR_SET_DUMPABLE", process_control(PR.SET_DUMPABLE, 1))
        own_user_namespace()


def landlock_rules(spec: Spec) -> int:
    """Write down for Landlock which files may be opened, and that nobody outside may be reached."""
    version = spec["landlock"]
    rights = sum(right for since, right in LANDLOCK_RIGHTS if version >= since)
    network = 0b11 if version >= 4 and not spec["network"] else 0
    outside = 0b11 if version >= 6 else 0
    attr = b"".join(part.to_bytes(8, sys.byteorder) for part in (rights, network, outside))
    attr = attr[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = system_call("landlock_create_ruleset", LANDLOCK_CREATE, attr, len(attr), 0)
    wanted = [(path, rights if write else LANDLOCK_READ) for path, write in spec["binds"]]
    wanted += [(path, rights & LANDLOCK_FILE & ~LANDLOCK_EXECUTE) for path in spec["devices"]]
    if spec["level"] != "landlock":
        wanted.append(("/proc", LANDLOCK_READ & ~LANDLOCK_EXECUTE))
    for path, wished in wanted:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = wished & (rights if os.path.isdir(path) else LANDLOCK_FILE)
        rule = allowed.to_bytes(8, sys.byteorder) + file.to_bytes(4, sys.byteorder)
        system_call(f"landlock_add_rule for {path}", LANDLOCK_ADD, rules, 1, rule, 0)
        os.close(file)
    return rules


def limit(spec: Spec) -> None:
    """Set the limits, none of them above what already holds for us."""
    cpu = spec["cpu_seconds"]
    wanted = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # at the first it is told, at the second killed
        (resource.RLIMIT_FSIZE, spec["file_bytes"], spec["file_bytes"]),
        (resource.RLIMIT_NOFILE, spec["open_files"], spec["open_files"]),
        (resource.RLIMIT_AS, spec["memory_bytes"], spec["memory_bytes"]),
    ]
    if LINUX:
        wanted.append((resource.RLIMIT_NPROC, spec["processes"], spec["processes"]))
    for kind, soft, hard in wanted:
        most = resource.getrlimit(kind)[1]
        unlimited = most == resource.RLIM_INFINITY
        resource.setrlimit(kind, (soft, hard) if unlimited else (min(soft, most), min(hard, most)))
