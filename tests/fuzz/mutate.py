"""Other inputs from real ones: damage to bytes, and to the JSON, numbers and lines within them. Pure: chance comes in.

What a parser is written for decides what breaks it, so most changes keep the form: a value of a JSON document becomes
another one, a line comes twice, a length lies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any, cast

__all__ = ["INPUT_BYTES_MAX", "mutated"]

INPUT_BYTES_MAX = 256 * 1024
"""The longest input that is made; what is longer is cut. Larger limits have tests of their own."""

CHANGES_MAX = 4
"""How many changes one input has over the one that it is made of."""

JSON_SPAN_MAX = 32 * 1024
"""The longest text that is looked at as JSON: longer ones only cost time."""

NASTY_BYTES = (
    b"", b"\0", b"\n", b"\r\n", b"\n\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\x80", b"%00",
    b"%", b"..", b"/", b"\\", b'"', b"'", b"{", b"}", b"[", b"]", b":", b",", b"-", b"0", b"1e999", b"NaN", b"null",
    b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x01", b"\x01", b"\x02", b"\x7f", b"data:", b"event:", b"id:", b"retry:",
    "\u2028".encode(), "\u0663".encode(), "😀".encode(), b"9" * 20, b"9" * 400, b"-1",
    b"[DONE]", b"\xc3\x01", b"\0\0\0\0\1",
)  # fmt: skip

DEEP = "\u0001deep "
"""Marks where nested brackets are written: Python's own writer does not nest so deep."""

NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 255, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1,
    2**64, 10**400, 0.5, -0.0, 1e308, 1e-320, float("inf"), float("-inf"), float("nan"), "", " ", "0", "-1",
    "null", "text", "\ud800", "a\ud800b", "\0", "\n", "\r\n\r\n", "\u2028", "😀", "é", "__proto__", "constructor",
    "../..", "%00", "a" * 300, "x" * 70_000,
    [], {}, [[]], [None], {"": ""}, {"type": None}, {"type": "text"}, ["text"], [{}], {"$ref": "#"},
    f"{DEEP}3", f"{DEEP}100", f"{DEEP}260", f"{DEEP}1200", f"{DEEP}6000",
)  # fmt: skip

NUMBER = re.compile(rb"[0-9]+")


def mutated(chance: Random, seed: bytes, others: Sequence[bytes], *, most: int = INPUT_BYTES_MAX) -> bytes:
    """Give an input like `seed`, with parts of `others`."""
    data = seed
    for _ in range(chance.randint(1, CHANGES_MAX)):
        change = chance.choice(CHANGES)
        data = change(chance, data, others)[:most]
    return data


def _flip(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _set(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))]) + data[at + 1 :]


def _truncate(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _insert(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(NASTY_BYTES) + data[at:]


def _span(chance: Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + 2 ** chance.randrange(11))


def _remove(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[end:]


def _repeat(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[start:end] * chance.choice((2, 3, 17, 300, 5000)) + data[end:]


def _splice(chance: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else data
    start, end = _span(chance, other)
    at, until = _span(chance, data)
    return data[:at] + other[start:end] + data[until if chance.random() < 0.5 else at :]


def _number(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(NUMBER.finditer(data[:JSON_SPAN_MAX]))
    if not found:
        return data
    one = chance.choice(found)
    other = chance.choice((b"0", b"-1", b"1", b"00", b"1.5", b"1e9", b"2147483648", b"9223372036854775808", b"9" * 30))
    return data[: one.start()] + other + data[one.end() :]


def _lines(chance: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Leave out, repeat, move or bring in a whole line."""
    lines = data.split(b"\n")
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            lines.insert(to, chance.choice((chance.choice(others) if others else data).split(b"\n")))
    return b"\n".join(lines)


def _json(chance: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a value of a JSON document: of all there is, or of a line."""
    found = _document(chance, data)
    if found is None:
        return _insert(chance, data, others)
    start, end, value = found
    for _ in range(chance.randint(1, 2)):
        value = _changed(chance, value, others)
    return data[:start] + _written(chance, value) + data[end:]


def _document(chance: Random, data: bytes) -> tuple[int, int, object] | None:
    starts = [one.start() for one in re.finditer(rb"(?:^|(?<=[\n ]))[\[{]", data[: 2 * JSON_SPAN_MAX])]
    chance.shuffle(starts)
    for start in starts[:4]:
        for end in (len(data), data.find(b"\n", start), data.find(b"\r", start)):
            if start < end <= start + JSON_SPAN_MAX:
                try:
                    return start, end, json.loads(data[start:end])
                except (ValueError, RecursionError):
                    continue
    return None


def _changed(chance: Random, value: object, others: Sequence[bytes]) -> object:
    """Give a document in which one place is another value, or is not there, or twice. `value` is not kept."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 500:
        one = waiting.pop()
        if isinstance(one, dict):
            inner = cast("dict[str, object]", one)
            places += [(inner, key) for key in inner]
            waiting += inner.values()
        elif isinstance(one, list):
            items = cast("list[object]", one)
            places += [(items, at) for at in range(len(items))]
            waiting += items
    if not places or chance.random() < 0.02:
        return _nasty(chance)
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            cast("list[object]", holder).insert(chance.randrange(len(places) + 1), cast("object", holder[key]))
        case 1:
            holder[chance.choice([str(name) for _, name in places] + ["", "type", "__proto__"])] = holder[key]
        case 2:
            other, place = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[place]))  # a copy: nothing holds itself
        case 3 if others:
            found = _document(chance, chance.choice(others))
            holder[key] = _nasty(chance) if found is None else found[2]
        case _:
            holder[key] = _nasty(chance)
    return value


def _nasty(chance: Random) -> object:
    return deepcopy(chance.choice(NASTY_VALUES))


def _written(chance: Random, value: object) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    except RecursionError:
        return b"{}"
    for depth in re.findall(rf'"(?:{DEEP}|\\u0001deep )([0-9]+)"', text):
        opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
        deep = opening * int(depth) + "1" + closing * int(depth)
        text = re.sub(rf'"(?:{DEEP}|\\u0001deep ){depth}"', lambda _, deep=deep: deep, text)
    return text.encode("utf-8", "surrogatepass")


Change = Callable[[Random, bytes, Sequence[bytes]], bytes]

CHANGES: tuple[Change, ...] = (
    *(_flip, _set, _truncate, _insert, _remove, _repeat, _splice, _number, _lines),
    *(_json, _json, _json, _json, _json, _json),
)
"""What can be done, the more often the better it fits what is read here."""
