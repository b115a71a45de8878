"""What the tests of AG-UI stand on: a client as the stock one is, and logs of every kind of thing that can happen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson
from ag_ui.core import Event as AgUiEvent
from hypothesis import strategies as st
from playhead.accept import genesis
from playhead.codec import Context
from playhead.events import (
    Event,
    Failure,
    FinalResponse,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    OwnerChanged,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolInputDelta,
    ToolPending,
    ToolProgress,
    ToolResult,
    ToolStarted,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, MessageId, RunId, SessionId, call_id, message_id, run_id, session_id
from playhead_gateway.projections.sse import Projection
from pydantic import TypeAdapter

from tests.gateway.support import CODEC, NOW, OWNED, STARTED

SESSION = session_id(bytes(16))
OFFICIAL: TypeAdapter[Any] = TypeAdapter(AgUiEvent)
"""The protocol's own models of its events."""

Said = dict[str, Any]


class Reading:
    """A stream being read. Waits at most five seconds."""

    def __init__(self, response: httpx2.Response) -> None:
        self.raw = b""
        self._chunks = response.aiter_raw()

    async def until(self, raw: bytes) -> None:
        while raw not in self.raw:
            await self._read()

    async def finish(self) -> None:
        with suppress(StopAsyncIteration):
            while True:
                await self._read()

    async def _read(self) -> None:
        async with asyncio.timeout(5):
            self.raw += await anext(self._chunks)


def frames_of(events: Sequence[Event], session: SessionId = SESSION) -> list[bytes]:
    """Give the native frames of a log."""
    projection = Projection(CODEC)
    records = CODEC.seal(genesis(session), events, Context(session, 1, None, NOW))
    return [projection.frame(record) for record in records]


def events_in(stream: bytes) -> list[Said]:
    """Read a stream, as strictly as the protocol has it: each frame one `data` line, or a comment; LF only."""
    assert not any(
        end in stream for end in (b"\r", "\u2028".encode(), "\u0085".encode())
    )  # some read these as line ends
    blocks = stream.split(b"\n\n")
    assert blocks.pop() == b""
    told: list[Said] = []
    for block in blocks:
        assert b"\n" not in block
        if block.startswith(b":"):
            continue
        assert block.startswith(b"data: {")
        event = orjson.loads(block[6:])
        known = OFFICIAL.validate_python(event)
        assert not known.model_extra, known  # nothing that the protocol does not have
        told.append(event)
    return told


@dataclass
class Client:
    """What the stock client, `@ag-ui/client` 1.0.0, makes of events, and what its verifier refuses."""

    messages: list[Said] = field(default_factory=list[Said])
    running: bool = False
    items: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    outcomes: list[str] = field(default_factory=list[str])
    interrupts: list[Said] = field(default_factory=list[Said])
    runs: list[str] = field(default_factory=list[str])
    cursor: str = ""

    def apply(self, events: Iterable[Said]) -> Client:
        for event in events:
            if event["type"] == "RUN_STARTED":
                assert not self.running, "a run within a run"
                assert event["protocolVersion"] == "1.0"
                self.running, self.items = True, set()
                self.runs.append(event["runId"])
            assert self.running, f"{event['type']} outside of a run"
            getattr(self, f"_{event['type'].lower()}", self._other)(event)
            self.cursor = event["metadata"]["playhead"]["cursor"]
        return self

    def cut(self) -> Client:
        """Lose the connection: what is open is forgotten, what is shown stays."""
        return Client(messages=deepcopy(self.messages), cursor=self.cursor)

    @property
    def shown(self) -> list[Said]:
        return [{name: value for name, value in one.items() if name != "metadata"} for one in self.messages]

    def _find(self, identity: str) -> Said | None:
        return next((one for one in self.messages if one["id"] == identity), None)

    def _other(self, event: Said) -> None:
        assert event["type"] in ("RUN_STARTED", "CUSTOM"), event["type"]

    def _run_finished(self, event: Said) -> None:
        assert not self.items, f"still open: {self.items}"
        assert event["runId"] == self.runs[-1]
        self.running = False
        self.outcomes.append(event["outcome"]["type"])
        self.interrupts = event["outcome"].get("interrupts", [])

    def _run_error(self, event: Said) -> None:
        assert not self.items
        self.running = False
        self.outcomes.append(event["code"])

    def _begin(self, kind: str, event: Said) -> None:
        item = (kind, event.get("messageId") or event["toolCallId"])
        assert item not in self.items, f"{item} begins twice"
        self.items.add(item)

    def _end(self, kind: str, event: Said) -> None:
        self.items.remove((kind, event.get("messageId") or event["toolCallId"]))

    def _text_message_start(self, event: Said) -> None:
        self._begin("text", event)
        if self._find(event["messageId"]) is None:
            self.messages.append({"id": event["messageId"], "role": event["role"], "content": ""})

    def _text_message_content(self, event: Said) -> None:
        assert ("text", event["messageId"]) in self.items
        self._grow(event)

    def _text_message_end(self, event: Said) -> None:
        self._end("text", event)

    def _reasoning_start(self, event: Said) -> None:
        self._begin("span", event)

    def _reasoning_end(self, event: Said) -> None:
        self._end("span", event)

    def _reasoning_message_start(self, event: Said) -> None:
        self._begin("thought", event)
        if self._find(event["messageId"]) is None:
            self.messages.append({"id": event["messageId"], "role": "reasoning", "content": ""})

    def _reasoning_message_content(self, event: Said) -> None:
        assert ("thought", event["messageId"]) in self.items
        self._grow(event)

    def _reasoning_message_end(self, event: Said) -> None:
        self._end("thought", event)

    def _grow(self, event: Said) -> None:
        message = self._find(event["messageId"])
        assert message is not None
        assert event["delta"]
        message["content"] += event["delta"]

    def _tool_call_start(self, event: Said) -> None:
        self._begin("call", event)
        message = self._find(event["parentMessageId"])
        if message is None:
            message = Said(id=event["parentMessageId"], role="assistant")
            self.messages.append(message)
        call = {"id": event["toolCallId"], "type": "function"}
        message.setdefault("toolCalls", []).append(
            call | {"function": {"name": event["toolCallName"], "arguments": ""}}
        )

    def _tool_call_args(self, event: Said) -> None:
        assert ("call", event["toolCallId"]) in self.items
        calls = (call for one in self.messages for call in one.get("toolCalls", ()))
        next(call for call in calls if call["id"] == event["toolCallId"])["function"]["arguments"] += event["delta"]

    def _tool_call_end(self, event: Said) -> None:
        self._end("call", event)

    def _tool_call_result(self, event: Said) -> None:
        made = [n for n, one in enumerate(self.messages) if event["toolCallId"] in _calls_of(one)]
        place = made[0] + 1 if made else len(self.messages)
        while place < len(self.messages) and self.messages[place]["role"] == "tool":
            place += 1
        message = {"id": event["messageId"], "toolCallId": event["toolCallId"], "content": event["content"]}
        self.messages.insert(place, message | {"role": "tool"})

    def _activity_snapshot(self, event: Said) -> None:
        members = {"activityType": event["activityType"], "content": deepcopy(event["content"])}
        self.messages.append({"id": event["messageId"], "role": "activity", **members})

    def _activity_delta(self, event: Said) -> None:
        message = self._find(event["messageId"])
        assert message is not None
        for change in event["patch"]:
            name = change["path"].removeprefix("/")
            if change["op"] == "remove":
                del message["content"][name]
            else:
                message["content"][name] = change["value"]

    def _messages_snapshot(self, event: Said) -> None:
        new: list[Said] = deepcopy(event["messages"])
        by_id = {one["id"]: one for one in new}
        roles = {one["role"] for one in new}
        kept = [
            by_id.get(one["id"], one)
            for one in self.messages
            if one["id"] in by_id or (one["role"] in ("activity", "reasoning") and one["role"] not in roles)
        ]
        ids = {one["id"] for one in kept}
        self.messages = kept + [one for one in new if one["id"] not in ids]


def _calls_of(message: Said) -> list[str]:
    return [call["id"] for call in message.get("toolCalls", ())]


WORDS = st.sampled_from(["wo", "rd ", "é", "\u2028", "\n", "日本", "{}", '"'])


@dataclass
class Log:
    """A log in the making."""

    draw: st.DrawFn
    events: list[Event] = field(default_factory=lambda: [STARTED, OWNED])
    asked: int = 0
    interrupted: bool = False

    def message(self) -> tuple[RunId, MessageId]:
        self.asked += 1
        message = message_id(SESSION, f"message {self.asked}")
        run = run_id(SESSION, message)
        self.events.append(UserMessage(run, message, Json(orjson.dumps(f"question {self.asked}").decode())))
        return run, message

    def run(self) -> None:
        run, message = self.message()
        others = [self.message() for _ in range(self.draw(st.integers(0, 1)))]
        self.events.append(RunStarted(run, message))
        steps = self.draw(st.integers(1, 2))
        for step in range(1, steps + 1):
            self.step(run, step, is_last=step == steps)
        for other, _ in others:
            self.events.append(RunCancelled(other, "requested"))
        self.end(run)

    def end(self, run: RunId) -> None:
        how = self.draw(st.sampled_from(["completed", "failed", "cancelled"]))
        if how == "completed":
            self.events += [FinalResponse(run, "answer", MessageId("msg_a")), RunCompleted(run, Usage(1, 2))]
        elif how == "failed":
            self.events.append(RunFailed(run, Failure("overloaded", "later")))
        else:
            self.events.append(RunCancelled(run, "requested"))

    def step(self, run: RunId, step: int, *, is_last: bool) -> None:
        attempts = self.draw(st.integers(1, 2))
        for attempt in range(1, attempts + 1):
            place = (run, step, attempt)
            self.events.append(ModelCallStarted(*place, "scripted:plain", "scripted"))
            blocks = self.deltas(*place)
            if attempt < attempts:
                lost = [
                    ModelCallFailed(*place, Failure("overloaded", "later"), 10),
                    ModelCallAbandoned(*place, "owner_lost"),
                ]
                self.events += [OwnerChanged(attempt + 1, "other"), self.draw(st.sampled_from(lost))]
            elif is_last and self.draw(st.booleans()):
                pass  # the run ends within the attempt
            else:
                calls = 0 if is_last else self.draw(st.integers(1, 3))
                self.answer(place, blocks, calls)

    def deltas(self, run: RunId, step: int, attempt: int) -> list[Said]:
        blocks: list[Said] = []
        for kind in self.draw(st.lists(st.sampled_from(["thinking", "text"]), max_size=3)):
            pieces = self.draw(st.lists(WORDS, min_size=1, max_size=3))
            made = TextDelta if kind == "text" else Thinking
            self.events += [made(run, step, attempt, piece) for piece in pieces]
            blocks.append({"type": kind, "text": "".join(pieces)})
        return blocks

    def answer(self, place: tuple[RunId, int, int], blocks: list[Said], count: int) -> None:
        calls = [call_id(SESSION, place[0], place[1], index) for index in range(count)]
        self.events += [ToolInputDelta(*place, call, "{") for call in calls]
        if self.draw(st.booleans()):
            blocks = [*blocks, {"type": "text", "text": "the rest"}]  # what had not become a delta yet
        uses: list[Said] = [{"type": "tool_use", "id": call, "name": "weather", "input": {}} for call in calls]
        message = Json(orjson.dumps({"role": "assistant", "content": blocks + uses}).decode())
        self.events.append(ModelCallCompleted(*place, message, Usage(3, 5, 1, 1), "end_turn", 12))
        for index, call in enumerate(calls):
            after = tuple(calls[:1]) if index and self.draw(st.booleans()) else ()
            asks = Json('{"city": "Oslo"}')
            self.events.append(ToolCall(*place, call, "weather", asks, "read", "default", after))
        for call in self.draw(st.permutations(calls)):
            self.call(place, call)

    def call(self, place: tuple[RunId, int, int], call: CallId) -> None:
        self.events.append(ToolStarted(*place, call, "worker-1"))
        for number in range(self.draw(st.integers(0, 2))):
            self.events.append(ToolProgress(*place, call, number / 2, 1.0 if number else None, "on it"))
        if self.draw(st.booleans()):
            self.interrupted = True
            question = f"q_{call[-6:]}"
            self.events.append(QuestionAsked(*place, question, Json('"Sure?"'), Json('{"type":"string"}'), call))
            self.events.append(QuestionAnswered(*place, question, Json('"yes"'), "user"))
        if self.draw(st.booleans()):
            self.events.append(ToolPending(*place, call, NOW))
        status = self.draw(st.sampled_from(["ok", "error"]))
        self.events.append(ToolResult(*place, call, status, Json('{"sky": "clear"}'), 7))


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Draw a session of one to three runs, perhaps cut off anywhere in the last."""
    log = Log(draw)
    for _ in range(draw(st.integers(1, 3))):
        log.run()
    if draw(st.booleans()):
        return log.events[: draw(st.integers(2, len(log.events)))]
    return log.events
