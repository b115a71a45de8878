"""The web origins whose pages may call from a browser: those of the access file as it is now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from playhead_gateway.access.authenticator import Authenticator

__all__ = ["Origins"]


class Origins(Collection[str]):
    """Looks like a list of origins, and follows the file."""

    def __init__(self, always: Sequence[str], authenticator: Authenticator) -> None:
        self._always = frozenset(always)
        self._authenticator = authenticator

    def __contains__(self, origin: object) -> bool:
        return origin in self._always or origin in self._authenticator.rules.origins

    def __iter__(self) -> Iterator[str]:
        return iter(self._always | self._authenticator.rules.origins)

    def __len__(self) -> int:
        return len(self._always | self._authenticator.rules.origins)
