"""Claims that go out and come back unchanged: `<claims>.<mac>`, signed with a secret that all gateways share.

No state and no clock: any gateway can check what another has signed, and what a claim means is for others to say.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, cast

import orjson

__all__ = ["Purpose", "Secrets", "sign", "signed_claims"]

Purpose = Literal["ticket", "cookie"]
"""What a text is for: one that is signed as a ticket is no cookie."""

Secrets = Sequence[bytes]
"""The first signs; all are good. So a new secret is put in front, and the old one leaves when its texts have ended."""

CHARS_MAX = 4096
SIGNED = re.compile(r"(?P<claims>[A-Za-z0-9_-]+)\.(?P<mac>[A-Za-z0-9_-]{43})")


def sign(purpose: Purpose, claims: Mapping[str, object], secrets: Secrets) -> str:
    """Sign claims with the first of the secrets."""
    text = _text(orjson.dumps(claims))
    return f"{text}.{_mac(purpose, text, secrets[0])}"


def signed_claims(purpose: Purpose, text: str, secrets: Secrets) -> Mapping[str, Any] | None:
    """Give the claims that one of the secrets has signed for this purpose, or None.

    Texts are compared, not what they decode to: base64 has several spellings of the same bytes, and one is signed.
    """
    found = SIGNED.fullmatch(text) if len(text) <= CHARS_MAX else None
    if found is None:
        return None
    macs = [_mac(purpose, found["claims"], secret) for secret in secrets]
    if not any([hmac.compare_digest(mac, found["mac"]) for mac in macs]):  # noqa: C419 - as long for each
        return None
    return cast("Mapping[str, Any]", orjson.loads(urlsafe_b64decode(_padded(found["claims"]))))


def _mac(purpose: Purpose, text: str, secret: bytes) -> str:
    key = hmac.digest(secret, f"playhead {purpose} 1".encode(), sha256)
    return _text(hmac.digest(key, text.encode(), sha256))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
