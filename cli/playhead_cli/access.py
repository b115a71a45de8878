"""Who may reach the gateway: what the settings make of its door. One that is open to all stays on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playhead.errors import Misconfigured
from playhead.settings import Settings
from playhead.telemetry import logger

if TYPE_CHECKING:
    from playhead_gateway.entry import Authenticate
    from playhead_gateway.server import Tls

__all__ = ["OFF", "Door", "door_of"]

OFF = "off"

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""On a laptop, a page in the browser must not reach the agent by a name that was rebound to this machine."""

_log = logger("playhead.cli")


@dataclass(frozen=True, slots=True)
class Door:
    """How a gateway is entered. Without `authenticate` by everybody; with `hosts` under these names alone."""

    authenticate: Authenticate | None = None
    hosts: tuple[str, ...] | None = None
    tls: Tls | None = None


def door_of(settings: Settings, clock: Callable[[], int], environment: Mapping[str, str], *, local: bool) -> Door:
    """Build the door that the settings ask for. Raises `Misconfigured`: what others can reach must ask who they are.

    `local` is for what runs on a developer's machine: there, strange names are refused whoever asks.
    """
    file, is_near = settings.auth_file or None, settings.host in LOOPBACK
    if file is None and not is_near:
        raise Misconfigured(
            f"others could reach this gateway at {settings.host}, and it would ask nobody who they are: give it keys "
            "with --auth FILE (`playhead keys new --name NAME` makes the first), have it listen on this machine alone "
            "with --host 127.0.0.1, or say --auth off if something in front of it sees to that"
        )
    if file == OFF and not is_near:
        _log.warning("authentication is off: whoever reaches this gateway may do everything", host=settings.host)
    hosts = LOOPBACK if is_near and (local or file is None) else None
    return Door(None if file in (None, OFF) else _authenticator(Path(file), clock, environment), hosts, _tls(settings))


def _authenticator(path: Path, clock: Callable[[], int], environment: Mapping[str, str]) -> Authenticate:
    # Imported here, as the cryptography of tokens is loaded with it.
    from playhead_gateway.access.authenticator import Authenticator  # noqa: PLC0415
    from playhead_gateway.access.file import AccessFile  # noqa: PLC0415

    return Authenticator(AccessFile(path, environment), clock)


def _tls(settings: Settings) -> Tls | None:
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise Misconfigured("TLS takes a certificate and its key: give both --tls-cert and --tls-key")
    from playhead_gateway.server import Tls  # noqa: PLC0415

    return Tls(certificate, key)
