"""What an append means to a store that can compare before it writes: pure, shared by the memory and SQLite adapters.

Such a store refuses what does not chain on to its head, so it never holds a void record and `position` equals `seq`.
"""

from __future__ import annotations

from collections.abc import Sequence

from playhead.accept import Head, Record, advance, genesis
from playhead.codec import RECORD_BYTES_MAX
from playhead.errors import Superseded, TooLarge
from playhead.ids import SessionId
from playhead.log import APPEND_RECORDS_MAX

__all__ = ["appended", "check_append", "head_at"]


def check_append(head: Head, records: Sequence[Record]) -> Head:
    """Give the head that an append leads to. Raises `TooLarge`, and `ValueError` if the records do not chain."""
    if len(records) > APPEND_RECORDS_MAX:
        raise TooLarge(f"{len(records)} records", f"an append has at most {APPEND_RECORDS_MAX}")
    size = sum(len(record.value) for record in records)
    if size > RECORD_BYTES_MAX:
        raise TooLarge(f"{size} bytes", f"the records of an append have together at most {RECORD_BYTES_MAX}")
    after, accepted = advance(Head(head.seq, head.hash, head.seq), records)
    if len(accepted) != len(records):
        raise ValueError(f"these records do not chain on to seq {head.seq}: seal them on that head")
    return after


def appended(session: SessionId, head: Head, records: Sequence[Record], *, now: Head, there: Sequence[Record]) -> bool:
    """Tell whether an append has been made already (L8); False means: make it. Raises `Superseded` (L4).

    `now` is the head of the log, `there` what is stored at the seqs that the append would take.
    """
    if (now.seq, now.hash) == (head.seq, head.hash):
        return False
    if [record.hash for record in there] == [record.hash for record in records]:
        return True
    raise Superseded(session, head.seq + 1)


def head_at(session: SessionId, record: Record | None) -> Head:
    """Give the head of somebody who read up to a record, or to nothing."""
    return genesis(session) if record is None else Head(record.seq, record.hash, record.seq)
