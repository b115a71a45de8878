"""A run as the AI SDK has it: native JSON events in, chunks of a UI message out. Pure.

`UiMessage.take` is the whole translation. What the two protocols do not share:

* **A lost attempt.** `reset-step` takes back what it said: the stock client then drops all parts since the last
  `start-step`. So every step has a `start-step`, and the calls of a step, which only an accepted attempt has, are
  never dropped. The same is done if the step's whole message is not what its deltas said, for that is the truth.
* **Tools** run here, never at the client: `dynamic` (it does not know them) and `providerExecuted`. An input is given
  whole: `tool_input_delta` does not know the tool's name, which would have to come first.
* **Partial output** is a preliminary output. Each one replaces the one before, so texts are given joined, and of a
  long one the end.
* **A question** is a `data-playhead-question` part with the question's id, and with the answer once there is one. The
  stream goes on: the answer is given to the session, not to the chat.
* **An approval** is a `tool-approval-request`, and the decision a `tool-approval-response`, whoever made it.
* What has no counterpart is said as a transient `data-playhead-<type>` part, which no message keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

__all__ = ["PRELIMINARY_CHARS_MAX", "Chunk", "UiMessage"]

Chunk = dict[str, Any]
"""A JSON object: a native event, or a chunk of the stream."""

PRELIMINARY_CHARS_MAX = 8_192
"""How much of a text that a tool emits piece by piece is said again with each piece."""

FINE = ("ok", "fallback")

KINDS: Mapping[str, str] = {"text": "text", "thinking": "reasoning"}
"""What a content block is called in the chunks' types, by the block's."""

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "length": "length",
    "refusal": "content-filter",
    "content_filter": "content-filter",
    "tool_use": "tool-calls",
    "tool_calls": "tool-calls",
}
"""By the reason with which the last model call stopped; anything else is `other`."""

SILENT = frozenset({"user_message", "run_started", "tool_input_delta"})
"""Has nothing to say to a client of the AI SDK."""


@dataclass(slots=True)
class Said:
    """A part that an attempt is saying."""

    kind: str
    text: str
    identity: str
    is_open: bool = True


class UiMessage:
    """One run's message. Takes the events of the run one by one, from its first."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether the run has ended: there is nothing more to say."""
        self._chunks: list[Chunk] = []
        self._step: int | None = None
        self._attempt = 0
        self._said: list[Said] = []  # by the attempt that is going; void until its message is whole
        self._parts = 0
        self._has_text = False
        self._stop_reason = ""
        self._emitted: dict[str, str] = {}  # the text that each open call has emitted so far
        self._approvals = set[str]()
        self._questions: dict[str, Chunk] = {}
        self._handlers: Mapping[str, Callable[[Chunk], None]] = {
            "model_call_started": self._attempt_started,
            "thinking": self._delta,
            "text_delta": self._delta,
            "model_call_completed": self._answered,
            "model_call_failed": self._lost,
            "model_call_abandoned": self._lost,
            "guardrail_tripped": self._judged,
            "tool_call": self._called,
            "tool_started": self._started,
            "tool_result_chunk": self._emits,
            "tool_result": self._returned,
            "approval_requested": self._approval_requested,
            "approval_given": self._approval_given,
            "question_asked": self._asked,
            "question_answered": self._asked,
            "final_response": self._final,
            "run_completed": self._completed,
            "run_failed": self._failed,
            "run_cancelled": self._cancelled,
        }

    def take(self, event: Chunk) -> list[Chunk]:
        """Give what a native event is in chunks."""
        handler = self._handlers.get(event["type"])
        if handler is not None:
            handler(event)
        elif event["type"] not in SILENT:
            self._say_transient(event)
        chunks, self._chunks = self._chunks, []
        return chunks

    def _say(self, kind: str, **members: Any) -> None:
        self._chunks.append({"type": kind, **members})

    def _say_transient(self, event: Chunk) -> None:
        self._say(f"data-playhead-{event['type'].replace('_', '-')}", data=event, transient=True)

    # --- what the model says ---------------------------------------------------------------------------------------

    def _enter(self, event: Chunk) -> None:
        """Be in the event's step."""
        if event["step"] != self._step:
            self._leave()
            self._step = event["step"]
            self._say("start-step")

    def _leave(self) -> None:
        """End the step. What its attempt said without ever being whole is void."""
        self._forget()
        if self._step is not None:
            self._say("finish-step")
            self._step = None

    def _attempt_started(self, event: Chunk) -> None:
        self._enter(event)
        self._forget()
        self._attempt = event["attempt"]

    def _delta(self, event: Chunk) -> None:
        if (event["step"], event["attempt"]) == (self._step, self._attempt):
            self._grow("text" if event["type"] == "text_delta" else "thinking", event["text"])

    def _grow(self, kind: str, text: str) -> None:
        if not text:
            return
        if not self._said or self._said[-1].kind != kind:
            self._close()
            self._parts += 1
            self._said.append(Said(kind, "", f"{KINDS[kind]}-{self._parts}"))
            self._say(f"{KINDS[kind]}-start", id=self._said[-1].identity)
        part = self._said[-1]
        part.text += text
        self._say(f"{KINDS[kind]}-delta", id=part.identity, delta=text)

    def _close(self) -> None:
        if self._said and self._said[-1].is_open:
            self._said[-1].is_open = False
            self._say(f"{KINDS[self._said[-1].kind]}-end", id=self._said[-1].identity)

    def _forget(self) -> None:
        """Take back what an attempt said that came to nothing."""
        if self._said:
            self._said = []
            self._say("reset-step")

    def _lost(self, event: Chunk) -> None:
        self._forget()
        self._say_transient(event)

    def _judged(self, event: Chunk) -> None:
        if "withdraws" in event:
            self._forget()
        self._say_transient(event)

    def _answered(self, event: Chunk) -> None:
        """Take the whole message of a step: it is the truth, whatever its deltas said."""
        self._enter(event)
        whole = _parts_of(event["message"])
        if not _begins(whole, self._said):
            self._forget()
        for place, (kind, text) in enumerate(whole):
            said = self._said[place].text if place < len(self._said) else ""
            self._grow(kind, text[len(said) :])
            self._has_text = self._has_text or kind == "text"
        self._close()
        self._said = []
        self._stop_reason = event["stop_reason"]

    def _final(self, event: Chunk) -> None:
        """Say the answer, if no message of the model did."""
        if not self._has_text:
            self._forget()
            self._grow("text", event["text"])
            self._close()
            self._said = []

    # --- tools -----------------------------------------------------------------------------------------------------

    def _called(self, event: Chunk) -> None:
        self._enter(event)
        self._emitted[event["call_id"]] = ""
        about = {"toolCallId": event["call_id"], "toolName": event["name"], "input": event["input"]}
        self._say("tool-input-available", **about, dynamic=True, providerExecuted=True)

    def _started(self, event: Chunk) -> None:
        if event["call_id"] in self._emitted:
            self._emitted[event["call_id"]] = ""  # what an earlier try emitted is void
        self._say_transient(event)

    def _emits(self, event: Chunk) -> None:
        call, output = event["call_id"], event["output"]
        if call not in self._emitted:
            return
        if isinstance(output, str):
            output = self._emitted[call] = (self._emitted[call] + output)[-PRELIMINARY_CHARS_MAX:]
        self._say_output("available", call, output=output, preliminary=True)

    def _returned(self, event: Chunk) -> None:
        call, output, status = event["call_id"], event["output"], event["status"]
        if self._emitted.pop(call, None) is None:
            return  # the stock client fails over the result of a call that it does not have
        if status in FINE:
            self._say_output("available", call, output=output)
        elif status == "denied" and call in self._approvals:
            self._say("tool-output-denied", toolCallId=call)
        else:
            text = output if isinstance(output, str) else orjson.dumps(output).decode()
            self._say_output("error", call, errorText=text if status == "error" else f"{status}: {text}")

    def _say_output(self, kind: str, call: str, **members: Any) -> None:
        self._say(f"tool-output-{kind}", toolCallId=call, **members, dynamic=True, providerExecuted=True)

    def _approval_requested(self, event: Chunk) -> None:
        call = event["call_id"]
        if call in self._emitted:
            self._approvals.add(call)
            self._say("tool-approval-request", approvalId=call, toolCallId=call, reason=event["reason"])

    def _approval_given(self, event: Chunk) -> None:
        call = event["call_id"]
        if call in self._emitted and call in self._approvals:
            reason = {"reason": event["reason"]} if "reason" in event else {}
            approved = event["decision"] == "approve"
            self._say("tool-approval-response", approvalId=call, approved=approved, **reason, providerExecuted=True)

    def _asked(self, event: Chunk) -> None:
        """Show a question, or the answer in its place."""
        told = {name: event[name] for name in ("question_id", "call_id", "schema", "by") if name in event}
        said = "question" if event["type"] == "question_asked" else "answer"
        identity = event["question_id"]
        self._questions[identity] = self._questions.get(identity, {}) | told | {said: event["content"]}
        self._say("data-playhead-question", id=identity, data=self._questions[identity])

    # --- the end ---------------------------------------------------------------------------------------------------

    def _completed(self, event: Chunk) -> None:
        reason = FINISH_REASONS.get(self._stop_reason, "other")
        self._end()
        about = {"playhead": {"usage": event["usage"]}}
        self._say("finish", finishReason=reason, messageMetadata=about)

    def _failed(self, event: Chunk) -> None:
        self._end()
        self._say("error", errorText=f"{event['error']['message']} ({event['error']['code']})")
        self._say("finish", finishReason="error")

    def _cancelled(self, event: Chunk) -> None:
        self._end()
        self._say("abort", reason=event["reason"])

    def _end(self) -> None:
        self._leave()
        self.is_over = True


def _parts_of(message: object) -> list[tuple[str, str]]:
    """Give the kinds and texts of a whole message. Neighbours of one kind are one part, as their deltas are."""
    parts: list[tuple[str, str]] = []
    blocks = cast("Chunk", message).get("content") if isinstance(message, dict) else None
    for block in cast("list[object]", blocks) if isinstance(blocks, list) else ():
        match block:
            case {"type": "text", "text": str(text)} if text:
                _add(parts, "text", text)
            case {"type": "thinking", "text": str(text)} if text:
                _add(parts, "thinking", text)
            case _:
                pass
    return parts


def _add(parts: list[tuple[str, str]], kind: str, text: str) -> None:
    if parts and parts[-1][0] == kind:
        text = parts.pop()[1] + text
    parts.append((kind, text))


def _begins(whole: list[tuple[str, str]], said: list[Said]) -> bool:
    """Tell whether a whole message begins with what was said of it."""
    if len(said) > len(whole):
        return False
    for place, part in enumerate(said):
        kind, text = whole[place]
        is_last = place == len(said) - 1
        if kind != part.kind or not (text.startswith(part.text) if is_last else text == part.text):
            return False
    return True
