"""The native protocol over WebSockets: each server-sent event as one JSON message, a line of what a dialect says. Pure.

`{"event": "text_delta", "id": "12-9f3a2c41", "data": {…}}`: the members are those of a server-sent event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from playhead_gateway.projections.native import Native

__all__ = ["Messages", "message"]


class Messages:
    """Says what the native dialect says, in messages. The connection's own pings keep it alive."""

    protocol = "websocket"
    heartbeat = b""

    def __init__(self, native: Native) -> None:
        self.headers: Mapping[str, str] = {}
        self._native = native

    @property
    def done(self) -> bool:
        """Whether all is said."""
        return self._native.done

    def opening(self) -> bytes:
        """Give the `ready` message."""
        return _messages(self._native.opening())

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the events that are wanted."""
        return _messages(self._native.say(frames))

    def ending(self, last_seq: int) -> bytes:
        """Say that the session is over."""
        return _messages(self._native.ending(last_seq))

    def farewell(self, reason: str) -> bytes:
        """Say goodbye for now."""
        return _messages(self._native.farewell(reason))


def message(event: str, data: bytes) -> bytes:
    """Give a message that is no event of the log."""
    return b'{"event":"%b","data":%b}\n' % (event.encode(), data)


def _messages(frames: bytes) -> bytes:
    return b"".join([_message(frame) for frame in frames.split(b"\n\n") if frame])


def _message(frame: bytes) -> bytes:
    fields = dict[bytes, bytes]()
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b": ")
        fields[name] = value
    told = b'{"event":"%b"' % fields[b"event"]
    if b"id" in fields:
        told += b',"id":"%b"' % fields[b"id"]
    if b"retry" in fields:
        told += b',"retry":%b' % fields[b"retry"]
    return told + b',"data":%b}\n' % fields[b"data"]
