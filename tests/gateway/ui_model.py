"""What the stock client, `ai` 7, makes of chunks, and what it fails over: as `processUIMessageStream` does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

Said = dict[str, Any]

KNOWN: dict[str, set[str]] = {
    "start": set(),
    "finish": set(),
    "abort": set(),
    "error": {"errorText"},
    "start-step": set(),
    "finish-step": set(),
    "reset-step": set(),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "reasoning-start": {"id"},
    "reasoning-delta": {"id", "delta"},
    "reasoning-end": {"id"},
    "tool-input-available": {"toolCallId", "toolName", "input"},
    "tool-approval-request": {"approvalId", "toolCallId"},
    "tool-approval-response": {"approvalId", "approved"},
    "tool-output-available": {"toolCallId", "output"},
    "tool-output-error": {"toolCallId", "errorText"},
    "tool-output-denied": {"toolCallId"},
}
"""The types of chunks that are used here, with the members that its schema demands."""


def chunks_in(stream: bytes) -> list[Said]:
    """Read a stream: each frame one `data` line, or a comment; LF only; nothing after `[DONE]`."""
    assert b"\r" not in stream
    blocks = stream.split(b"\n\n")
    assert blocks.pop() == b""
    chunks: list[Said] = []
    for place, block in enumerate(blocks):
        assert b"\n" not in block
        if block.startswith(b":"):
            continue
        if block == b"data: [DONE]":
            assert place == len(blocks) - 1
            continue
        chunk = orjson.loads(block.removeprefix(b"data: "))
        if not chunk["type"].startswith("data-playhead-"):
            assert KNOWN[chunk["type"]] <= chunk.keys(), chunk
        chunks.append(chunk)
    return chunks


@dataclass
class Client:
    """A message in the making."""

    id: str = ""
    parts: list[Said] = field(default_factory=list[Said])
    growing: dict[tuple[str, str], Said] = field(default_factory=dict[tuple[str, str], Said])
    errors: list[str] = field(default_factory=list[str])
    transient: list[Said] = field(default_factory=list[Said])
    finish: str | None = None

    def apply(self, chunks: Iterable[Said]) -> Client:
        for chunk in chunks:
            kind: str = chunk["type"]
            if kind.startswith("data-"):
                self._data(chunk)
            elif kind.startswith(("text-", "reasoning-")):
                name, _, how = kind.partition("-")
                self._grow(name, how, chunk)
            elif kind.startswith("tool-"):
                self._tool(kind, chunk)
            else:
                self._frame(kind, chunk)
        return self

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def texts(self) -> list[tuple[str, str]]:
        return [(part["type"], part["text"]) for part in self.parts if part["type"] in ("text", "reasoning")]

    @property
    def tools(self) -> list[Said]:
        return [part for part in self.parts if part["type"] == "dynamic-tool"]

    def _step_start(self) -> int:
        places = [place for place, part in enumerate(self.parts) if part["type"] == "step-start"]
        return places[-1] + 1 if places else 0

    def _frame(self, kind: str, chunk: Said) -> None:
        if kind == "start":
            self.id = chunk["messageId"]
        elif kind == "start-step":
            self.parts.append({"type": "step-start"})
        elif kind == "reset-step":
            del self.parts[self._step_start() :]
            self.growing.clear()
        elif kind == "error":
            self.errors.append(chunk["errorText"])
        elif kind == "finish":
            self.finish = chunk["finishReason"]
        elif kind == "abort":
            self.finish = "abort"

    def _grow(self, kind: str, how: str, chunk: Said) -> None:
        name = kind, chunk["id"]
        if how == "start":
            assert name not in self.growing
            self.growing[name] = {"type": kind, "text": ""}
            self.parts.append(self.growing[name])
        elif how == "delta":
            assert chunk["delta"]
            self.growing[name]["text"] += chunk["delta"]
        else:
            del self.growing[name]

    def _tool(self, kind: str, chunk: Said) -> None:
        if kind == "tool-input-available":
            assert not any(part["toolCallId"] == chunk["toolCallId"] for part in self.tools)
            members = {"toolCallId": chunk["toolCallId"], "toolName": chunk["toolName"], "input": chunk["input"]}
            assert chunk["dynamic"]
            assert chunk["providerExecuted"]
            self.parts.append({"type": "dynamic-tool", "state": "input-available", **members})
            return
        if kind == "tool-approval-response":
            part = next(part for part in self.tools if part.get("approval", {}).get("id") == chunk["approvalId"])
            part["state"] = "approval-responded"
            part["approval"]["approved"] = chunk["approved"]
            return
        part = next(part for part in self.tools if part["toolCallId"] == chunk["toolCallId"])
        if kind == "tool-approval-request":
            part["state"], part["approval"] = "approval-requested", {"id": chunk["approvalId"]}
            return
        part["state"] = kind.removeprefix("tool-")
        for name in ("output", "errorText", "preliminary"):
            part.pop(name, None)
            if name in chunk:
                part[name] = chunk[name]

    def _data(self, chunk: Said) -> None:
        if chunk.get("transient"):
            self.transient.append(chunk)
            return
        for part in self.parts:
            if part["type"] == chunk["type"] and part["id"] == chunk["id"]:
                part["data"] = chunk["data"]
                return
        self.parts.append(chunk)
