"""What every answer tells a browser not to do with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["with_security"]

Header = tuple[bytes, bytes]

HSTS_SECONDS = 365 * 86_400

ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # a ticket stands in a URL
    (b"cross-origin-resource-policy", b"same-origin"),  # what CORS allows is not concerned
)
NO_PAGE: Header = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For all that is no page of ours. A page brings its own policy."""
OVER_TLS: Header = (b"strict-transport-security", f"max-age={HSTS_SECONDS}".encode())


def with_security(headers: Iterable[Header], *, tls: bool) -> list[Header]:
    """Add to a response's headers those that it does not have of its own."""
    own = list(headers)
    names = {name.lower() for name, _ in own}
    wanted = (*ALWAYS, NO_PAGE, OVER_TLS) if tls else (*ALWAYS, NO_PAGE)
    return own + [header for header in wanted if header[0] not in names]
