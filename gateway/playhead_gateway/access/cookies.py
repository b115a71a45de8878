"""The session cookie of pages that are served beside the gateway: made from a credential that a script had once.

No script can read it, no other site's page has it sent, and it goes over TLS only, except on one's own machine. It is
signed and nothing of it is stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from playhead_gateway.access.signed import Secrets, sign, signed_claims
from playhead_gateway.access.standing import Standing, read_standing

__all__ = ["Cookie", "clearing", "cookie_in", "cookie_text", "is_loopback", "is_secure", "read_cookie", "setting"]

SECURE_NAME = "__Host-playhead"
"""With this prefix browsers take it only from this very host over TLS: no sibling host can plant one."""
PLAIN_NAME = "playhead"

LOOPBACK = re.compile(r"localhost|::1|127(?:\.[0-9]{1,3}){3}")
VALUE = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Cookie:
    """What a cookie says: whom it stands for, until when."""

    standing: Standing
    expires_at: float


def cookie_text(cookie: Cookie, secrets: Secrets) -> str:
    """Sign a cookie's value."""
    return sign("cookie", {**cookie.standing.claims(), "expires": cookie.expires_at}, secrets)


def read_cookie(text: str, secrets: Secrets, now: float) -> Cookie | None:
    """Read a value that is ours and still good, or None."""
    claims = signed_claims("cookie", text, secrets)
    standing = None if claims is None else read_standing(claims)
    expires = None if claims is None else claims.get("expires")
    if standing is None or not isinstance(expires, float | int) or now >= expires:
        return None
    return Cookie(standing, expires)


def is_loopback(host: str | None) -> bool:
    """Tell whether a host's name or address is this machine's own."""
    return host is not None and LOOPBACK.fullmatch(host) is not None


def is_secure(scheme: str, host: str) -> bool:
    """Tell whether a cookie must be `Secure`: always, but over plain HTTP on this machine.

    A gateway behind a proxy that ends TLS sees plain HTTP with the host's real name, so that is no exception.
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return True
    return scheme in ("https", "wss") or not is_loopback(name)


def cookie_in(header: str, *, secure: bool) -> str | None:
    """Give our cookie's value in a `Cookie` header, or None. Two of the name are none: which is ours cannot be said."""
    name = SECURE_NAME if secure else PLAIN_NAME
    pairs = [pair.strip().partition("=") for pair in header.split(";")]
    values = [value for found, _, value in pairs if found == name]
    return values[0] if len(values) == 1 and VALUE.fullmatch(values[0]) else None


def setting(text: str, seconds: int, *, secure: bool) -> str:
    """Give the `Set-Cookie` header of a value."""
    name, flag = (SECURE_NAME, "; Secure") if secure else (PLAIN_NAME, "")
    return f"{name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flag}"


def clearing(*, secure: bool) -> str:
    """Give the `Set-Cookie` header that takes the cookie away."""
    return setting("", 0, secure=secure)
