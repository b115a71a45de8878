"""What a model provider sends: any bytes, in any cuts, as one message of a session.

The door is the orchestrator's own: the stream is read, becomes inputs of the session, these become records of its log,
and from that log the next request to a model is made. Whatever a provider says, all of it works, or the attempt fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import orjson
from playhead.accept import Head, genesis
from playhead.codec import Codec, Context
from playhead.events import ModelCallStarted, RunStarted, UserMessage
from playhead.ids import SessionId
from playhead.session import Answered, Broke, CallModel, Session, Spoke, empty, fold
from playhead.telemetry import Telemetry
from playhead_orchestrator.adapters import claude_wire, openai_wire
from playhead_orchestrator.adapters.failures import retry_after
from playhead_orchestrator.adapters.reading import Wire, read_message
from playhead_orchestrator.catalogue import Offered
from playhead_orchestrator.dispatch import run_tool
from playhead_orchestrator.draft import Draft
from playhead_orchestrator.model import ModelRequest, Said, ToolOffer
from playhead_orchestrator.prompt import messages_of
from playhead_orchestrator.speaking import converse

from tests.fuzz.target import Run, Target
from tests.gateway.support import MESSAGE, NOW, OWNED, RUN, STARTED
from tests.orchestrator.test_claude import BODY as CLAUDE_BODY
from tests.orchestrator.test_openai import BODY as OPENAI_BODY

__all__ = ["TARGETS"]

SESSION = SessionId("ses_" + "m" * 26)
CODEC = Codec()
OFFERS = {
    "weather": Offered(ToolOffer("weather", "The sky.", {"type": "object"}), "read", "default", key="city"),
    "now": Offered(ToolOffer("now", "The time.", {"type": "object"}), "once", "default"),
}
CALL = CallModel(RUN, 1, 1)
ASKED = ModelRequest("m", "", [])


@dataclass
class Body:
    """An answer's body, as `httpx2.Response` gives it: here one piece after the other."""

    pieces: Sequence[bytes]

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        for piece in self.pieces:
            yield piece


@dataclass
class Speaking:
    """A model whose answer is on the table."""

    provider = "any"
    wire: Wire
    pieces: Sequence[bytes]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        async with aclosing(read_message(cast("Any", Body(self.pieces)), self.wire, "the provider")) as batches:
            async for said in batches:
                yield said

    async def close(self) -> None:
        pass


def asked() -> tuple[Session, Head]:
    """Give a session whose model is being called."""
    events = [
        STARTED,
        OWNED,
        UserMessage(RUN, MESSAGE, orjson.dumps("hello").decode()),  # pyright: ignore[reportArgumentType] - JSON it is
        RunStarted(RUN, MESSAGE),
        ModelCallStarted(RUN, 1, 1, "any", "m"),
    ]
    records = CODEC.seal(genesis(SESSION), events, Context(SESSION, 1, None, NOW))
    state = empty(SESSION)
    for record in records:
        state = fold(state, CODEC.event(record.value))
    return state, Head(records[-1].seq, records[-1].hash, len(records))


async def heard(wire: Wire, pieces: Sequence[bytes], meter: Telemetry) -> list[Spoke | Answered | Broke]:
    model = Speaking(wire, pieces)
    async with aclosing(converse(model, ASKED, (SESSION, CALL), OFFERS, meter)) as inputs:
        return [given async for given in inputs]


def goes_on(state: Session, head: Head, inputs: Sequence[Spoke | Answered | Broke]) -> Session:
    """Have the log take what was said, and the session go on from there."""
    assert [type(one) for one in inputs[:-1]] == [Spoke] * (len(inputs) - 1)
    assert isinstance(inputs[-1], Answered | Broke)
    draft = Draft(CODEC, state, head, NOW)
    for given in inputs:
        draft.add(given)
    again = state
    for batch in draft.batches:
        for record in batch:
            again = fold(again, CODEC.event(record.value))
    assert again == draft.state, "what is read from the log is not what was decided"
    messages = messages_of(again)
    orjson.dumps(claude_wire.body_of(ModelRequest("m", "", messages)))
    orjson.dumps(openai_wire.body_of(ModelRequest("m", "", messages), "max_tokens"))
    uses = [block for one in messages for block in one["content"] if block["type"] == "tool_use"]
    assert all(isinstance(use["input"], dict) for use in uses), "no provider takes such a conversation again"
    for call in again.open_calls:
        CODEC.command(CODEC.encode(run_tool(again, call, key=b"k" * 32, now=NOW, trace=None)))
    return again


def cut(data: bytes) -> list[bytes]:
    """Cut a body at places that it says itself."""
    size = 1 + sum(data[:64]) % 97
    return [data[at : at + size * (1 + at % 7)] for at in _places(len(data), size)]


def _places(length: int, size: int) -> Generator[int, None, None]:
    at = 0
    while at < length:
        yield at
        at += size * (1 + at % 7)


def said(inputs: Sequence[Spoke | Answered | Broke]) -> tuple[str, object]:
    """Give what was said, whatever the cuts: all pieces, and the end."""
    pieces = [repr((type(piece).__name__, piece)) for one in inputs if isinstance(one, Spoke) for piece in one.pieces]
    last = inputs[-1]
    return "".join(pieces), (last.message, last.calls, last.usage) if isinstance(last, Answered) else type(last)


@contextmanager
def stream_of(wire: Callable[[], Wire]) -> Generator[Run, None, None]:
    state, head = asked()
    meter = Telemetry()
    with asyncio.Runner() as loop:

        def run(data: bytes) -> None:
            whole = loop.run(heard(wire(), [data], meter))
            assert goes_on(state, head, whole).id == SESSION
            if len(data) < 16_384:
                pieces = loop.run(heard(wire(), cut(data), meter))
                assert said(pieces) == said(whole), "what is heard depends on the cuts"

        yield run


def claude_seeds() -> list[bytes]:
    events: list[object] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "server_tool_use", "id": "s", "name": "web"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q": 1}'}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "web_search_tool_result", "content": [{}]},
        },
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": "", "citations": None}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "It is."}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "citations_delta", "citation": {"url": "x"}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    refused = {"stop_reason": "refusal", "stop_details": {"explanation": "no"}}
    failed = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    return [
        CLAUDE_BODY,
        CLAUDE_BODY.replace(b"\n", b"\r\n"),
        _sse(events),
        _sse([*events[:7], {"type": "message_delta", "delta": refused}, events[8]]),
        _sse([*events[:6], failed]),
    ]


def openai_seeds() -> list[bytes]:
    call = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    chunks: list[object] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "reasoning": "Hm"}}]},
        {"choices": [{"index": 0, "delta": {"content": "Yes"}}, {"index": 1, "delta": {"content": "No"}}]},
        {
            "choices": [
                {"index": 0, "delta": {"tool_calls": [call, {**call, "id": "b"}]}, "finish_reason": "tool_calls"}
            ]
        },
        {
            "choices": [],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
        },
    ]
    refusal = {"choices": [{"delta": {"refusal": "I will not"}, "finish_reason": "stop"}]}
    error = {"error": {"type": "server_error", "code": "rate_limit", "message": "slowly"}}
    return [
        OPENAI_BODY,
        OPENAI_BODY.replace(b"\n", b"\r\n"),
        _sse(chunks) + b"data: [DONE]\n\n",
        _sse([*chunks[:2], refusal]),
        _sse([chunks[0], error]),
    ]


def _sse(events: Sequence[object]) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)


@contextmanager
def refusals() -> Generator[Run, None, None]:
    """The headers of an answer that is none: a wait is a number of seconds, or there is none."""

    def run(data: bytes) -> None:
        text = data.decode("latin-1")
        for name in ("retry-after", "retry-after-ms"):
            wait = retry_after({name: text}, NOW / 1_000_000)
            assert wait is None or 0 <= wait < float("inf")

    yield run


TARGETS = (
    Target("anthropic-stream", partial(stream_of, claude_wire.ClaudeStream), claude_seeds, 500),
    Target("openai-stream", partial(stream_of, openai_wire.ChatStream), openai_seeds, 500),
    Target(
        "provider-headers",
        refusals,
        lambda: [b"3", b"0.5", b"Wed, 21 Oct 2026 07:28:00 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"nan", b"1e400"],
        5000,
    ),
)
