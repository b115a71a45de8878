"""What is in a log as others see it: what users, models and tools said, told by every protocol of the gateway.

Nobody who reads has a part in what was written, so nothing that could be written may break the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, cast

import orjson
from playhead.canonical import check_json
from playhead.errors import PlayheadError, Undecodable
from playhead.events import (
    Event,
    FinalResponse,
    Json,
    ModelCallCompleted,
    ModelCallStarted,
    QuestionAsked,
    RunCompleted,
    RunStarted,
    SessionClosed,
    SessionStarted,
    ToolCall,
    ToolResult,
    ToolResultChunk,
    Usage,
    UserMessage,
)
from playhead.ids import MessageId, SessionId, call_id, message_id, run_id
from playhead_gateway.bodies import SayBody
from playhead_gateway.projections.response_name import ResponseName
from pydantic import ValidationError

from tests.fuzz.asked import FAULT, STATUS, request
from tests.fuzz.target import Run, Target
from tests.fuzz.wire import LIMITS, Serving, Site, a_site, serving
from tests.gateway.support import OWNED

__all__ = ["TARGETS"]

SSE = "Accept: text/event-stream"
SHOWN = (200, 204)
LAST = 4
"""How many events are left out so that a run goes on: its tool's result and all after it."""


def log_of(session: SessionId, said: list[Any]) -> list[Event] | None:
    """Give a log in which these things were said, if each could have been. None if one could not."""
    content, answer, output, schema, given = said
    try:
        SayBody.model_validate({"content": content})
        texts = [Json(orjson.dumps(one).decode()) for one in (content, answer, output, schema, given)]
        for text in texts:
            check_json(text)
    except (ValidationError, Undecodable, TypeError):
        return None
    if not isinstance(answer, list) or not all(isinstance(one, dict) for one in cast("list[object]", answer)):
        return None
    blocks = cast("list[dict[str, object]]", answer)
    if not all("type" in one and (one["type"] != "tool_use" or isinstance(one.get("input"), dict)) for one in blocks):
        return None
    message = message_id(session, "first")
    run = run_id(session, message)
    call = call_id(session, run, 1, 0)
    at = (run, 1, 1)
    text = "".join(str(one.get("text", "")) for one in blocks if one["type"] == "text")
    return [
        SessionStarted("support", "1", "scripted:plain", Json("{}")),
        OWNED,
        UserMessage(run, message, texts[0]),
        RunStarted(run, message),
        ModelCallStarted(*at, "scripted:plain", "scripted"),
        ModelCallCompleted(*at, Json('{"role":"assistant","content":' + texts[1] + "}"), Usage(3, 5), "tool_use", 12),
        ToolCall(*at, call, "weather", texts[4] if isinstance(given, dict) else Json("{}"), "read", "default"),
        ToolResultChunk(*at, call, texts[2]),
        QuestionAsked(*at, "q_1", texts[2], texts[3], call),
        ToolResult(*at, call, "ok", texts[2], 7),
        FinalResponse(run, text[:1000], MessageId("msg_" + "a" * 26)),
        RunCompleted(run, Usage(3, 5)),
        SessionClosed("requested"),
    ]


def readings(session: SessionId) -> list[bytes]:
    """Ask for a session in every way."""
    path = f"/v1/sessions/{session}"
    response = ResponseName(session, run_id(session, message_id(session, "first")))
    return [
        request("GET", path),
        request("GET", f"{path}/events?limit=100"),
        request("GET", f"{path}/events?limit=100&deltas=final"),
        request("GET", f"{path}/events", b"", SSE),
        request("GET", f"/v1/stream/{session}?offset=-1"),
        request("GET", f"/v1/stream/{session}?offset=-1&live=sse"),
        request("GET", f"/v1/tasks/{session}"),
        request("GET", f"/v1/events?sessions={session}", b"", SSE),
        request("GET", f"/v1/responses/{response}"),
        request("GET", f"/v1/responses/{response}?stream=true", b"", SSE),
        request("GET", f"/v1/responses/{response}_function"),
        request("GET", f"/agui/{session}/events", b"", SSE),
        request("GET", f"/ui/chat/{session}/stream", b"", SSE),
    ]


@contextmanager
def views() -> Generator[Run, None, None]:
    """Show whatever was said by every protocol: no answer is a fault, and none ends in the middle of one."""
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()

        async def opened() -> tuple[Site, Serving]:
            site = await a_site()
            return site, await stack.enter_async_context(serving(site.world.parts(**LIMITS)))

        site, gateway = loop.run(opened())

        async def one(said: list[Any]) -> None:
            for left_out, few in ((0, 0), (LAST, -2)):  # a session that is closed; one whose run goes on, its streams
                session = await site.world.log.create()
                events = log_of(session, said)
                if events is None:
                    return
                try:
                    await site.world.write(session, *events[: len(events) - left_out])
                except PlayheadError:
                    return  # more than a record holds
                for asked in readings(session)[few:]:
                    answered = await gateway.talk([asked])
                    fault = FAULT.search(answered)
                    assert fault is None or fault[0] in orjson.dumps(said), (asked, answered[:500])
                    status = STATUS.match(answered)
                    assert status is not None, asked
                    assert int(status[1]) in SHOWN, (asked, answered[:500])
                await site.world.log.delete(session)

        def run(data: bytes) -> None:
            try:
                said = orjson.loads(data)
            except orjson.JSONDecodeError:
                return
            if isinstance(said, list) and len(cast("list[object]", said)) == 5:
                loop.run(one(cast("list[Any]", said)))

        yield run
        loop.run(stack.aclose())


def seeds() -> list[bytes]:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    document = {
        "type": "document",
        "source": {"type": "archive", "media_type": "application/pdf", "name": "0" * 64, "bytes": 3},
    }
    link = {"type": "image", "source": {"type": "url", "url": "https://e.example/a.png"}}
    answer: list[object] = [
        {"type": "thinking", "text": "Hm", "signature": "x"},
        {"type": "text", "text": "Look", "citations": [{"url": "x"}]},
        {"type": "tool_use", "id": "call_x", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "server_tool_use", "id": "s", "name": "web", "input": {}},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}}
    reference = {"type": "reference", "name": "0" * 64, "bytes": 9, "media_type": "application/json", "preview": "[1"}
    return [
        orjson.dumps(["hello", answer, {"sky": "clear"}, schema, {"city": "Oslo"}]),
        orjson.dumps(
            [[{"type": "text", "text": "see"}, image, document, link], answer[1:2], [image, document], schema, {}]
        ),
        orjson.dumps([[{"type": "input_audio", "x": [1]}], [], reference, {"type": "boolean"}, {"a": [None]}]),
        orjson.dumps([[{"type": "tool_result", "tool_use_id": "x", "content": []}], answer, "text", True, {"q": 1}]),
    ]


TARGETS = (Target("views-of-a-log", views, seeds, 60, 32 * 1024),)
