"""The public keys that an issuer signs with: fetched, kept a while, fetched again for a key that is not among them.

Fetched from the one place that the operator named. Whatever a token's header says of other places is never looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, cast

import httpx2
import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from playhead.errors import Unavailable
from playhead.telemetry import logger

__all__ = ["JWKS_BYTES_MAX", "KEEP_SECONDS", "REFETCH_SECONDS", "KeySet"]

REFETCH_SECONDS = 10.0
"""How soon an unknown key has the set fetched again: strangers can name any."""
KEEP_SECONDS = 300.0
"""How long a set is kept: an issuer takes a key back by leaving it out."""
STALE_SECONDS = 24 * 3600.0
"""How long a set holds that cannot be fetched anew."""
FETCH_SECONDS = 5.0
JWKS_BYTES_MAX = 256 * 1024
JWKS_KEYS_MAX = 100
RSA_BITS_MIN = 2048

_log = logger("playhead.gateway")


class KeySet:
    """The keys at one place, an https URL or `file:/path`. Only keys of these algorithms are kept."""

    def __init__(
        self, source: str, algorithms: frozenset[str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self.algorithms = algorithms
        self._monotonic = monotonic
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at = self._tried_at = -inf
        self._fetching = asyncio.Lock()

    async def key(self, kid: str | None) -> PyJWK | None:
        """Give the key of an id; without one, the only key there is. Raises `Unavailable` if it cannot be known."""
        found = self._find(kid)
        if self._is_due(found) and (found is None or not self._fetching.locked()):
            async with self._fetching:
                # Who waited for another's fetch finds it done.
                if self._is_due(self._find(kid)):
                    await self._fetch()
            found = self._find(kid)
        if self._monotonic() - self._fetched_at > STALE_SECONDS or (
            found is None and self._fetched_at < self._tried_at
        ):
            raise Unavailable("the issuer's keys cannot be fetched")
        return found

    def _find(self, kid: str | None) -> PyJWK | None:
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _is_due(self, found: PyJWK | None) -> bool:
        now = self._monotonic()
        is_wanted = found is None or now - self._fetched_at >= KEEP_SECONDS
        return is_wanted and now - self._tried_at >= REFETCH_SECONDS

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = _usable(await self._read(), self.algorithms)
        except (OSError, TimeoutError, ValueError, httpx2.HTTPError) as error:
            _log.warning("the issuer's keys cannot be fetched", source=self.source, reason=str(error) or repr(error))
            self._tried_at = self._monotonic()
            return
        if not keys:
            _log.warning("the issuer has no key that could be used", source=self.source)
        self._keys = keys
        self._fetched_at = self._tried_at = self._monotonic()

    async def _read(self) -> bytes:
        if self.source.startswith("file:"):
            return await asyncio.to_thread(_file, Path(self.source.removeprefix("file:")))
        content = b""
        async with (
            httpx2.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS) as client,
            client.stream("GET", self.source, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"the answer was {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                content = _bounded(content + chunk)
        return content


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _bounded(file.read(JWKS_BYTES_MAX + 1))


def _bounded(content: bytes) -> bytes:
    if len(content) > JWKS_BYTES_MAX:
        raise ValueError(f"more than {JWKS_BYTES_MAX} bytes")
    return content


def _usable(content: bytes, algorithms: frozenset[str]) -> dict[str, PyJWK]:
    """Give the keys of a set that may sign with one of the algorithms. Raises `ValueError` for what is no set."""
    document: object = orjson.loads(content)
    listed = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JSON Web Key Set")
    keys: dict[str, PyJWK] = {}
    for entry in cast("list[object]", listed)[:JWKS_KEYS_MAX]:
        described = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        if described.get("kty") not in ("EC", "RSA", "OKP") or described.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWK(described)
        except (PyJWTError, ValueError, TypeError):
            continue  # a kind that is not known here: others may be
        size = (
            cast("int", getattr(key.key, "key_size", RSA_BITS_MIN)) if key.algorithm_name == "RS256" else RSA_BITS_MIN
        )
        if key.algorithm_name in algorithms and size >= RSA_BITS_MIN:
            keys[str(described.get("kid", ""))] = key
    return keys
