"""Results of `read` tools that are given again to the same question, for as long as the tool allows. Pure memory.

Two calls that ask the same at the same time both run: none waits for the other, so none fails or hangs by its fault.
Only results are kept, never failures; which those are, and that no stream is among them, is the caller's to see to.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from playhead.canonical import canonical_json
from playhead.events import Json
from playhead.ids import digest

__all__ = ["ResultCache", "key_of"]

ENTRIES_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024


def key_of(tool: str, schema_hash: str, tenant: str, input: Json) -> str:  # noqa: A002 - the word of the command
    """Name a question: which tool, with which arguments, on whose behalf. Raises `Invalid` if `input` is not JSON."""
    return digest("cached", tool, schema_hash, tenant, canonical_json(input))


@dataclass(frozen=True, slots=True)
class _Entry:
    output: Json
    kept_at: float
    size: int


class ResultCache:
    """The results of one worker. What was asked for least recently makes room."""

    def __init__(self, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes_kept = 0
        """Of outputs and keys."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now: float, max_age: float) -> Json | None:
        """Find a result that is younger than `max_age` seconds. An older one is forgotten."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now - entry.kept_at >= max_age:
            self._forget(key)
            return None
        self._entries.move_to_end(key)
        return entry.output

    def put(self, key: str, output: Json, now: float) -> None:
        """Keep a result that is as old as `now`, if it fits at all."""
        self._forget(key)
        entry = _Entry(output, now, len(key) + len(output.encode()))
        if self._entries_max < 1 or entry.size > self._bytes_max:
            return
        self._entries[key] = entry
        self.bytes_kept += entry.size
        while len(self._entries) > self._entries_max or self.bytes_kept > self._bytes_max:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes_kept -= entry.size
