"""Histories: what happened in a run, one JSON object a line, whoever ran it and however.

Simulation, embedded chaos and Kafka chaos write the same lines, so that one checker (`check.py`) reads them all. A line is
`{"at": seconds, "node": who says it, "op": what, ...}`, in the order in which things happened; `at` is of one monotonic
clock for all nodes of a run. This module knows neither what the operations mean nor which clock it is.

| op | fields | who writes it |
|---|---|---|
| `fault` | `kind`, `target`, perhaps `sessions` (those that it affects), free fields | the nemesis, for each fault |
| `healed` | | the nemesis, once: no more faults from here on |
| `ready` | | a node that serves (again) |
| `message`, `cancel`, `answer` | `phase`: `invoke`, `ok`, `fail` (did not happen), `info` (unknown); `key`; `session` and `run` (from `ok` on); `content`; of an answer, `question` | a user |
| `opened` | `session`, `after` (an id, or "") | a viewer that connects |
| `seen` | `session`, `id`, `event` | a viewer, for each event |
| `ended` | `session` | a viewer that was told that nothing more comes |
| `refused` | `session`, `after`, `status` | a viewer whose resume was refused |
| `left` | `session` | a viewer that goes before the end, of its own will: whoever does not say so has seen all in the end |
| `tool` | `what` (`begun`, `done`), `call`, `key`, `try`, `given`, `process` | a tool function |
| `log` | `session`, `events`: [[id, event], ...], `state` or null, `records`: [base64, ...] or null | who reads all at the end |
"""  # noqa: E501 - a table

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from heapq import merge
from pathlib import Path
from typing import Any

__all__ = ["TORN", "History", "Line", "merged", "read"]

Line = dict[str, Any]

TORN = "torn"
"""The op of a line that could not be read: a process died while it wrote it, or two wrote at once."""


class History:
    """An append-only list of lines, each also written to a file at once if there is one.

    `clock` gives seconds that never go back, the same for every node. Many processes may append to one file.
    """

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        self.lines: list[Line] = []
        self._clock = clock
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = -1 if path is None else os.open(path, flags, 0o644)

    def note(self, node: str, op: str, **fields: Any) -> None:
        """Say that something happened now."""
        line: Line = {"at": self._clock(), "node": node, "op": op, **fields}
        self.lines.append(line)
        if self._file >= 0:
            # One write to a file opened for appending: lines of other processes do not come between its bytes.
            os.write(self._file, json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read(path: Path) -> list[Line]:
    """Read a history. What is no line of one becomes a line of the op `torn`, to which the checker objects."""
    return [_line(number, text) for number, text in enumerate(path.read_bytes().split(b"\n"), 1) if text]


def merged(*histories: Iterable[Line]) -> list[Line]:
    """Put histories of one clock together, by `at`; each must be in order already."""
    return list(merge(*histories, key=lambda line: line["at"]))


def _line(number: int, text: bytes) -> Line:
    try:
        line: object = json.loads(text)
    except ValueError:
        line = None
    if isinstance(line, dict) and {"at", "node", "op"} <= line.keys():  # pyright: ignore[reportUnknownMemberType] - JSON
        return line  # pyright: ignore[reportUnknownVariableType] - JSON
    return {"at": 0.0, "node": "", "op": TORN, "number": number, "text": text[:200].decode(errors="replace")}
