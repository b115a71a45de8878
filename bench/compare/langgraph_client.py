"""The load client on LangGraph's wire: a run on a new thread, its tokens as `messages`, and no event that ends it.

https://docs.langchain.com/langsmith/streaming: a frame of `messages` holds a message and what is known about it, tokens
are those of type `AIMessageChunk`, and the end of the stream is the end of the run. An `error` frame comes before a
failed one's. A tool's result is a message too, and no delta. All else is `bench.client`'s.
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from bench.client import Stream, main, post

__all__ = ["LangGraphStream", "body"]


def body(agent: str, message: str) -> dict[str, Any]:
    """Write what asks for a run whose viewers may leave and come back."""
    return {
        "assistant_id": agent,
        "input": {"messages": [{"role": "user", "content": message}]},
        "stream_mode": ["messages-tuple"],
        "stream_resumable": True,
        "if_not_exists": "create",
    }


def said(message: dict[str, Any]) -> str:
    """Give the text of a chunk of the model's answer: nothing if it is not one."""
    if message["type"] != "AIMessageChunk":
        return ""
    blocks: list[dict[str, Any]] = message["content"] or []
    return "".join(block.get("text", "") for block in blocks)


class LangGraphStream(Stream):
    """One run's POST and the stream that answers it."""

    @classmethod
    def request(cls, port: int, agent: str, message: str) -> bytes:
        """Write what asks for a run."""
        return post(port, f"/threads/{uuid.uuid4()}/runs/stream", body(agent, message))

    def on_body(self, body: bytes) -> None:
        """Take what came: its lines end in CRLF, which JSON never holds unescaped."""
        super().on_body(body.replace(b"\r", b""))

    def on_message_complete(self) -> None:
        """Take the end of the stream for the end of the run."""
        self._run.ended = self._now
        self._finish("")

    def _frame(self, frame: bytes) -> None:
        kind, _, rest = frame.partition(b"\n")
        if not kind.startswith(b"event: "):
            return  # a comment that keeps the connection open
        self._run.first_event = self._run.first_event or self._now
        if kind == b"event: messages":
            text = said(orjson.loads(rest[len(b"data: ") : rest.find(b"\n")])[0])
            if text:
                self._delta(text)
        elif kind == b"event: error":
            self._finish(rest.decode())


if __name__ == "__main__":
    main(LangGraphStream)
