"""API keys: `phk_<id>_<secret>`. What is stored is a hash; the key itself is shown once, when it is made.

SHA-256 without salt or stretching is enough, since the secret is 256 bits of chance and no word that could be guessed.
Entropy is handed in.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

__all__ = ["ENTROPY_BYTES", "HASH", "KEY_ID", "PREFIX", "Hashed", "NewKey", "find_key", "hash_of", "new_key"]

PREFIX = "phk_"
ID_BYTES, SECRET_BYTES = 10, 32
ENTROPY_BYTES = ID_BYTES + SECRET_BYTES

KEY_ID = re.compile(r"[a-z2-7]{16}")
KEY = re.compile(r"phk_(?P<id>[a-z2-7]{16})_[a-z2-7]{52}")
HASH = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})")
NOBODY = sha256(b"").hexdigest()


class Hashed(Protocol):
    """What is kept of a key, as far as it must be to know it again."""

    @property
    def hash(self) -> str:
        """`sha256:` and the digest of the whole key."""
        ...


KeyT = TypeVar("KeyT", bound=Hashed)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the text that its holder is given, and what is stored of it."""

    id: str
    text: str
    hash: str

    def __repr__(self) -> str:
        return f"NewKey({self.id})"


def new_key(entropy: bytes) -> NewKey:
    """Make a key of `ENTROPY_BYTES` random bytes."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key takes {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    name, secret = _text(entropy[:ID_BYTES]), _text(entropy[ID_BYTES:])
    text = f"{PREFIX}{name}_{secret}"
    return NewKey(name, text, hash_of(text))


def hash_of(text: str) -> str:
    """Give what is stored of a key: the hash of all its characters, so that no other spelling of it passes."""
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def find_key(text: str, keys: Mapping[str, KeyT]) -> KeyT | None:
    """Give the key that a text is, among those stored by id, or None."""
    found = KEY.fullmatch(text)
    known = keys.get(found["id"]) if found is not None else None
    # Compared whether it is known or not, in constant time: what takes longer would say how near one came.
    same = hmac.compare_digest(hash_of(text), f"sha256:{NOBODY}" if known is None else known.hash)
    return known if same else None


def _text(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()
