"""Keeps secrets out of texts: logs, events, errors. It knows the values, and the spellings in which they get about.

A value is found as it is, in Python's and JSON's escapes (JSON within JSON too), percent-encoded, in hex and in base64,
wherever in the encoded text it begins. It is not found if it was cut, compressed, encrypted or written backwards.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from playhead.errors import Misconfigured
from playhead.secrets import check_secret

__all__ = ["Redactor"]

SECRETS_MAX = 1_000
JSON_DEPTH_MAX = 3
"""How many times a text may have been put into JSON as a string."""

PERCENT = re.compile(r"%[0-9A-F]{2}")
UNICODE = re.compile(r"(?<!\\)((?:\\\\)*\\u)([0-9a-f]{4})")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"\[\]{},:]+')
"""What in a JSON text is not its structure: strings, numbers, `true`, `false` and `null`."""

URL = str.maketrans("+/", "-_")
"""From base64 to the base64 of URLs."""

GO = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
PHP = str.maketrans({"/": "\\/"})


class Redactor:
    """Replaces every registered secret by `[secret NAME]`. Any thread may use it, and register more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._names: dict[str, str] = {}
        self._spellings: tuple[str, ...] = ()

    def register(self, secrets: Mapping[str, str]) -> None:
        """Keep these out from now on. Raises `Misconfigured` for one that cannot be, or if there are too many."""
        for name, value in secrets.items():
            check_secret(name, value)
        with self._lock:
            # Readers do not take the lock: they see the names and the spellings from before, or those from after.
            names, count = dict(self._names), self._count
            for name, value in secrets.items():
                if value.strip() in names:
                    continue
                count += 1
                if count > SECRETS_MAX:
                    raise Misconfigured(f"a process has at most {SECRETS_MAX} secrets")
                for spelling in _spellings(value.strip()):
                    names.setdefault(spelling, name)
            self._names, self._count = names, count
            self._spellings = tuple(names)

    def redact(self, text: str) -> str:
        """Give a text without secrets. A text that is JSON stays JSON."""
        # Looking for each of a hundred spellings in C takes a third of the time of one regular expression of them all.
        if not any(spelling in text for spelling in self._spellings):
            return text
        return self._redact_json(text) if _is_json(text) else self._redact_text(text)

    def _redact_text(self, text: str) -> str:
        parts: list[str] = []
        reached = 0
        for start, end, name in _merged(self._found(text)):
            parts += (text[reached:start], f"[secret {name}]")
            reached = end
        return "".join((*parts, text[reached:]))

    def _redact_json(self, text: str) -> str:
        """Redact what the strings mean, not how they are written: cutting into an escape would break the text."""
        redacted = TOKEN.sub(lambda token: self._redact_token(token[0]), text)
        tokens = [token.span() for token in TOKEN.finditer(redacted)]
        for start, end, name in _merged(self._found(redacted)):
            # Inside of a token it is chance: an escape that looks like a secret. Across tokens it is a secret that
            # is itself JSON, such as a service account's key: nothing less than all of the text can be replaced.
            place = bisect_right(tokens, (start, len(redacted))) - 1
            if place < 0 or end > tokens[place][1]:
                return json.dumps(f"[secret {name}]")
        return redacted

    def _redact_token(self, token: str) -> str:
        meant = str(json.loads(token)) if token.startswith('"') else token
        nested = meant.startswith(("{", "[")) and _is_json(meant)
        redacted = self._redact_json(meant) if nested else self._redact_text(meant)
        # What was a number is now a string, which may stand wherever a number may.
        return token if redacted == meant else json.dumps(redacted)

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        for spelling, name in self._names.items():
            start = text.find(spelling)
            while start >= 0:
                yield start, start + len(spelling), name
                start = text.find(spelling, start + 1)


def _merged(spans: Iterator[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Join spans that overlap, in order; the one that begins first, and of those the longest, gives the name."""
    current: tuple[int, int, str] | None = None
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if current is not None and start < current[1]:
            current = (current[0], max(current[1], end), current[2])
            continue
        if current is not None:
            yield current
        current = (start, end, name)
    if current is not None:
        yield current


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str)  # Python reads no number of more than 4,300 digits
    except (ValueError, RecursionError):
        return False
    return True


def _spellings(value: str) -> set[str]:
    encoded = value.encode()
    spellings = {value, repr(value)[1:-1], repr(encoded)[2:-1], encoded.hex(), encoded.hex().upper()}
    spellings |= {*_percent_encoded(value), *_in_base64(encoded)}
    # What Go's and PHP's encoders escape beside, where they are the first.
    spellings |= {json.dumps(spelling)[1:-1].translate(marks) for spelling in spellings for marks in (GO, PHP)}
    for _ in range(JSON_DEPTH_MAX):
        spellings |= {escaped for spelling in spellings for escaped in _in_json(spelling)}
    return spellings


def _percent_encoded(value: str) -> Iterator[str]:
    # Python's way, that of paths, that of forms, and JavaScript's encodeURIComponent and encodeURI.
    ways: tuple[Callable[[str], str], ...] = (
        lambda text: quote(text, safe=""),
        quote,
        quote_plus,
        lambda text: quote(text, safe="!'()*"),
        lambda text: quote(text, safe="!'()*;/?:@&=+$,#"),
    )
    for way in ways:
        spelling = way(value)
        yield spelling
        yield PERCENT.sub(lambda found: found[0].lower(), spelling)


def _in_base64(value: bytes) -> Iterator[str]:
    whole = b64encode(value).decode()
    spellings = [whole, whole.rstrip("=")]
    for before in range(3):
        # Of a longer text that has the value somewhere: without the characters that its neighbours have a part in.
        padded = b64encode(bytes(before) + value).decode()
        first = (0, 2, 3)[before]
        last = (len(value) + before) * 8 // 6
        spellings.append(padded[first:last])
    for spelling in spellings:
        yield spelling
        yield spelling.translate(URL)


def _in_json(text: str) -> Iterator[str]:
    escaped = json.dumps(text)[1:-1]
    yield escaped
    yield UNICODE.sub(lambda found: found[1] + found[2].upper(), escaped)
    yield json.dumps(text, ensure_ascii=False)[1:-1]
