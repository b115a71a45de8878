"""The AI SDK's UI message stream, version 1, as the npm package `ai` 7 reads it. A pure dialect of a session's stream.

A stream tells one run as one message of the assistant, whose id is the run's. It always begins with `start` and tells
all of the run that there is, then what comes: to the stock client a resumed stream is a replay by which it builds the
message anew. So a resume, whenever it comes, says the same bytes as the first stream. What is not of the run is not
even parsed.

Chunks are LF only, one `data` line each, and `[DONE]` after the last. A stream that the gateway must end early ends
with an `error` chunk instead: the stock client takes a body that just ends for an answer that is whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from playhead_gateway.projections.sse import HEARTBEAT, LINE_BREAKS, event_of
from playhead_gateway.projections.ui_message import Chunk, UiMessage

__all__ = ["UI_HEADERS", "UiStream"]

UI_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "x-vercel-ai-ui-message-stream": "v1",
}

DONE = b"data: [DONE]\n\n"


class UiStream:
    """One run of a session, told to one client of the AI SDK."""

    protocol = "ai-sdk"
    headers = UI_HEADERS
    heartbeat = HEARTBEAT

    def __init__(self, session: str, run_id: str) -> None:
        self.done = False
        self._session = session
        self._run_id = run_id
        self._named = b'"run_id":"%b"' % run_id.encode()
        self._message = UiMessage()

    def opening(self) -> bytes:
        """Begin the message: from here on the client knows by which id the run can be stopped."""
        about = {"playhead": {"session": self._session, "run_id": self._run_id}}
        return _frame({"type": "start", "messageId": self._run_id, "messageMetadata": about})

    def say(self, frames: Sequence[bytes]) -> bytes:
        """Say what the frames that come next say of the run."""
        said: list[bytes] = []
        for frame in frames:
            if self.done:
                break
            if self._named not in frame:
                continue
            event = orjson.loads(event_of(frame))
            if event.get("run_id") != self._run_id:
                continue  # the text is in what somebody else's event carries
            said += [_frame(chunk) for chunk in self._message.take(event)]
            if self._message.is_over:
                said.append(DONE)
                self.done = True
        return b"".join(said)

    def ending(self, last_seq: int) -> bytes:
        """Say that nothing comes any more: the session was closed before the run was over."""
        return _frame(_error("the session is closed")) + DONE

    def farewell(self, reason: str) -> bytes:
        """Say that this is not the end of the run."""
        return _frame(_error(f"the stream was ended early ({reason}) and the run goes on: resume it"))


def _error(text: str) -> Chunk:
    return {"type": "error", "errorText": text}


def _frame(chunk: Chunk) -> bytes:
    data = orjson.dumps(chunk)
    if not data.isascii():
        for raw, escaped in LINE_BREAKS:
            data = data.replace(raw, escaped)
    return b"data: %b\n\n" % data
