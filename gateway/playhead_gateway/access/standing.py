"""What a ticket or a cookie says of who had it made.

One that came of an API key names the key alone: its tenant and scopes are looked up each time, so a key that is taken
back takes its cookies and tickets along. One that came of a token carries what the token said, until the token's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, cast

from playhead_gateway.principal import SCOPES, Principal, Scope

__all__ = ["KEY_MARK", "TOKEN_MARK", "Standing", "read_standing", "scopes_among", "standing_of"]

KEY_MARK, TOKEN_MARK = "phk_", "jwt:"
"""How `Principal.key` begins: with the id of an API key, or with the name that a token gave. Neither can pass for the
other."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whom a signed text stands for: an API key by its id, or what a token said until `until` (seconds)."""

    key: str | None = None
    name: str = ""
    tenant: str | None = None
    scopes: frozenset[Scope] = frozenset()
    until: float = inf

    def claims(self) -> dict[str, object]:
        """Give it as claims to be signed."""
        if self.key is not None:
            return {"key": self.key}
        until = self.until if isfinite(self.until) else None
        return {"name": self.name, "tenant": self.tenant, "scopes": sorted(self.scopes), "until": until}


def standing_of(principal: Principal) -> Standing:
    """Say whom a principal's tickets and cookies stand for."""
    if principal.key.startswith(KEY_MARK):
        return Standing(principal.key.removeprefix(KEY_MARK))
    return Standing(None, principal.name, principal.tenant, principal.scopes, principal.expires_at)


def read_standing(claims: Mapping[str, Any]) -> Standing | None:
    """Read signed claims. None for those of a version that writes them otherwise."""
    if isinstance(key := claims.get("key"), str):
        return Standing(key)
    name, tenant, until = claims.get("name"), claims.get("tenant"), claims.get("until")
    if not isinstance(name, str) or not isinstance(tenant, str | None) or not isinstance(until, float | int | None):
        return None
    return Standing(None, name, tenant, scopes_among(claims.get("scopes")), inf if until is None else until)


def scopes_among(names: object) -> frozenset[Scope]:
    """Give the scopes of ours among what a list, or a text of words, may name besides."""
    words: object = names.split() if isinstance(names, str) else names
    if not isinstance(words, list | tuple):
        return frozenset()
    found = {word for word in cast("list[object]", words) if isinstance(word, str)}
    return frozenset(scope for scope in SCOPES if scope in found)
