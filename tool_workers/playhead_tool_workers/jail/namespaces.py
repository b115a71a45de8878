"""Namespaces: a network without interfaces, processes of one's own, and a root that shows only what the spec names."""

from __future__ import annotations

import ctypes
import os
import sys

from .kernel import LIBC, demand, system_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from playhead_tool_workers.confinement import Spec

__all__ = ["build_root", "enter_namespaces", "own_user_namespace"]

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 8, 0x1000, 0x4000, 0x40000, 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, AT_RECURSIVE, AT_FDCWD = 1, 2, 4, 0x8000, -100
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR = 442


def enter_namespaces(spec: Spec) -> None:
    """Make all but that of the mounts. The next process to be started is the first one in that of the processes."""
    wanted = NEWPID | NEWIPC | (0 if spec["network"] else NEWNET)
    if spec["user"] < 0:
        own_user_namespace()
    demand("unshare", LIBC.unshare(wanted))


def own_user_namespace() -> None:
    """Make a user namespace and be the same user there as outside."""
    user, group = os.geteuid(), os.getegid()
    demand("unshare", LIBC.unshare(NEWUSER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def build_root(spec: Spec) -> None:
    """Mount what the command may see below a new root, and make that the root."""
    root = spec["root"]
    os.umask(0o022)
    # Not earlier: the guard has to keep the root, and with it the /proc, that it has.
    demand("unshare", LIBC.unshare(NEWNS))
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for path, write in spec["binds"]:
        bind(path, root + path)
        change_mount(root + path, ATTR_NOSUID | ATTR_NODEV | (0 if write else ATTR_RDONLY), AT_RECURSIVE)
    for path in spec["devices"]:
        bind(path, root + path)
    os.makedirs(root + "/proc", exist_ok=True)
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for path, target in spec["links"]:
        if not os.path.lexists(root + path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(target, root + path)
    os.chdir(root)
    # The old root lands on top of the new one, and is taken off at once (pivot_root(2), "pivot_root('.', '.')").
    system_call("pivot_root", PIVOT_ROOT[os.uname().machine], b".", b".")
    demand("umount", LIBC.umount2(b".", MNT_DETACH))
    change_mount("/", ATTR_RDONLY, 0)


def bind(path: str, target: str) -> None:
    """Show a file or folder at another place."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(path, target, None, MS_BIND | MS_REC)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Call mount(2)."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    done = LIBC.mount(*texts[:3], ctypes.c_ulong(flags), texts[3])
    demand(f"mount of {source or target}", done)


def change_mount(target: str, attributes: int, flags: int) -> None:
    """Call mount_setattr(2), which takes away from mounts and what is mounted below them, and gives nothing."""
    attr = attributes.to_bytes(8, sys.byteorder) + bytes(24)
    system_call("mount_setattr", MOUNT_SETATTR, AT_FDCWD, os.fsencode(target), flags, attr, len(attr))
