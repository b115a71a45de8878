"""One spelling for JSON that means the same: for keys and digests that are made from what a model wrote. Pure.

Names are sorted, and spaces and the spelling of texts do not count. Numbers stay as they are written: `1`, `1.0` and
`1e0` are three, because what reads them may tell them apart, and none is too long to be told from its neighbour. A name
that comes twice has its last value, as it has for all that read it.

And what JSON is here at all: what every reader can read, and write again within what holds it.
"""

from __future__ import annotations

import json
from typing import NoReturn

import orjson

from playhead.errors import Invalid, Undecodable

__all__ = ["JSON_DEPTH_MAX", "canonical_json", "check_json"]

JSON_DEPTH_MAX = 200
"""How deep the JSON in a command may nest: what holds it (a message, a request to a model) adds some levels."""

ORJSON_DEPTH_MAX = 254
"""How deep orjson writes; it reads deeper, so what it read cannot always be written again."""


def canonical_json(text: str) -> bytes:
    """Give the canonical form of a JSON text, as UTF-8. Raises `Invalid` for what is not JSON, or nested too deeply."""
    try:
        value: object = json.loads(text, parse_int=_as_written, parse_float=_as_written, parse_constant=_refuse)
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(text[:80], "this is not JSON that can be read") from error


def check_json(text: str) -> None:
    """Make sure that a text is JSON that every reader can read, and write again in what holds it. Raises `Undecodable`.

    Python's own JSON is more than that: `NaN`, lone surrogates, numbers beyond any float.
    """
    try:
        value: object = orjson.loads(text)
        if text.count("[") + text.count("{") > JSON_DEPTH_MAX:
            for _ in range(ORJSON_DEPTH_MAX - JSON_DEPTH_MAX):
                value = [value]
            orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise Undecodable(str(error)) from error


def _as_written(number: str) -> orjson.Fragment:
    return orjson.Fragment(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
