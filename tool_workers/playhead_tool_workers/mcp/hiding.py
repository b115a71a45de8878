"""Keeping a server's secrets out of what it says: results, errors, questions, logs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

__all__ = ["HIDDEN", "hide"]

HIDDEN = "[secret]"


def hide(value: object, secrets: Sequence[str]) -> object:
    """Replace secrets in a text, or in all texts of a JSON value; anything else is given back as it is."""
    if not secrets:
        return value
    match value:
        case str():
            for secret in secrets:
                value = value.replace(secret, HIDDEN)
            return value
        case list():
            return [hide(one, secrets) for one in cast("list[object]", value)]
        case dict():
            items = cast("Mapping[str, object]", value).items()
            return {str(hide(key, secrets)): hide(one, secrets) for key, one in items}
        case _:
            return value
