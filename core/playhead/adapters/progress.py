"""Which messages of a partition are done with, and how that is written into a group's commit.

Pure. A commit names the first message that is not done; those done after it ride along in the commit's metadata, so
that whoever takes the partition over does not run them again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

__all__ = ["Progress", "decode_finished", "encode_finished"]

METADATA_CHARS_MAX = 4000
"""How much a commit carries (Kafka's default limit is 4096); what does not fit is delivered again."""

FINISHED_MAX = 1_000_000
"""The most offsets that metadata may name: more than any member of ours leaves open."""

RANGE = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")


class Progress:
    """One partition of one member: what was delivered, and what of that is done."""

    def __init__(self, finished: Iterable[int] = ()) -> None:
        self._outstanding: deque[int] = deque()
        self._finished = set(finished)
        self._next: int | None = None
        self.changed = False

    @property
    def outstanding(self) -> int:
        """How many messages the partition's commit waits for, the first to the last delivered."""
        return len(self._outstanding)

    def deliver(self, offset: int) -> bool:
        """Note a message that was fetched; False if it is done already and must not be delivered."""
        done = offset in self._finished
        self._outstanding.append(offset)
        self._next = offset + 1
        if done:
            self._advance()
        return not done

    def finish(self, offset: int) -> None:
        """Note that a message is done with."""
        if self._outstanding and offset >= self._outstanding[0]:
            self._finished.add(offset)
            self.changed = True
            self._advance()

    def commit(self) -> tuple[int, str] | None:
        """Give the first offset that is not done, and the metadata that names those done after it."""
        if self._next is None:
            return None
        safe = self._outstanding[0] if self._outstanding else self._next
        return safe, encode_finished(safe, self._finished)

    def _advance(self) -> None:
        while self._outstanding and self._outstanding[0] in self._finished:
            self._finished.discard(self._outstanding.popleft())


def encode_finished(safe: int, finished: Iterable[int]) -> str:
    """Write offsets as ranges relative to the first that is not done: `2-5,9`."""
    text: list[str] = []
    length = 0
    for first, last in _ranges(sorted(finished)):
        part = f"{first - safe}-{last - safe}" if last > first else str(first - safe)
        length += len(part) + 1
        if length > METADATA_CHARS_MAX:
            break
        text.append(part)
    return ",".join(text)


def decode_finished(safe: int, metadata: str) -> set[int]:
    """Read what `encode_finished` wrote; anything else is nobody's."""
    finished: set[int] = set()
    if len(metadata) > METADATA_CHARS_MAX:
        return finished
    for part in filter(None, metadata.split(",")):
        found = RANGE.fullmatch(part)
        if found is None:
            return set()
        low, high = int(found[1]), int(found[2] or found[1])
        if len(finished) + high - low > FINISHED_MAX:
            return set()
        finished.update(range(safe + low, safe + high + 1))
    return finished


def _ranges(offsets: list[int]) -> Iterable[tuple[int, int]]:
    first = last = None
    for offset in offsets:
        if first is not None and last is not None and offset == last + 1:
            last = offset
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = offset
    if first is not None and last is not None:
        yield first, last
