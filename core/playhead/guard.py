"""Whether a call's arguments keep to the limits that its tool declares. Pure.

What cannot be judged is refused: a bound on something that is not a number, a text too long to be searched. What a
refusal says names the argument and the rule. It never shows the value, since the denied may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from decimal import Decimal

from pydantic_core import from_json, to_json

from playhead.options import Limit

__all__ = ["refusal"]

SEARCHED_CHARS_MAX = 10_000
"""The longest text that is searched for what is denied: a pattern's time can grow with a power of the length."""


def refusal(tool_limits: Mapping[str, Limit], arguments: Mapping[str, object]) -> str | None:
    """Say why a tool may not be called with these (validated) arguments, or nothing if it may.

    An argument that is `None` was not given, and no limit holds for it.
    """
    for name, limit in tool_limits.items():
        value = arguments.get(name)
        if value is not None:
            why = _beyond(limit, value) or _too_long(limit, value) or _denied(limit, value)
            if why is not None:
                return f"argument {name} {why}"
    return None


def _beyond(limit: Limit, value: object) -> str | None:
    if limit.least is None and limit.most is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or _is_nan(value):
        return "must be a number"
    if limit.least is not None and value < limit.least:
        return f"must be at least {limit.least}"
    if limit.most is not None and value > limit.most:
        return f"must be at most {limit.most}"
    return None


def _too_long(limit: Limit, value: object) -> str | None:
    if limit.length is None:
        return None
    sized = value if isinstance(value, Sized) else _text(value)
    if sized is None:
        return "cannot be measured"
    if len(sized) > limit.length:
        return f"must be no longer than {limit.length} {'characters' if isinstance(sized, str) else 'items'}"
    return None


def _denied(limit: Limit, value: object) -> str | None:
    if not limit.deny:
        return None
    text = _text(value)
    if text is None:
        return "cannot be searched for what is denied"
    if len(text) > SEARCHED_CHARS_MAX:
        return f"must be no longer than {SEARCHED_CHARS_MAX} characters, which are searched for what is denied"
    for pattern in limit.deny:
        if re.search(pattern, text):
            return f"must not match {pattern!r}"
    return None


def _text(value: object) -> str | None:
    """Give a text as it is, of anything else its JSON; and of what is a text in JSON, such as a date, that text."""
    if isinstance(value, str):
        return value
    try:
        encoded = to_json(value, inf_nan_mode="strings", bytes_mode="utf8")
    except Exception:  # noqa: BLE001 - serialising runs code of the tool's own types
        return None
    return str(from_json(encoded)) if encoded.startswith(b'"') else encoded.decode()


def _is_nan(value: float | Decimal) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else value != value  # noqa: PLR0124 - only NaN is not itself
