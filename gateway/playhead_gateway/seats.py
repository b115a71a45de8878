"""How many may sit at once: in all, and by the names that somebody goes by, such as a key and a tenant. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

__all__ = ["Full", "Names", "Seats"]

Names = Sequence[tuple[str, int]]
"""The names that somebody is counted by, and how many of each there may be."""


class Full(Exception):
    """No seat is left: of those that `name` may have, or if that is None, of all."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        super().__init__("no seat is left" if name is None else f"no seat is left for {name}")


class Seats:
    """Counts who sits. What is remembered is bounded by who sits: a name that nobody goes by any more is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by_name: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many sit."""
        return self._taken

    @property
    def names(self) -> frozenset[str]:
        """The names of those who sit."""
        return frozenset(self._by_name)

    def check(self, names: Names = ()) -> None:
        """Find out whether there is a seat for who goes by these names. Raises `Full`."""
        if self._taken >= self._most:
            raise Full(None)
        for name, most in names:
            if self._by_name[name] >= most:
                raise Full(name)

    @contextmanager
    def seat(self, names: Names = ()) -> Generator[None, None, None]:
        """Have a seat for the length of a `with`: of all that the names may have, or of none. Raises `Full`."""
        self.check(names)
        self._taken += 1
        self._by_name.update(name for name, _ in names)
        try:
            yield
        finally:
            self._taken -= 1
            for name, _ in names:
                self._by_name[name] -= 1
                if not self._by_name[name]:
                    del self._by_name[name]
