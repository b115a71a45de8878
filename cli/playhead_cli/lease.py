"""The key of the leases that calls carry: where a deployment or a data folder has it from."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from playhead.errors import Misconfigured
from playhead.settings import Settings

__all__ = ["lease_key_in", "lease_key_of"]

LEASE_KEY_BYTES = 32


def lease_key_of(settings: Settings) -> bytes:
    """Give the deployment's lease key. Raises `Misconfigured` if none is set."""
    if settings.lease_secret is None or not settings.lease_secret.get_secret_value():
        raise Misconfigured(
            "no lease secret is set: give all orchestrators of this deployment the same PLAYHEAD_LEASE_SECRET, and the "
            "workers none (`openssl rand -hex 32` makes one)"
        )
    return settings.lease_secret.get_secret_value().encode()


def lease_key_in(folder: Path) -> bytes:
    """Give the lease key of a data folder, made at first use: calls under way must outlive the process."""
    path = folder / "lease.key"
    with suppress(FileExistsError):
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as file:
            file.write(secrets.token_bytes(LEASE_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != LEASE_KEY_BYTES:
        raise Misconfigured(f"{path} is damaged: remove it (calls that are under way will run again)")
    return key
