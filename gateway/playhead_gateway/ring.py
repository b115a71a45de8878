"""The newest stretch of one session's log, held in memory, each frame encoded at most once. Does no I/O.

Seqs are dense, so a position is a seq and a lookup is an index. Records wait unencoded until the first viewer needs
them: opening a long session for its last event must not pay for all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from playhead.accept import Record
from playhead.ids import Cursor, Seq

__all__ = ["Ring", "Total"]

RECORD_OVERHEAD = 400
"""What a record costs in memory beside its value: the object, two hashes, a number, its list slots, its tag."""
FRAME_OVERHEAD = 120

TAKEN_MAX = 8
"""How many portions are remembered until something is appended."""

KEPT_AFTER_TRIM = 3, 4
"""A trim goes this far below the allowance, so that not every append moves the whole list."""


class Total:
    """What several rings hold together, in bytes."""

    def __init__(self) -> None:
        self.held = 0


class Ring:
    """The records after `first - 1`, up to the last one appended. `total` counts it among others until it leaves."""

    def __init__(self, after: int, frame: Callable[[Record], bytes], total: Total | None = None) -> None:
        self.first = after + 1
        self.held = 0
        self._total = total or Total()
        self._frame = frame
        self._entries: list[Record | bytes] = []
        # The tag of each entry, and before them the tag of the record that the first entry follows.
        self._tags: list[bytes | None] = [None]
        self._taken: dict[tuple[int, int], tuple[Sequence[bytes], Cursor]] = {}

    @property
    def last(self) -> int:
        """The seq of the newest record, or of the one before the first if nothing was appended yet."""
        return self.first + len(self._entries) - 1

    def covers(self, seq: int) -> bool:
        """Tell whether a reader who has seen everything up to `seq` can go on from here."""
        return self.first - 1 <= seq <= self.last

    def tag(self, seq: int) -> str | None:
        """Give the first 8 hex digits of a covered record's hash, or None where it is not known."""
        tag = self._tags[seq - self.first + 1]
        return None if tag is None else tag.hex()

    def append(self, records: Sequence[Record]) -> None:
        """Add the records that follow the last one."""
        self._taken.clear()
        if not self._entries and records and records[0].seq > 1:
            self._tags[0] = records[0].prev[:4]
        for record in records:
            self._entries.append(record)
            self._tags.append(record.hash[:4])
        self._hold(sum(map(_cost, records)))

    def take(self, after: int, bytes_max: int) -> tuple[Sequence[bytes], Cursor]:
        """Give the frames after a covered seq, at least one if there is one, and the place that they lead to.

        Most viewers are at the same few places: what is taken twice before the next append is gathered once.
        """
        asked = after, bytes_max
        if asked not in self._taken:
            if len(self._taken) >= TAKEN_MAX:
                self._taken.clear()
            self._taken[asked] = self._gather(after, bytes_max)
        return self._taken[asked]

    def _gather(self, after: int, bytes_max: int) -> tuple[Sequence[bytes], Cursor]:
        frames: list[bytes] = []
        size, place = 0, after - self.first
        for place in range(after - self.first + 1, len(self._entries)):
            entry = self._entries[place]
            if isinstance(entry, Record):
                entry = self._encode(place, entry)
            frames.append(entry)
            size += len(entry)
            if size >= bytes_max:
                break
        return frames, Cursor(Seq(self.first + place))

    def trim(self, allowance: int, *, newest: int = 0) -> None:
        """Forget the oldest entries if more than `allowance` bytes are held, but not the `newest` ones.

        What has just been appended stays whatever it weighs: a viewer that has seen all before it is not too slow.
        """
        if self.held <= allowance:
            return
        self._taken.clear()
        kept, of = KEPT_AFTER_TRIM
        excess = self.held - allowance * kept // of
        freed = dropped = 0
        while freed < excess and dropped < len(self._entries) - newest:
            freed += _cost(self._entries[dropped])
            dropped += 1
        self._hold(-freed)
        del self._entries[:dropped]
        del self._tags[:dropped]
        self.first += dropped

    def leave(self) -> None:
        """Be counted with the others no more."""
        self._total.held -= self.held
        self._total = Total()

    def _encode(self, place: int, record: Record) -> bytes:
        frame = self._frame(record)
        self._entries[place] = frame
        self._hold(_cost(frame) - _cost(record))
        return frame

    def _hold(self, size: int) -> None:
        self.held += size
        self._total.held += size


def _cost(entry: Record | bytes) -> int:
    return len(entry.value) + RECORD_OVERHEAD if isinstance(entry, Record) else len(entry) + FRAME_OVERHEAD
