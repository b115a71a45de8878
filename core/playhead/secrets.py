"""A tool's secrets: named by references in code, and read from the environment or from files where the tool runs.

No error, repr or log shows a value. What happens to a value once a tool has asked for it is the tool's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from playhead.errors import Misconfigured

__all__ = ["SecretValues", "check_secret", "resolve"]

SECRET_BYTES_MAX = 64 * 1024
SECRET_CHARS_MIN = 4
"""Something shorter is found everywhere, so it cannot be kept out of a log."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
REFERENCE = re.compile(r"env:(?P<variable>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<path>/[^\0]*)")


class SecretValues(Mapping[str, str]):
    """Secrets by name. It shows the names and never a value, and cannot be pickled or copied."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self._values)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def resolve(references: Mapping[str, str], environment: Mapping[str, str]) -> SecretValues:
    """Read secrets by their references, `env:NAME` or `file:/path`. Raises `Misconfigured`, which shows no value.

    The line ends at the end of a file do not belong to its secret.
    """
    values: dict[str, str] = {}
    for name, reference in references.items():
        found = REFERENCE.fullmatch(reference)
        if found is None:
            # It is not shown: somebody may have put the secret itself here.
            raise Misconfigured(
                f"secret {name}: its reference reads like env:NAME or file:/path, and this one does not"
            )
        variable = found["variable"]
        value = _read(name, reference, found["path"]) if variable is None else environment.get(variable)
        if value is None:
            raise Misconfigured(f"secret {name}: {reference} is not set in this process's environment")
        check_secret(name, value, reference)
        values[name] = value
    return SecretValues(values)


def check_secret(name: str, value: str, reference: str = "its value") -> None:
    """Refuse what cannot be handled as a secret, or not be kept out of logs. Raises `Misconfigured`."""
    if not NAME.fullmatch(name):
        raise Misconfigured(f"a secret's name is up to 64 letters, digits, `_`, `.` and `-`, not {name[:80]!r}")
    if not value.strip():
        raise Misconfigured(f"secret {name}: {reference} is empty")
    if len(value.strip()) < SECRET_CHARS_MIN:
        raise Misconfigured(
            f"secret {name}: {reference} has fewer than {SECRET_CHARS_MIN} characters, which cannot be kept out of "
            "logs; use a longer secret, or an ordinary setting if it is none"
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Misconfigured(f"secret {name}: {reference} is not UTF-8")
    if len(value.encode()) > SECRET_BYTES_MAX:
        raise Misconfigured(f"secret {name}: {reference} has more than {SECRET_BYTES_MAX} bytes")


def _read(name: str, reference: str, path: str) -> str:
    try:
        file = Path(path)
        if file.exists() and not file.is_file():
            raise Misconfigured(f"secret {name}: {reference} is not a file")
        with file.open("rb") as opened:
            content = opened.read(SECRET_BYTES_MAX + 3)
    except OSError as error:
        raise Misconfigured(f"secret {name}: {reference} cannot be read: {error.strerror}") from error
    # Bytes that are not UTF-8 become surrogates, for the check to find: the error of decoding would hold the content.
    return content.decode("utf-8", "surrogateescape").rstrip("\r\n")
