"""Who holds the events of one session against rules: counts each test, and says where one failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["Judge", "brief", "strictly"]

SHOWN_CHARS_MAX = 160


def strictly(invariant: str, text: str) -> NoReturn:
    """Fail at once: for tests that look at one session."""
    raise AssertionError(f"{invariant}: {text}")


@dataclass
class Judge:
    """Holds `event` of `session`, the one that is being read, against rules. `object` hears of each that is broken."""

    session: str = ""
    object: Callable[[str, str], object] = strictly
    tested: Counter[str] = field(default_factory=Counter[str])
    event: dict[str, Any] = field(default_factory=dict[str, Any])

    def holds(self, invariant: str, holds: bool, expected: str) -> bool:
        """Note one test of an invariant; `expected` is what should have been. The text is only made if it failed."""
        self.tested[invariant] += 1
        if not holds:
            self.object(invariant, f"{self.session} seq {self.event.get('seq')}: {expected}; found {brief(self.event)}")
        return holds


def brief(value: object) -> str:
    """Show a value in a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}…"
