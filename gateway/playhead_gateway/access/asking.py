"""Which credential a request comes with: one, by a fixed order, and never another one where that is not good. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from playhead_gateway.access.cookies import cookie_in, is_secure
from playhead_gateway.access.refusals import NotAllowedHere, Refused

__all__ = ["Asked", "Credential", "check_origin", "credential_of"]

BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *", re.I)
"""RFC 6750, section 2.1."""

SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request says who asks. `method` is `WEBSOCKET` for a handshake: it opens a way to write."""

    method: str
    scheme: str = "http"
    host: str = ""
    origin: str | None = None
    authorization: Sequence[str] = ()
    api_key: Sequence[str] = ()
    cookie: str = ""
    ticket: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request comes with, and how."""

    way: Literal["header", "ticket", "cookie"]
    text: str

    def __repr__(self) -> str:
        return f"Credential({self.way})"


def credential_of(asked: Asked) -> Credential:
    """Give the one credential that counts: a header before a ticket before a cookie. Raises `Refused`.

    A browser sends a cookie by itself, so one beside a header is not a second try. Two headers are.
    """
    headers = [*asked.authorization, *asked.api_key]
    if len(headers) > 1:
        raise Refused("send one credential: Authorization, or X-API-Key, once")
    if asked.authorization:
        found = BEARER.fullmatch(headers[0])
        if found is None:
            raise Refused("Authorization must read: Bearer, and a key or a token")
        return Credential("header", found[1])
    if asked.api_key:
        return Credential("header", asked.api_key[0])
    if asked.ticket:
        if len(asked.ticket) > 1:
            raise Refused("send one ticket")
        return Credential("ticket", asked.ticket[0])
    cookie = cookie_in(asked.cookie, secure=is_secure(asked.scheme, asked.host))
    if cookie is not None:
        return Credential("cookie", cookie)
    raise Refused("send Authorization: Bearer and an API key or a token", missing=True)


def check_origin(asked: Asked, origins: frozenset[str]) -> None:
    """Refuse what a page of a stranger may have had a browser send along with a cookie. Raises `NotAllowedHere`.

    Pages of this very host may write, and those of the origins that the operator names.
    """
    if asked.method in SAFE_METHODS:
        return
    origin = asked.origin
    if origin is None or not (origin in origins or _host(origin) == asked.host.lower() != ""):
        shown = "without an Origin" if origin is None else f"from pages of {origin[:100]!r}"
        raise NotAllowedHere(f"a cookie does not count for writing {shown}")


def _host(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None
