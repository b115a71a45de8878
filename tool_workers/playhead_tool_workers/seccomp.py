"""The system calls that a sandboxed command is refused, as a program for the kernel's filter (seccomp BPF). Pure.

Refused is what reaches into other processes, what makes namespaces and mounts, what large kernel interfaces that tools
have no use for offer (io_uring would even open sockets behind the filter's back), and sockets of families that no
namespace confines, such as AF_VSOCK. All else is allowed: this is a filter of a few things, not a list of good ones.
It knows the numbers of two machines, and refuses the calls of any other (32-bit programs on 64-bit kernels).
"""

from __future__ import annotations

import struct
from collections.abc import Collection

__all__ = ["INTERNET", "NONE", "OWN_NETWORK", "supports", "system_call_filter"]

UNIX, IPV4, IPV6, NETLINK = 1, 2, 10, 16

NONE: frozenset[int] = frozenset()
INTERNET = frozenset({IPV4, IPV6, NETLINK})
"""Netlink is how libraries find out which addresses there are; without capabilities it changes nothing."""
OWN_NETWORK = frozenset({UNIX, IPV4, IPV6, NETLINK})
"""Where the network is a namespace that nothing else is in."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64), from asm/unistd_64.h and asm-generic/unistd.h of Linux 6.
REFUSED = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "setns": (308, 268),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}

# Refused as if the kernel did not have them, because programs then take the way that was there before.
ABSENT = {
    "clone3": (435, 435),  # its flags are in memory, where a filter cannot look; clone's are not
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
}
SOCKET, SOCKETPAIR, CLONE = (41, 198), (53, 199), (56, 220)

NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWUSER, NEWNS, NEWNET, NEWPID, NEWIPC, NEWUTS, NEWCGROUP and NEWTIME."""
DATAGRAM, TYPE_MASK = 2, 0xF
X32 = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_OF, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Where struct seccomp_data has them. Both machines are little-endian, so that an argument's low half is first."""

ALLOW, KILL = 0x7FFF0000, 0x80000000
NOT_PERMITTED, NOT_IMPLEMENTED = 0x00050000 | 1, 0x00050000 | 38


def supports(machine: str) -> bool:
    """Tell whether the numbers of this machine (`platform.machine()`) are known."""
    return machine in ARCHITECTURES


def system_call_filter(machine: str, families: Collection[int]) -> bytes:
    """Write the filter for a machine, as an array of struct sock_filter.

    Sockets are of `families` only. Pairs of connected sockets go: they lead nowhere else.
    """
    column = list(ARCHITECTURES).index(machine)
    program = [
        _op(LOAD, ARCHITECTURE),
        _op(EQUAL, ARCHITECTURES[machine], yes=1),
        _op(RETURN, KILL),
        _op(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        program += [_op(AT_LEAST, X32, no=1), _op(RETURN, NOT_PERMITTED)]
    for numbers in REFUSED.values():
        program += [_op(EQUAL, numbers[column], no=1), _op(RETURN, NOT_PERMITTED)]
    for numbers in ABSENT.values():
        program += [_op(EQUAL, numbers[column], no=1), _op(RETURN, NOT_IMPLEMENTED)]
    program += _on(CLONE[column], _op(LOAD, FIRST), _op(ANY_OF, NEW_NAMESPACES, no=1), _op(RETURN, NOT_PERMITTED))
    known = (step for family in sorted(families) for step in (_op(EQUAL, family, no=1), _op(RETURN, ALLOW)))
    program += _on(SOCKET[column], _op(LOAD, FIRST), *known, _op(RETURN, NOT_PERMITTED))
    if UNIX not in families:
        # A datagram pair is not bound to itself: it sends to any path.
        refused = _op(AND, TYPE_MASK), _op(EQUAL, DATAGRAM, no=1), _op(RETURN, NOT_PERMITTED)
        program += _on(SOCKETPAIR[column], _op(LOAD, SECOND), *refused)
    return b"".join([*program, _op(RETURN, ALLOW)])


def _on(number: int, *steps: bytes) -> list[bytes]:
    """Do the steps for one system call, and allow it if none of them returned."""
    return [_op(EQUAL, number, no=len(steps) + 1), *steps, _op(RETURN, ALLOW)]


def _op(code: int, operand: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, operand)
