"""Identifiers: what they look like, and how those that can be derived are derived.

An id that names the same thing twice must be the same string twice, so run, message and call ids come from their
parts by a hash. Only a session id needs entropy, and that is handed in: this module rolls no dice.
"""

from __future__ import annotations

import re
from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256
from typing import NewType

from playhead.errors import InvalidCursor, InvalidId

__all__ = [
    "BEGINNING",
    "CallId",
    "Cursor",
    "MessageId",
    "RunId",
    "Seq",
    "SessionId",
    "call_id",
    "digest",
    "is_session_id",
    "message_id",
    "parse_cursor",
    "parse_session_id",
    "run_id",
    "session_id",
]

SessionId = NewType("SessionId", str)
RunId = NewType("RunId", str)
MessageId = NewType("MessageId", str)
CallId = NewType("CallId", str)
Seq = NewType("Seq", int)

SESSION_ID = re.compile(r"ses_[0-9a-z]{26}")
CURSOR = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8}))?")


def digest(*parts: str | bytes) -> str:
    """Hash parts to 26 characters of `0-9a-z` (128 bits), unambiguous in where each part ends."""
    running = sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else part.encode()
        running.update(len(encoded).to_bytes(8, "big"))
        running.update(encoded)
    return _text(running.digest()[:16])


def session_id(entropy: bytes) -> SessionId:
    """Name a session by 16 bytes of entropy: unguessable when they are."""
    if len(entropy) != 16:
        raise ValueError(f"a session id takes 16 bytes of entropy, not {len(entropy)}")
    return SessionId(f"ses_{_text(entropy)}")


def message_id(session: SessionId, key: str) -> MessageId:
    """Name a user message by its session and the client's idempotency key."""
    return MessageId(f"msg_{digest('message', session, key)}")


def run_id(session: SessionId, message: MessageId) -> RunId:
    """Name the one run that answers a user message."""
    return RunId(f"run_{digest('run', session, message)}")


def call_id(session: SessionId, run: RunId, step: int, index: int) -> CallId:
    """Name the tool call at a place (0 is the first) among those that a step asks for.

    Attempts do not enter: whichever attempt is accepted, its first call is the same call.
    """
    return CallId(f"call_{digest('call', session, run, str(step), str(index))}")


def is_session_id(text: str) -> bool:
    """Tell whether a text has the form of a session id."""
    return SESSION_ID.fullmatch(text) is not None


def parse_session_id(text: str) -> SessionId:
    """Check a stranger's session id. Raises `InvalidId`."""
    if not SESSION_ID.fullmatch(text):
        raise InvalidId(text[:80], "a session id is `ses_` and 26 characters of 0-9 and a-z")
    return SessionId(text)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a session: just after the event `seq`, of the history in which its hash begins with `tag`."""

    seq: Seq
    tag: str | None = None

    def __str__(self) -> str:
        return str(self.seq) if self.tag is None else f"{self.seq}-{self.tag}"


BEGINNING = Cursor(Seq(0))


def parse_cursor(text: str) -> Cursor:
    """Read `<seq>-<8 hex digits>` or a bare seq. Raises `InvalidCursor`."""
    found = CURSOR.fullmatch(text)
    if found is None or (found[2] and not int(found[1])):  # before the first event there is none to have a hash
        raise InvalidCursor(text[:80], "a cursor is `<seq>-<8 hex digits>` as in `120-9f3a2c41`, or a bare seq")
    return Cursor(Seq(int(found[1])), found[2])


def _text(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()
