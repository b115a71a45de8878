"""What an approval is bound to: a tool and the exact arguments that somebody saw. Pure."""

from __future__ import annotations

from playhead.canonical import canonical_json
from playhead.ids import digest

__all__ = ["approval_digest"]


def approval_digest(name: str, input: str) -> str:  # noqa: A002 - the word of the event that carries it
    """Name a tool together with its arguments, given as JSON text. Raises `Invalid` if that is not JSON."""
    return digest("approval", name, canonical_json(input))
