"""What the claims of a token, whose signature is good, make of who sent it. Pure; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playhead_gateway.access.refusals import Refused
from playhead_gateway.access.rules import NAME, Issuer
from playhead_gateway.access.standing import Standing, scopes_among

__all__ = ["standing_from"]

SECONDS_MAX = 1e11
"""Beyond any date: such a number is milliseconds, or a mistake."""


def standing_from(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Standing:
    """Give whom claims stand for. Raises `Refused`."""
    if claims.get("iss") != issuer.issuer:
        raise Refused("the token is of another issuer")
    audience = claims.get("aud")
    if issuer.audience not in (audience if isinstance(audience, list) else [audience]):
        raise Refused("the token is for another audience")
    expires = _time(claims, "exp")
    if expires is None:
        raise Refused("the token has no end: `exp` is missing")
    until = expires + issuer.leeway_seconds
    if now >= until:
        raise Refused("the token has expired")
    begins = _time(claims, "nbf")
    if begins is not None and now < begins - issuer.leeway_seconds:
        raise Refused("the token is not good yet")
    named = issuer.claims
    tenant = None if named.tenant is None else _name(claims, named.tenant)
    return Standing(None, _name(claims, named.name), tenant, scopes_among(claims.get(named.scopes)), until)


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # A bool is an int to Python; NaN and infinity fail the comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise Refused(f"the token's `{name}` is no time")
    return float(value)


def _name(claims: Mapping[str, Any], name: str) -> str:
    """Give a claim that must be there: who comes without a tenant must not be taken for one who has none."""
    value = claims.get(name)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Refused(f"the token's claim `{name}` is missing, or is no name")
    return value
