"""What a level of confinement makes of a `Sandbox`: what a command sees of the files, and the `Spec` that the jail
carries out. It starts nothing; of the file system it reads only what exists and where links lead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from playhead.errors import Misconfigured
from playhead.options import Sandbox

from playhead_tool_workers.seccomp import INTERNET, NONE, OWN_NETWORK, supports, system_call_filter

__all__ = ["JAIL", "PATH", "Command", "Found", "Level", "Spec", "View", "bubblewrap", "families", "spec_of", "view"]

JAIL = str(Path(__file__).with_name("jail"))

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Not /usr/src, which is where applications in containers often are, beside their settings.
SYSTEM = (
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec"),
    *("/usr/include", "/usr/local", "/usr/share"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
)
RESOLVER = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
    *("/etc/pki/tls/certs", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted", "/etc/crypto-policies"),
)
STREAMS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")

OPEN_FILES = 256
"""How many files a command may have open."""

KEEPERS = {"namespaces": 2, "bubblewrap": 3}
"""How many processes of ours a level counts with the command's own: they are in its user namespace."""


class Level(StrEnum):
    """How far this system lets a command be confined. Best first.

    At every level: limits of memory (of each process), processor time (of each process), size of a file, number of
    processes and of open files; no new privileges on Linux; never as root, if the worker may change users (it runs as
    `nobody` then); what it starts is ended with it. No level limits how much it writes in all, or the load it makes.
    """

    BUBBLEWRAP = "bubblewrap"
    """As `NAMESPACES`, with the namespaces and mounts made by the program `bwrap`, which may be allowed to make them
    where we are not. There is a loopback interface in the network that it has to itself."""
    NAMESPACES = "namespaces"
    """It sees no files but the system's programs and libraries, the folders it was given and its own; no processes but
    its own (all of which end with it, whatever they do); and a network without any interface, if it may not use ours.
    With Landlock and the system call filter on top, where there are. With `network=True` it reaches all that the
    worker reaches, the host's own services included."""
    LANDLOCK = "landlock"
    """It opens no files but those, and no sockets at all if it may not use the network: Landlock keeps to TCP, so the
    filter of system calls refuses all sockets, UDP and Unix ones too, and there is no such level without it. What is
    left: it can tell which files exist, and change mode, times and extended attributes of files that its user owns. It
    sees no /proc, but shares the table of processes: before Linux 6.12 it can send signals to others of its user. What
    it starts is found by descent, and ended. The limit of processes is one of all that its user has, so it is set to
    what there are when the command starts and so many more."""
    LIMITS = "limits"
    """Limits only. Files and network of the worker's user are open to it, and it may escape being ended."""


class Spec(TypedDict):
    """What the jail is told. Plain values only: it travels as `marshal`, because the jail imports next to nothing."""

    level: str
    program: str
    argv: list[str]
    env: dict[str, str]
    base: str
    """The run's folder: it contains `home`, the private folder, and `root`, where a new root is mounted."""
    home: str
    root: str
    network: bool
    user: int
    """Whom to become; -1 to stay who we are."""
    binds: list[tuple[str, bool]]
    """What exists for the command, and whether it may write there. Parents before children."""
    links: list[tuple[str, str]]
    devices: list[str]
    landlock: int
    """The version of Landlock that was found; 0 for none."""
    filter: bytes
    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    open_files: int
    processes: int
    wrapper: list[str]
    """The command line that makes the namespaces, to which the jail appends itself; empty if it makes them itself."""


@dataclass(frozen=True, slots=True)
class Found:
    """What this system offers."""

    level: Level
    machine: str
    landlock: int = 0
    user: int = -1
    bwrap: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """What is to run: `program` is the path of `argv[0]`, and `env` comes on top of what every command has."""

    program: str
    argv: Sequence[str]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """What a command sees of the files. `links` lead to where the folders really are."""

    binds: tuple[tuple[str, bool], ...]
    links: tuple[tuple[str, str], ...]


def view(sandbox: Sandbox, home: str) -> View:
    """Tell what a command sees beside the devices. Raises `Misconfigured` for folders that are not there."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix} - {"/", "/usr"}
    usual = [*SYSTEM, *(RESOLVER if sandbox.network else ()), *sorted(prefixes)]
    wanted = {path: False for path in usual if os.path.lexists(path)}
    for name, paths in (("read", sandbox.read), ("write", sandbox.write)):
        for path in map(os.path.normpath, paths):
            if not Path(path).is_absolute() or path == os.sep or not Path(path).exists():
                raise Misconfigured(f"sandbox: {name} names folders that exist, by their whole path, not {path!r}")
            wanted[path] = wanted.get(path, False) or name == "write"
    wanted[home] = True
    real: dict[str, bool] = {}
    for path, write in wanted.items():
        target = str(Path(path).resolve())
        real[target] = real.get(target, False) or write
    binds = {
        path: write
        for path, write in sorted(real.items())
        if Path(path).exists() and not _within(path, real, write=write)
    }
    links = ((path, str(Path(path).resolve())) for path in wanted)
    return View(
        tuple(binds.items()),
        tuple(
            (path, target) for path, target in links if path != target and not _within(path, dict.fromkeys(binds, True))
        ),
    )


def _within(path: str, folders: Mapping[str, bool], *, write: bool = False) -> bool:
    """Tell whether a folder above it shows it already, writable if it has to be."""
    return any(str(parent) in folders and (folders[str(parent)] or not write) for parent in Path(path).parents)


def families(level: Level, *, network: bool) -> frozenset[int]:
    """Tell which families of sockets a level leaves to a command."""
    if network:
        return INTERNET
    return NONE if level is Level.LANDLOCK else OWN_NETWORK


def spec_of(found: Found, sandbox: Sandbox, command: Command, base: str) -> Spec:
    """Write down how a command is to be confined. Raises `Misconfigured` for folders that are not there."""
    level, home = found.level, str(Path(base) / "home")
    confined = level is not Level.LIMITS
    seen = view(sandbox, home)
    spec = Spec(
        level=level.value,
        program=command.program,
        argv=list(command.argv),
        env={"PATH": PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", **command.env},
        base=base,
        home=home,
        root=str(Path(base) / "root"),
        network=sandbox.network,
        user=found.user,
        binds=list(seen.binds),
        links=[*seen.links, *STREAMS],
        devices=[path for path in DEVICES if Path(path).exists()],
        landlock=found.landlock if confined else 0,
        filter=b"",
        memory_bytes=sandbox.memory_mb << 20,
        cpu_seconds=sandbox.cpu_seconds,
        file_bytes=sandbox.file_mb << 20,
        open_files=OPEN_FILES,
        processes=sandbox.processes + (KEEPERS.get(level.value, 0) if found.user < 0 else 0),
        wrapper=[],
    )
    if confined and supports(found.machine):
        spec["filter"] = system_call_filter(found.machine, families(level, network=sandbox.network))
    if level is Level.BUBBLEWRAP:
        spec["wrapper"] = bubblewrap(spec, found.bwrap)
    return spec


def bubblewrap(spec: Spec, bwrap: str) -> list[str]:
    """Write the command line of `bwrap`, to the end of its own options."""
    argv = [bwrap, "--die-with-parent", "--unshare-ipc", "--unshare-pid", "--cap-drop", "ALL"]
    if not spec["network"]:
        argv.append("--unshare-net")
    if spec["user"] < 0:
        argv.append("--unshare-user")
    else:
        # The jail inside gives up being root, after it has seen folders that only root may enter.
        argv += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    binds = sorted([*spec["binds"], (JAIL, False)])
    # By themselves they would be open to root alone.
    for folder in _folders_between(
        [path for path, _ in binds], [*spec["devices"], *(path for path, _ in spec["links"])]
    ):
        argv += ["--dir", folder]
    for path, write in binds:
        argv += ["--bind" if write else "--ro-bind", path, path]
    for path in spec["devices"]:
        argv += ["--dev-bind", path, path]
    for path, target in spec["links"]:
        argv += ["--symlink", target, path]
    return [*argv, "--proc", "/proc", "--remount-ro", "/", "--chdir", "/", "--"]


def _folders_between(binds: Sequence[str], others: Sequence[str]) -> list[str]:
    """List the folders above what is shown that are not shown themselves, parents first."""
    shown = dict.fromkeys(binds, True)
    above = {str(parent) for path in (*binds, *others) for parent in Path(path).parents}
    return sorted(path for path in above - shown.keys() - {"/"} if not _within(path, shown))
