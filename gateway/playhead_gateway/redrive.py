"""Dealing with dead letters: reading their topic, sending one again, leaving one be.

The topic is read each time somebody looks: that is seldom, and then it must be true. A letter that is sent again is
marked only after that, so that a crash between the two sends it twice and never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from playhead.codec import Codec
from playhead.commands import Command, LetterHandled, RunTool
from playhead.errors import Misconfigured, Undecodable
from playhead.queue import Queue, Topics

from playhead_gateway.letters import Letter, Letterbox, content_of, obstacle, once_more
from playhead_gateway.limits import Limits
from playhead_gateway.problems import Problem

__all__ = ["Redrive"]

FRESH_SECONDS = 2
"""How long what was read is good enough to deal with a letter. Who deals with it elsewhere just then is not seen."""


class Redrive:
    """The dead letters of a deployment."""

    def __init__(self, queue: Queue, topics: Topics, codec: Codec, clock: Callable[[], int], limits: Limits) -> None:
        self._queue = queue
        self._topics = topics
        self._codec = codec
        self._clock = clock
        self._limits = limits
        self._one_at_a_time = asyncio.Lock()
        self._box: Letterbox | None = None
        self._read_at = 0

    async def letters(self) -> Letterbox:
        """Read what there is. Raises `Unavailable`."""
        async with self._one_at_a_time:
            return await self._read()

    def content(self, letter: Letter) -> Command | None:
        """Read what a letter holds, if this version can."""
        return content_of(letter, self._codec)

    async def retry(self, name: str, *, raw: bool) -> bool:
        """Send a letter again. Tells whether that was done before. Raises `Problem`, `TooLarge`, `Unavailable`."""
        return await self._handle(name, "retried", raw=raw)

    async def drop(self, name: str) -> bool:
        """Leave a letter be. Tells whether that was done before. Raises `Problem`, `Unavailable`."""
        return await self._handle(name, "dropped")

    async def _handle(self, name: str, how: str, *, raw: bool = False) -> bool:
        async with self._one_at_a_time:
            letter = await self._find(name)
            if letter.state == how:
                return True
            if letter.state != "new":
                raise Problem(409, "letter-handled", f"{name} is {letter.state} already", state=letter.state)
            if how == "retried":
                await self._send(letter, raw=raw)
            handled = LetterHandled(letter.partition, letter.offset, how, self._clock())
            topic, key = self._topics.deadletter.name, letter.dead.topic  # the letter's own, so that it comes after it
            await self._queue.publish(topic, key, self._codec.encode(handled))
            if self._box is not None:
                self._box.note(handled)
            return False

    async def _find(self, name: str) -> Letter:
        """Find a letter in what was read a moment ago, if it is there: many are dealt with at one go."""
        if self._box is not None and 0 <= self._clock() - self._read_at < FRESH_SECONDS * 1_000_000:
            letter = self._box.find(name)
            if letter is not None:
                return letter
        return found(await self._read(), name)

    async def _send(self, letter: Letter, *, raw: bool) -> None:
        said, dead = self.content(letter), letter.dead
        why = obstacle(letter, said, self._topics, raw=raw)
        if why is not None:
            raise Problem(409, "letter-not-retryable", f"{letter.name} cannot be sent again: {why}")
        value = dead.value
        if isinstance(said, RunTool):
            value = self._codec.encode(once_more(said, self._clock()))
        try:
            await self._queue.publish(dead.topic, dead.key, value)
        except Misconfigured as error:
            detail = f"{letter.name} cannot be sent again: the topic {dead.topic} is not there"
            raise Problem(409, "letter-not-retryable", detail) from error

    async def _read(self) -> Letterbox:
        box, read_at = Letterbox(self._limits), self._clock()
        async with aclosing(self._queue.replay(self._topics.deadletter.name)) as batches:
            async for batch in batches:
                for message in batch:
                    try:
                        box.take(message, self._codec.command(message.value))
                    except Undecodable:
                        continue  # nothing of ours
        self._box, self._read_at = box, read_at
        return box


def found(box: Letterbox, name: str) -> Letter:
    """Give a letter that is there. Raises `Problem`."""
    letter = box.find(name)
    if letter is None:
        raise Problem(404, "unknown-letter", f"there is no dead letter {name[:40]}, or not any more")
    return letter
