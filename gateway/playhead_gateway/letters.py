"""Dead letters: what their topic says of them, which may be sent again, and how they are shown. Pure.

A letter is named by its own place in that topic, `<partition>-<offset>`. It is new until an operator has dealt with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import orjson
from playhead.codec import Codec
from playhead.commands import Command, DeadLetter, LetterHandled, Report, Request, RunTool
from playhead.errors import Undecodable
from playhead.events import Json
from playhead.queue import Message, Topics

from playhead_gateway.limits import Limits
from playhead_gateway.views import View, without_none

__all__ = ["LETTER", "STATES", "Letter", "Letterbox", "content_of", "letter_view", "obstacle", "once_more"]

STATES = ("new", "retried", "dropped")

LETTER_OVERHEAD = 1_000
"""What a letter costs in memory beside the record that it holds."""

LETTER = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")

CUT = re.compile(r"\(the first [0-9]+ of [0-9]+ bytes are kept\)$")
"""How whoever sets aside a record that is too large to be kept whole ends its error."""

NOWHERE = -1
"""The partition and offset of what was not read from a topic."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that came to nothing, and what was done about it."""

    partition: int
    offset: int
    dead: DeadLetter
    state: str = "new"
    handled_at: int | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.partition}-{self.offset}"


class Letterbox:
    """The newest letters of the topic, which has one partition: read in order, bounded in number and in bytes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._letters: dict[tuple[int, int], Letter] = {}
        self._bytes = 0

    def take(self, message: Message, said: Command) -> None:
        """Take up what the topic says next."""
        if isinstance(said, DeadLetter):
            self._letters[message.partition, message.offset] = Letter(message.partition, message.offset, said)
            self._bytes += _size(said)
            while self._bytes > self._limits.letters_bytes_max or len(self._letters) > self._limits.letters_max:
                oldest = self._letters.pop(next(iter(self._letters)))
                self._bytes -= _size(oldest.dead)
        elif isinstance(said, LetterHandled):
            self.note(said)

    def note(self, handled: LetterHandled) -> None:
        """Take note of what was done about a letter. What was done first has happened."""
        place = handled.partition, handled.offset
        known = self._letters.get(place)
        if known is not None and known.state == "new":
            self._letters[place] = replace(known, state=handled.how, handled_at=handled.at)

    def find(self, name: str) -> Letter | None:
        """Give the letter of a name."""
        parts = LETTER.fullmatch(name)
        found = None if parts is None else self._letters.get((int(parts[1]), int(parts[2])))
        return found if found is not None and found.name == name else None

    def page(self, *, state: str | None, limit: int, after: tuple[int, int] | None) -> tuple[list[Letter], bool]:
        """List letters, newest first, past the place of an earlier page's last one; tell whether there are more."""
        found: list[Letter] = []
        for place in sorted(self._letters, reverse=True):
            letter = self._letters[place]
            if (after is None or place < after) and state in (None, letter.state):
                if len(found) == limit:
                    return found, True
                found.append(letter)
        return found, False


def content_of(letter: Letter, codec: Codec) -> Command | None:
    """Read what a letter holds, if this version can."""
    try:
        return codec.command(letter.dead.value)
    except Undecodable:
        return None


def obstacle(letter: Letter, said: Command | None, topics: Topics, *, raw: bool = False) -> str | None:
    """Say why a letter cannot be sent again, or None. With `raw` it may be one that cannot be read."""
    wanted = _readers(letter.dead.topic, topics)
    if wanted is None:
        return f"nobody takes requests, reports or calls from {letter.dead.topic}"
    if CUT.search(letter.dead.error):
        return "it was too large to be kept whole"
    if isinstance(said, RunTool) and said.effect == "once":
        return "it is a call of effect `once`: it may have happened already, and is never started again"
    if not isinstance(said, wanted) and not raw:
        return "it cannot be read as what its topic is for; with raw=true it is sent again as it is"
    return None


def once_more(said: RunTool, now: int) -> RunTool:
    """Make the command by which a call is run again: the same key, but, whatever the clock says, another delivery."""
    return replace(said, redriven=True, dispatched_at=max(now, said.dispatched_at + 1))


def letter_view(letter: Letter, said: Command | None, topics: Topics, input_bytes_max: int | None = None) -> View:
    """Show a letter; a call's input only if it has at most so many bytes. Its lease is for its pool alone."""
    dead = letter.dead
    shown = {
        "id": letter.name,
        "state": letter.state,
        "handled_at": letter.handled_at,
        "at": dead.at,
        "topic": dead.topic,
        "partition": None if dead.partition == NOWHERE else dead.partition,
        "offset": None if dead.offset == NOWHERE else dead.offset,
        "key": dead.key,
        "error": dead.error,
        "bytes": len(dead.value),
        "type": None if said is None else type(said).__name__,
        "obstacle": obstacle(letter, said, topics),
        "session": getattr(said, "session", None),
        "run_id": getattr(said, "run_id", None),
        "call_id": getattr(said, "call_id", None),
    }
    if isinstance(said, RunTool):
        shown |= {"tool": said.name, "pool": said.pool, "effect": said.effect}
        if input_bytes_max is None or len(said.input) <= input_bytes_max:
            shown["input"] = _value(said.input)
    return without_none(shown)


def _readers(topic: str, topics: Topics) -> Any:  # pyright has no type for "a class or a union of classes"
    """Give what those who take part in a topic can make use of, or None if nobody does."""
    pools = topics.tools("").name
    if topic.startswith(pools) and topic != pools:
        return RunTool
    return {topics.requests.name: Request, topics.results.name: Report}.get(topic)


def _value(text: Json) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text  # a stranger's


def _size(dead: DeadLetter) -> int:
    return len(dead.value) + LETTER_OVERHEAD
