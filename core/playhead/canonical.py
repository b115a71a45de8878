"""One spelling for JSON that means the same: for keys and digests that are made from what a model wrote. Pure.

Names are sorted, and spaces and the spelling of texts do not count. Numbers stay as they are written: `1`, `1.0` and
`1e0` are three, because what reads them may tell them apart, and none is too long to be told from its neighbour. A name
that comes twice has its last value, as it has for all that read it.
"""

from __future__ import annotations

import json
from typing import NoReturn

import orjson

from playhead.errors import Invalid

__all__ = ["canonical_json"]


def canonical_json(text: str) -> bytes:
    """Give the canonical form of a JSON text, as UTF-8. Raises `Invalid` for what is not JSON, or nested too deeply."""
    try:
        value: object = json.loads(text, parse_int=_as_written, parse_float=_as_written, parse_constant=_refuse)
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(text[:80], "this is not JSON that can be read") from error


def _as_written(number: str) -> orjson.Fragment:
    return orjson.Fragment(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
