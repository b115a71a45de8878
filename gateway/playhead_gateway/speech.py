"""What one client is told of a session, from its place on to the end: replay, then live, in its protocol.

It knows how to go on saying; how bytes reach the client is the affair of who has it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

from playhead.ids import SessionId

from playhead_gateway.dialect import Dialect
from playhead_gateway.fanout import Fanout, Opening
from playhead_gateway.pace import Pace
from playhead_gateway.seats import Names
from playhead_gateway.tail import Tail, Viewer
from playhead_gateway.walk import Dropped, Walk, walking

__all__ = ["Manner", "SessionSpeech", "Speech"]


class Speech(Protocol):
    """Something that is told to one viewer."""

    @property
    def protocol(self) -> str:
        """The name of what it is told in, in metrics."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a response that holds it."""
        ...

    @property
    def tails(self) -> Sequence[Tail]:
        """The open sessions that it is about."""
        ...

    @property
    def names(self) -> Names:
        """What who listens is counted by."""
        ...

    @property
    def sessions(self) -> Sequence[SessionId]:
        """The names of those, for people."""
        ...

    async def hold(self, viewer: Viewer) -> None:
        """Say everything, until there is nothing more to say or nobody to say it to. Raises `Dropped`."""
        ...

    def farewell(self, reason: str) -> bytes:
        """Give the last words of a speech that the gateway must end early."""
        ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is told: `pace` says each event when its recorded time has come; `expires_at` is the time of the
    event loop until which the client may listen; by `names` he is counted.
    """

    pace: Pace | None = None
    expires_at: float = inf
    names: Names = ()


class SessionSpeech:
    """Tells one session, in a dialect."""

    def __init__(self, fanout: Fanout, opening: Opening, dialect: Dialect, manner: Manner) -> None:
        self.protocol = dialect.protocol
        self.headers = dialect.headers
        self.tails = (opening.tail,)
        self.sessions = (opening.tail.session,)
        self.names = manner.names
        self.farewell = dialect.farewell
        self._fanout = fanout
        self._opening = opening
        self._dialect = dialect
        self._manner = manner
        self._heartbeat_seconds = fanout.limits.heartbeat_seconds

    async def hold(self, viewer: Viewer) -> None:
        """Say everything, until there is nothing more to say or nobody to say it to."""
        dialect, pace = self._dialect, self._manner.pace
        async with walking(self._fanout, self._opening, is_patient=pace is not None) as walk:
            await self._put(viewer, dialect.opening())
            while not (viewer.gone or dialect.done):
                if viewer.now >= self._manner.expires_at:
                    raise Dropped("expired")
                frames = await walk.next()
                if frames is None:
                    await viewer.write(dialect.ending(self._opening.tail.last_seq), more=False)
                    return
                if not frames:
                    # With a pace, what has just come has a time of its own.
                    await self._wait(viewer, partial(self._tell, viewer, walk) if pace is None else None)
                elif pace is None:
                    await self._put(viewer, dialect.say(frames))
                else:
                    await self._say_paced(viewer, pace, frames)
                if walk.has_more:
                    # A reader that takes everything at once would else keep the event loop for the whole ring.
                    await asyncio.sleep(0)

    async def _put(self, viewer: Viewer, said: bytes) -> None:
        if said or self._dialect.done:
            await viewer.write(said, more=not self._dialect.done)
        else:
            await self._keep_alive(viewer)

    async def _say_paced(self, viewer: Viewer, pace: Pace, frames: Sequence[bytes]) -> None:
        """Say frames one by one, each when its time has come."""
        for frame in frames:
            while (wait := pace.wait(frame, viewer.now)) > 0 and not (viewer.gone or self._fanout.draining):
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await viewer.wait()
                await self._keep_alive(viewer)
            if viewer.gone or self._dialect.done:
                return
            if self._fanout.draining:
                raise Dropped("draining")
            await self._put(viewer, self._dialect.say((frame,)))

    async def _wait(self, viewer: Viewer, tell: Callable[[], bool] | None) -> None:
        await viewer.wait(tell)
        if self._dialect.done:
            await viewer.write(b"", more=False)
        else:
            await self._keep_alive(viewer)

    def _tell(self, viewer: Viewer, walk: Walk) -> bool:
        """Say what has just come, there and then; tell whether there is nothing else to do."""
        if viewer.gone or not viewer.has_room or viewer.now >= self._manner.expires_at:
            return False
        frames = walk.arrived()
        if not frames:
            return False
        if said := self._dialect.say(frames):
            viewer.put(said)
        return not (self._dialect.done or walk.has_more or walk.tail.closed)

    async def _keep_alive(self, viewer: Viewer) -> None:
        if self._dialect.heartbeat and viewer.silent_for() >= self._heartbeat_seconds:
            await viewer.write(self._dialect.heartbeat)
