"""Why a credential is refused. Values only; the edge makes problems of them."""

from __future__ import annotations

__all__ = ["NotAllowedHere", "Refused"]


class Refused(Exception):
    """Who asks is not known: there is no credential, or it is not good. The message shows nothing of it."""

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(reason)


class NotAllowedHere(Exception):
    """Who asks is known, and pages of this origin may not use the credential."""
