"""AG-UI 1.0 over server-sent events: one `data` line an event, LF only. A pure dialect of a session's stream.

Every stream is a session's log from its first event, translated by `agui_thread`, and a window on what that says.
Before the window opens nothing is said; then a *prelude* brings a client to that place that knows nothing
(`RUN_STARTED`, `MESSAGES_SNAPSHOT`, the open items begun again), and everything follows. So what a stream says after a
cursor is exactly what any other says there. A `Window` is opened

* by a request: with the run of its message, or with the answer to its question, until that run is over, or waits for
  its user;
* by a resume: after a cursor, until nothing goes on. Without a cursor that is the end of the log as it is now, and a
  run that is over is told of by a snapshot and its end alone.

Each event's `metadata.playhead.cursor` is where a client goes on that has seen everything up to this event, whole. Of
several that one event of the log became, the last alone moves it, so a cut between them says all of them again.

Deltas are not even parsed before the window, unless their step's message is not there yet to say it all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from playhead_gateway.projections.agui_state import Said
from playhead_gateway.projections.agui_thread import Thread
from playhead_gateway.projections.native import STREAM_HEADERS
from playhead_gateway.projections.sse import HEARTBEAT, LINE_BREAKS, event_of, prefix_of

__all__ = ["AgUi", "Window"]

DELTAS = (prefix_of("text_delta"), prefix_of("thinking"))
UNSAID = prefix_of("tool_input_delta")
WHOLE = prefix_of("model_call_completed")
RUN_ENDS = ("run_completed", "run_failed", "run_cancelled")

START = "0"


@dataclass(frozen=True, slots=True)
class Window:
    """What of a session a stream shows: from when, and until when.

    `first` are the runs with whose start it opens, `answers` the questions with whose answer it does, and `until` the
    run with which it ends. Without `until` it opens after the seq `after`, and ends at `last_seq` or later, once
    nothing goes on. `restates`: a run that is over there is told of, too.
    """

    until: str | None = None
    first: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()
    after: int = 0
    last_seq: int = 0
    restates: bool = False

    def opens_before(self, event: Said) -> bool:
        """Tell whether the first thing to show is what this event says."""
        if self.until is None:
            return False
        if event["type"] == "run_started":
            return event["run_id"] in self.first
        if event["type"] == "question_answered":
            return event["question_id"] in self.answers
        return event["type"] in RUN_ENDS and event["run_id"] == self.until


class AgUi:
    """One AG-UI stream. `names` are the ids by which the client knows runs."""

    protocol = "agui"
    headers = STREAM_HEADERS
    heartbeat = HEARTBEAT

    def __init__(self, thread_id: str, window: Window, names: Mapping[str, str] | None = None) -> None:
        self.done = False
        self._thread = Thread(thread_id, names)
        self._window = window
        self._is_open = window.until is None and window.after == 0 and not window.restates
        self._thread.is_heard = self._is_open
        self._ended = False  # the run `until` is over
        self._has_spoken = False
        self._seq = 0
        self._cursor = START
        self._unread: list[bytes] = []  # deltas of the attempt that is going, while nobody hears them

    def opening(self) -> bytes:
        """Give nothing: what there is to say depends on the log."""
        return b""

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say the frames that come next; the first of all is the first of the log."""
        said: list[bytes] = []
        for frame in frames:
            if self.done:
                break
            self._seq += 1
            if self._is_open:
                self._speak(frame, said)
            else:
                self._listen(frame, said)
            if self._window.until is None:
                self._look_around(said)
        out = b"".join(said)
        self._has_spoken = self._has_spoken or bool(out)
        return out

    def ending(self, last_seq: int) -> bytes:
        """Say that nothing comes any more, to who has not been told anything: no client takes silence for an end."""
        if self._has_spoken or self._window.until is None:
            return b""
        closed = {"type": "RUN_ERROR", "message": "the session is closed", "code": "session_closed"}
        return _frame(closed, self._cursor, None)

    def farewell(self, reason: str) -> bytes:
        """Say nothing that a client takes for an event: a body that ends within a run is one to resume."""
        return b": %b\n\n" % reason.encode()

    def _listen(self, frame: bytes, said: list[bytes]) -> None:
        """Take what comes before the window."""
        if frame.startswith(DELTAS):
            self._unread.append(frame)
        elif frame and not frame.startswith(UNSAID):
            if frame.startswith(WHOLE):
                self._unread.clear()  # it says all that they did
            event = _event(frame)
            if self._window.opens_before(event):
                self._open_before(event, frame, said)
                return
            self._read()
            self._thread.take(event)
        self._cursor = _cursor_of(frame) or self._cursor

    def _open_before(self, event: Said, frame: bytes, said: list[bytes]) -> None:
        run = self._thread.run
        is_other = self._thread.is_active and run is not None and run.run_id != event["run_id"]
        self._open()
        if is_other:
            # It ended while it waited for the run that is going, which is not what was asked for.
            said.append(self._framed(self._thread.unbegun(event), _cursor_of(frame), event["at"]))
            self.done = True
            return
        if self._thread.is_active:
            said.append(self._framed(self._thread.prelude(), self._cursor, None))
        self._speak(frame, said)

    def _open(self) -> None:
        self._read()
        self._is_open = self._thread.is_heard = True

    def _read(self) -> None:
        """Read the deltas that nothing has superseded."""
        for delta in self._unread:
            self._thread.take(_event(delta))
        self._unread.clear()

    def _speak(self, frame: bytes, said: list[bytes]) -> None:
        if not frame or frame.startswith(UNSAID):
            self._cursor = _cursor_of(frame) or self._cursor
            return
        event, until = _event(frame), self._window.until
        said.append(self._framed(self._thread.take(event), _cursor_of(frame), event["at"]))
        if until is not None:
            self._ended = self._ended or (event["type"] in RUN_ENDS and event["run_id"] == until)
            # While a run waits for its user those behind it do not begin.
            self.done = self._thread.waits_for_user or (self._ended and not self._thread.is_active)

    def _look_around(self, said: list[bytes]) -> None:
        """Open the window of a resume at its place, and close it when nothing goes on."""
        window, thread = self._window, self._thread
        if not self._is_open and self._seq == window.after:
            self._open()
            if thread.is_active or window.restates:
                said.append(self._framed(thread.prelude(), self._cursor, None))
        if self._is_open and self._seq >= window.last_seq:
            self.done = thread.is_idle

    def _framed(self, events: Sequence[Said], cursor: str, at: int | None) -> bytes:
        """Write the events that one event of the log became."""
        before, self._cursor = self._cursor, cursor
        whole = len(events) - 1
        return b"".join(_frame(event, cursor if n == whole else before, at) for n, event in enumerate(events))


def _frame(event: Said, cursor: str, at: int | None) -> bytes:
    about = event.get("metadata", {})
    metadata = {**about, "playhead": {**about.get("playhead", {}), "cursor": cursor}}
    when = {} if at is None else {"timestamp": at // 1000}
    data = orjson.dumps({**event, **when, "metadata": metadata})
    if not data.isascii():
        for raw, escaped in LINE_BREAKS:
            data = data.replace(raw, escaped)
    return b"data: %b\n\n" % data


def _event(frame: bytes) -> Said:
    return cast("Said", orjson.loads(event_of(frame)))


def _cursor_of(frame: bytes) -> str:
    """Give the cursor behind a native frame; nothing for one that cannot be shown."""
    return frame[frame.rindex(b"\nid: ") + 5 : -2].decode() if frame else ""
