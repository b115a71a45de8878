"""Writing to a terminal, a pipe or a file: colour where it is wanted, quiet where nobody reads any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from playhead_cli.render import Piece, Style

__all__ = ["Terminal", "wants_colour"]

_CODES: dict[Style, str] = {
    "user": "1",
    "text": "",
    "thinking": "2;3",
    "tool": "36",
    "mark": "33",
    "error": "31",
    "note": "2",
}


def wants_colour(out: TextIO) -> bool:
    """Tell whether to colour what goes to `out`: only a terminal, and not if NO_COLOR is set (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Terminal:
    """Standard output and standard error, written through at once."""

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._notes = sys.stderr if notes is None else notes
        self._colour = wants_colour(self._out)

    def show(self, pieces: Iterable[Piece]) -> None:
        """Write pieces to standard output."""
        self._out.write("".join(self._painted(piece) for piece in pieces))
        self._out.flush()

    def line(self, text: str, style: Style = "text") -> None:
        """Write one line to standard output."""
        self.show([Piece(style, text + "\n")])

    def note(self, text: str) -> None:
        """Write one line to standard error: about the command, not of its answer."""
        self._notes.write(text + "\n")
        self._notes.flush()

    def _painted(self, piece: Piece) -> str:
        code = _CODES[piece.style]
        return f"\x1b[{code}m{piece.text}\x1b[0m" if self._colour and code else piece.text
