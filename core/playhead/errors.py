"""What can go wrong, by what a caller can do about it.

PlayheadError
├── Invalid             the caller's input: change it
│   ├── InvalidId
│   ├── InvalidCursor
│   └── TooLarge
├── UnknownSession      no such session
├── NotArchived         the archive has nothing of that name
├── CursorConflict      the cursor is ahead of the log, or of another history
├── CursorExpired       its events were erased
├── Superseded          another owner appended first: let go of the session
├── Unavailable         the log or the queue cannot be reached: try again later
├── Undecodable         these bytes are not a record of ours: set them aside
│   └── UnknownSchema   they may be a newer version's: skip them
└── Misconfigured       the deployment: the message says what to change
"""

from __future__ import annotations

__all__ = [
    "CursorConflict",
    "CursorExpired",
    "Invalid",
    "InvalidCursor",
    "InvalidId",
    "Misconfigured",
    "NotArchived",
    "PlayheadError",
    "Superseded",
    "TooLarge",
    "Unavailable",
    "Undecodable",
    "UnknownSchema",
    "UnknownSession",
]


class PlayheadError(Exception):
    """The root of every error that Playhead raises on purpose."""


class Invalid(PlayheadError):
    """Input that a caller must change: `value` is what was given (cut to what is worth showing)."""

    def __init__(self, value: str, advice: str) -> None:
        self.value = value
        self.advice = advice
        super().__init__(f"{value!r}: {advice}")


class InvalidId(Invalid):
    """An id that no session, run or call can have."""


class InvalidCursor(Invalid):
    """A cursor that no event can have."""


class TooLarge(Invalid):
    """More bytes than the named limit allows."""


class UnknownSession(PlayheadError):
    """There is no such session."""

    def __init__(self, session: str) -> None:
        self.session = session
        super().__init__(f"there is no session {session}")


class NotArchived(PlayheadError):
    """The archive has nothing of that name: it never had, or it was erased."""


class CursorConflict(PlayheadError):
    """A cursor that this log does not lead to: ahead of its end, or on a history that it does not have.

    The second happens when a broker lost its unreplicated tail. Read again from `last_seq` or before.
    """

    def __init__(self, cursor: str, last_seq: int) -> None:
        self.cursor = cursor
        self.last_seq = last_seq
        super().__init__(f"cursor {cursor} is not on this session's log, which ends at seq {last_seq}")


class CursorExpired(PlayheadError):
    """The events after the cursor were erased; what is left starts at `first_seq`."""

    def __init__(self, cursor: str, first_seq: int) -> None:
        self.cursor = cursor
        self.first_seq = first_seq
        super().__init__(f"the events after cursor {cursor} are gone; the log now starts at seq {first_seq}")


class Superseded(PlayheadError):
    """Another owner's record took the seq: nothing of this append is in the log, nor will it be."""

    def __init__(self, session: str, seq: int) -> None:
        self.session = session
        self.seq = seq
        super().__init__(f"another owner has appended seq {seq} of {session}")


class Unavailable(PlayheadError):
    """The store behind a port did not answer in time, so whether it acted is unknown."""


class Undecodable(PlayheadError):
    """Bytes that are not a record of ours."""


class UnknownSchema(Undecodable):
    """A well-framed record of a schema that this version does not have."""


class Misconfigured(PlayheadError):
    """A deployment that cannot work as it stands; the message says what to change."""
