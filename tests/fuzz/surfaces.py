"""All that strangers' bytes reach, and the targets that try it."""

from __future__ import annotations

from tests.fuzz import asked, called, credentials, heard, received, spoken, stored, tooled
from tests.fuzz.target import Target

__all__ = ["TARGETS", "named"]

TARGETS: tuple[Target, ...] = (*stored.TARGETS, *received.TARGETS, *asked.TARGETS, *called.TARGETS, *credentials.TARGETS, *spoken.TARGETS, *tooled.TARGETS, *heard.TARGETS)


def named(name: str) -> Target:
    """Find a target."""
    return next(target for target in TARGETS if target.name == name)
