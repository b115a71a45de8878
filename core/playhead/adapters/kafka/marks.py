"""Marks: that some events of a session are at known offsets of its lane, so that a reader need not begin at the first.

Pure. A session's marks are bytes, the value of a record in the index: whoever reads them checks each against what is
stored there, so that one that is missing or wrong costs time and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["MARKS_MAX", "MARK_RECORDS", "Mark", "last_marked", "marks_in", "with_mark"]

MARK_RECORDS = 2048
"""A session that appends when its lane has this many more records than at its last mark gets another."""

MARKS_MAX = 256
"""The most marks of one session; when there are more, every second of the older half is dropped."""

TAG_BYTES = 8
PACKED = struct.Struct(f">QQ{TAG_BYTES}s")


@dataclass(frozen=True, slots=True)
class Mark:
    """The event `seq`, whose hash begins with `tag`, was accepted at `offset`."""

    seq: int
    offset: int
    tag: bytes

    @classmethod
    def of(cls, seq: int, offset: int, hash_: bytes) -> Mark:
        """Mark an event."""
        return cls(seq, offset, hash_[:TAG_BYTES])


def marks_in(packed: bytes) -> tuple[Mark, ...]:
    """Read marks. Bytes that are none of ours have none."""
    if len(packed) % PACKED.size:
        return ()
    return tuple(Mark(*fields) for fields in PACKED.iter_unpack(packed))


def last_marked(packed: bytes) -> int:
    """Give the offset of the last mark, 0 without any."""
    if not packed or len(packed) % PACKED.size:
        return 0
    return int(PACKED.unpack_from(packed, len(packed) - PACKED.size)[1])


def with_mark(packed: bytes, mark: Mark) -> bytes:
    """Add a mark."""
    marks = [*marks_in(packed), mark]
    if len(marks) > MARKS_MAX:
        half = MARKS_MAX // 2
        marks = marks[:half:2] + marks[half:]
    return b"".join(PACKED.pack(mark.seq, mark.offset, mark.tag) for mark in marks)
