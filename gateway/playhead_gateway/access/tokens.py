"""JSON Web Tokens of an OpenID Connect issuer: who signed one, and whom its claims stand for.

After RFC 8725: the algorithm is one of a fixed list and the key's own, keys come from where the operator says, and
nothing of a token is believed before its signature is good.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import orjson
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from playhead_gateway.access.claims import standing_from
from playhead_gateway.access.jwks import KeySet
from playhead_gateway.access.refusals import Refused
from playhead_gateway.access.rules import Issuer
from playhead_gateway.access.standing import Standing

__all__ = ["TOKEN_CHARS_MAX", "Tokens"]

TOKEN_CHARS_MAX = 8192
KID_CHARS_MAX = 256

NOT_OURS = "the token is not one that this issuer signed"


class Tokens:
    """Checks the tokens of one issuer at a time, and keeps its keys."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._signatures = PyJWS()

    async def standing(self, token: str, issuer: Issuer, now: float) -> Standing:
        """Give whom a token stands for. Raises `Refused`, `Unavailable`."""
        if len(token) > TOKEN_CHARS_MAX or not token.isascii():
            raise Refused(NOT_OURS)
        try:
            header = self._signatures.get_unverified_header(token)
        except PyJWTError:
            raise Refused(NOT_OURS) from None
        key = await self._key_set(issuer).key(_kid(header, issuer))
        if key is None:
            raise Refused(NOT_OURS)
        try:
            # The key says what it signs with: a header that says otherwise is refused, and so is one with `crit`.
            payload = self._signatures.decode(token, key, algorithms=[key.algorithm_name])
            claims: object = orjson.loads(payload)
        except (PyJWTError, ValueError):
            raise Refused(NOT_OURS) from None
        if not isinstance(claims, dict):
            raise Refused(NOT_OURS)
        return standing_from(cast("dict[str, Any]", claims), issuer, now)

    def _key_set(self, issuer: Issuer) -> KeySet:
        keys = self._keys
        if keys is None or (keys.source, keys.algorithms) != (issuer.keys, issuer.algorithms):
            keys = self._keys = KeySet(issuer.keys, frozenset(issuer.algorithms), self._monotonic)
        return keys


def _kid(header: dict[str, Any], issuer: Issuer) -> str | None:
    """Give the key's id that a header names, if the header is one to go on with. Raises `Refused`."""
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > KID_CHARS_MAX):
        raise Refused(NOT_OURS)
    if issuer.type is not None and str(header.get("typ", "")).lower() != issuer.type.lower():
        raise Refused("the token is of another type")
    return kid
