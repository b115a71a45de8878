"""What a tool can declare beside its function: rates, breakers, limits of arguments, a sandbox. Checked when declared.

Values only: nothing here counts, waits or runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from playhead.errors import Misconfigured

__all__ = ["Breaker", "Limit", "RateLimit", "Sandbox"]

RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{0,6})\s*(s|m|min|h|d)\s*(per\s+tenant)?\s*")

UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` starts in `seconds`, of the tool in all its pool or `per` tenant. Raises `Misconfigured`."""

    count: int
    seconds: float = 1.0
    _: KW_ONLY
    per: Literal["tool", "tenant"] = "tool"

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.seconds <= 7 * 86_400:
            raise Misconfigured(f"a rate limit is at least 1 call in more than 0 s and at most a week, not {self!r}")

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """Read `20/s`, `100/5min` or `10/s per tenant`. Raises `Misconfigured`."""
        found = RATE.fullmatch(text)
        if found is None:
            raise Misconfigured(f"a rate limit reads like '20/s', '100/min' or '10/s per tenant', not {text!r}")
        count, times, unit, per = found.groups()
        return cls(int(count), int(times or 1) * UNIT_SECONDS[unit], per="tenant" if per else "tool")


@dataclass(frozen=True, slots=True)
class Breaker:
    """After `failures` failed tries in a row no call is tried for `seconds`; then one is, to see. Raises
    `Misconfigured`."""

    failures: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.seconds <= 86_400:
            raise Misconfigured(f"a breaker opens after 1 failure or more, for at most a day, not {self!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What an argument may be, beyond its type: a number within bounds, a text or list no longer than `length`.

    The model is not told of it before; a call outside is denied. `deny` are regular expressions, searched for in the
    argument's text (its JSON, if it is not a text).
    """

    least: float | None = None
    most: float | None = None
    length: int | None = None
    deny: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "deny", (self.deny,) if isinstance(self.deny, str) else tuple(self.deny))
        for pattern in self.deny:
            try:
                re.compile(pattern)
            except re.error as error:
                raise Misconfigured(f"deny={pattern!r} is not a regular expression: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """How a command that a tool runs (`ToolContext.run`) is confined. Always: an environment of its own, a private
    temporary folder that is its working folder, no open files of ours, no new privileges, and these limits.

    `network`: whether it may reach any. `read`: folders that it may read beside the system's programs and libraries;
    `write`: folders that it may write beside its own. `unconfined`: run it even where the system offers nothing that
    keeps it from the network and from our files; without that such a command is refused.
    """

    memory_mb: int = 512
    cpu_seconds: int = 30
    file_mb: int = 64
    processes: int = 64
    output_bytes: int = 256 * 1024
    network: bool = False
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    unconfined: bool = False

    def __post_init__(self) -> None:
        for name in ("memory_mb", "cpu_seconds", "file_mb", "processes", "output_bytes"):
            if getattr(self, name) < 1:
                raise Misconfigured(f"sandbox: {name} is at least 1, not {getattr(self, name)}")
        for name in ("read", "write"):
            folders = getattr(self, name)
            if isinstance(folders, str):
                raise Misconfigured(f"sandbox: {name} is a list of folders, not the text {folders!r}")
            object.__setattr__(self, name, tuple(folders))
