"""Keeping secrets out of all texts of a JSON value: results, errors, questions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

__all__ = ["Redact", "hide"]

Redact = Callable[[str], str]
"""Gives a text without secrets."""


def hide(value: object, redact: Redact) -> object:
    """Redact a text, or all texts of a JSON value; anything else is given back as it is."""
    match value:
        case str():
            return redact(value)
        case list():
            return [hide(one, redact) for one in cast("list[object]", value)]
        case dict():
            items = cast("Mapping[str, object]", value).items()
            return {redact(key): hide(one, redact) for key, one in items}
        case _:
            return value
