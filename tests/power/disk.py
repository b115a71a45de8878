"""A disk that loses power: what was written to it, what had been synced by then, and what may be left of the rest.

The model knows files, bytes and folders' entries, and nothing of SQLite. A sync makes one file's writes safe; a sync of
the folder makes safe which files there are. Of everything else any part may be on the disk after a cut, in any order:
`Fate` names the ways. The bytes around a write are never harmed (SQLite assumes so too: "powersafe overwrite").
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

__all__ = [
    "Create",
    "Delete",
    "Fate",
    "Image",
    "Operation",
    "Platter",
    "Sync",
    "SyncFolder",
    "Trace",
    "Truncate",
    "Write",
]

SECTOR_BYTES = 512

Image = Mapping[str, bytes]
"""The files of a folder."""


@dataclass(frozen=True, slots=True)
class Create:
    """A name for a new file. Files are told apart by number: a name may come to mean another one."""

    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """Makes safe which files there are."""


Operation = Create | Delete | Write | Truncate | Sync | SyncFolder


class Trace:
    """Everything that was done to a folder since its power came on, in order. Threads may note at the same time."""

    def __init__(self, image: Image, operations: Iterable[Operation] = ()) -> None:
        self.image = image
        self.operations: list[Operation] = []
        self._lock = threading.Lock()
        self._numbers = {name: number for number, name in enumerate(sorted(image))}
        self._given = len(self._numbers)
        for operation in operations:
            self._add(operation)

    @property
    def now(self) -> int:
        """How much has been done."""
        return len(self.operations)

    def prefix(self, length: int) -> Trace:
        """Give the trace as it was when so much had been done, to go on from there."""
        return Trace(self.image, self.operations[:length])

    def opened(self, name: str) -> int:
        """Note that a file was opened, and made if it is not there; give its number."""
        with self._lock:
            if name not in self._numbers:
                self._add(Create(self._given, name))
            return self._numbers[name]

    def deleted(self, name: str) -> None:
        """Note that a file was deleted."""
        with self._lock:
            if name in self._numbers:
                self._add(Delete(self._numbers[name], name))

    def note(self, operation: Write | Truncate | Sync | SyncFolder) -> None:
        """Note what else was done."""
        with self._lock:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        match operation:
            case Create(number, name):
                self._numbers[name] = number
                self._given = max(self._given, number + 1)
            case Delete(_, name):
                del self._numbers[name]
            case _:
                pass
        self.operations.append(operation)


class Fate(Enum):
    """What happens to what was not synced."""

    LOST = "all of it is gone"
    KEPT = "all of it is there, as after the death of a process"
    ORDERED = "it is there up to some byte of some write"
    REORDERED = "each write is there or not"
    SECTORS = "each sector of each write is there or not; a file may have grown without what made it grow"
    TORN = "as for sectors, and some hold only a part of what was written, or rubbish"


@dataclass(slots=True)
class Platter:
    """The disk at one moment: what is safe, and what waits."""

    files: dict[int, bytearray] = field(default_factory=dict[int, bytearray])
    entries: dict[str, int] = field(default_factory=dict[str, int])
    pending: dict[int, list[Write | Truncate]] = field(default_factory=dict[int, list[Write | Truncate]])
    renaming: list[Create | Delete] = field(default_factory=list[Create | Delete])

    @classmethod
    def of(cls, image: Image) -> Platter:
        """Make a disk on which an image is safe, numbered as `Trace` does."""
        platter = cls()
        for number, name in enumerate(sorted(image)):
            platter.files[number] = bytearray(image[name])
            platter.entries[name] = number
        return platter

    @property
    def settled(self) -> bool:
        """Whether everything is safe, so that every fate is the same."""
        return not self.renaming and not any(self.pending.values())

    def do(self, operation: Operation) -> None:
        """Do what the trace says."""
        match operation:
            case Create(number):
                self.files[number] = bytearray()
                self.renaming.append(operation)
            case Delete():
                self.renaming.append(operation)
            case Write(number) | Truncate(number):
                self.pending.setdefault(number, []).append(operation)
            case Sync(number):
                for waiting in self.pending.pop(number, []):
                    _apply(self.files[number], waiting)
            case SyncFolder():
                for change in self.renaming:
                    _rename(self.entries, change)
                self.renaming.clear()

    def cut(self, fate: Fate, random: Random) -> tuple[dict[str, bytes], Counter[str]]:
        """Lose power: give what is on the disk after it, and count what became of what was not synced."""
        losses: Counter[str] = Counter()
        entries = dict(self.entries)
        for change in _choose(self.renaming, fate, random):
            _rename(entries, change)
            losses["names kept"] += 1
        losses["names dropped"] += len(self.renaming) - losses["names kept"]
        image: dict[str, bytes] = {}
        for name, number in entries.items():
            content = bytearray(self.files[number])
            _survive(content, self.pending.get(number, []), fate, random, losses)
            image[name] = bytes(content)
        return image, losses


def _rename(entries: dict[str, int], change: Create | Delete) -> None:
    if isinstance(change, Create):
        entries[change.name] = change.file
    elif entries.get(change.name) == change.file:
        del entries[change.name]


def _apply(content: bytearray, operation: Write | Truncate) -> None:
    if isinstance(operation, Truncate):
        _resize(content, operation.size)
    else:
        _resize(content, max(len(content), operation.offset))
        content[operation.offset : operation.offset + len(operation.data)] = operation.data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _choose(changes: Sequence[Create | Delete], fate: Fate, random: Random) -> Sequence[Create | Delete]:
    match fate:
        case Fate.LOST:
            return ()
        case Fate.KEPT:
            return changes
        case Fate.ORDERED:
            return changes[: random.randint(0, len(changes))]
        case _:
            return [change for change in changes if random.random() < 0.5]


def _survive(
    content: bytearray, waiting: Sequence[Write | Truncate], fate: Fate, random: Random, losses: Counter[str]
) -> None:
    """Apply what survives of the writes that wait."""
    share = random.choice((0.1, 0.5, 0.9))
    end = random.randint(0, len(waiting)) if fate is Fate.ORDERED else len(waiting)
    for place, operation in enumerate(waiting):
        whole = fate is not Fate.LOST and place < end
        if whole and fate in (Fate.REORDERED, Fate.SECTORS, Fate.TORN):
            whole = random.random() < share
        if whole:
            _apply(content, operation)
            losses["writes kept"] += 1
        elif isinstance(operation, Write) and (
            fate in (Fate.SECTORS, Fate.TORN) or (fate is Fate.ORDERED and place == end)
        ):
            _tear(content, operation, fate, random)
            losses["writes torn"] += 1
        else:
            losses["writes dropped"] += 1


def _tear(content: bytearray, write: Write, fate: Fate, random: Random) -> None:
    """Apply a part of a write: its first bytes, or some of its sectors, whole or not."""
    if fate is Fate.ORDERED:
        _apply(content, Write(write.file, write.offset, write.data[: random.randint(0, len(write.data))]))
        return
    if random.random() < 0.5:
        # The new size may be on the disk without the bytes.
        _resize(content, max(len(content), write.offset + len(write.data)))
    start = 0
    while start < len(write.data):
        stop = min(len(write.data), start + SECTOR_BYTES - (write.offset + start) % SECTOR_BYTES)
        piece = write.data[start:stop]
        if random.random() < 0.5:
            if fate is Fate.TORN and random.random() < 0.3:
                piece = (
                    random.randbytes(len(piece)) if random.random() < 0.5 else piece[: random.randint(0, len(piece))]
                )
            if piece:
                _apply(content, Write(write.file, write.offset + start, piece))
        start = stop
