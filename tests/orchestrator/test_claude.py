"""`ClaudeModel`, through its stream, against a fake that speaks the provider's wire over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.events import Usage
from playhead_orchestrator.adapters.claude import ClaudeModel
from playhead_orchestrator.adapters.claude_wire import ClaudeStream, body_of
from playhead_orchestrator.adapters.sse_lines import EVENT_BYTES_MAX, SseLines, TooLong
from playhead_orchestrator.model import (
    Finished,
    ModelRequest,
    TextSaid,
    ThinkingSaid,
    ToolInputSaid,
    ToolOffer,
)

from tests.orchestrator.hearing import asking, failure, hear, read
from tests.support.providers import Asked, FakeProvider, Refusal, fake_provider
from tests.support.speech import (
    Cut,
    ErrorEvent,
    Hold,
    Ping,
    Raw,
    RedactedThink,
    Speech,
    Text,
    Think,
    Use,
    anthropic_wire,
)

REQUEST = asking("hello")
RICH = Speech(
    [
        Think(["Ich überlege", " … 🤔"], "c2ln"),
        RedactedThink("b3BhcXVl"),
        Ping(),
        Text(["Grüße", ", ", "🌍", " – done\n\n\u2028ok"]),
        Use("weather", ['{"ci', 'ty": "Zü', 'rich"}'], "toolu_1"),
        Use("now", [], "toolu_2"),
        Use("clock", ["{", '"at": [1, {"deep": null}]', "}"], "toolu_3"),
    ],
    stop_reason="tool_use",
    usage={"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2},
)


@asynccontextmanager
async def claude(fake: FakeProvider) -> AsyncGenerator[ClaudeModel, None]:
    model = ClaudeModel(api_key="test", base_url=fake.url)
    try:
        async with asyncio.timeout(5):
            yield model
    finally:
        await model.close()


async def test_a_message_is_heard_as_it_is_said_and_then_whole():
    async with fake_provider(RICH) as fake, claude(fake) as model:
        said, finished = await hear(model, REQUEST)
    assert said == [
        ThinkingSaid("Ich überlege"),
        ThinkingSaid(" … 🤔"),
        *(TextSaid(text) for text in ("Grüße", ", ", "🌍", " – done\n\n\u2028ok")),
        *(ToolInputSaid(0, piece) for piece in ('{"ci', 'ty": "Zü', 'rich"}')),
        *(ToolInputSaid(2, piece) for piece in ("{", '"at": [1, {"deep": null}]', "}")),
    ]
    assert finished == Finished(
        (
            {"type": "thinking", "text": "Ich überlege … 🤔", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "text": "Grüße, 🌍 – done\n\n\u2028ok"},
            {"type": "tool_use", "name": "weather", "input": {"city": "Zürich"}},
            {"type": "tool_use", "name": "now", "input": {}},
            {"type": "tool_use", "name": "clock", "input": {"at": [1, {"deep": None}]}},
        ),
        Usage(5, 7, 3, 2),
        "tool_use",
    )


async def test_the_message_agrees_with_what_the_sdk_makes_of_the_same_stream():
    async with fake_provider(RICH) as fake, claude(fake) as model:
        _, finished = await hear(model, REQUEST)
        sdk = AsyncAnthropic(api_key="test", base_url=fake.url)
        said = sdk.messages.stream(model="claude-fake", max_tokens=9, messages=[{"role": "user", "content": "x"}])
        async with sdk, said as stream:
            theirs = await stream.get_final_message()
    assert [as_the_sdk_has_it(block) for block in finished.content] == [
        {key: value for key, value in block.to_dict().items() if key not in ("id", "citations", "caller")}
        for block in theirs.content
    ]
    assert finished.stop_reason == theirs.stop_reason
    assert finished.usage == Usage(
        theirs.usage.input_tokens,
        theirs.usage.output_tokens,
        theirs.usage.cache_read_input_tokens or 0,
        theirs.usage.cache_creation_input_tokens or 0,
    )


def as_the_sdk_has_it(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": block["text"], "signature": block["signature"]}
    return block


BODY = b"".join(frame for frame in anthropic_wire(RICH, {}) if isinstance(frame, bytes))


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=60), crlf=st.booleans())
def test_wherever_the_bytes_are_cut_the_same_is_read(cuts: list[int], crlf: bool):
    body = BODY.replace(b"\n", b"\r\n") if crlf else BODY
    places = [0, *sorted(cuts), len(body)]
    assert read(ClaudeStream(), [body[a:b] for a, b in pairwise(places)]) == read(ClaudeStream(), [BODY])


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=30))
async def test_wherever_the_network_cuts_the_same_is_heard(cuts: list[int]):
    speech = Speech(RICH.steps, RICH.stop_reason, RICH.usage, cuts)
    async with fake_provider(speech) as fake, claude(fake) as model:
        assert await hear(model, REQUEST) == read(ClaudeStream(), [BODY])


async def test_what_a_chunk_brings_comes_in_one_batch():
    speech = Speech([Text(["a", "b", "c"])], cuts=[])
    async with fake_provider(speech) as fake, claude(fake) as model, aclosing(model.stream(REQUEST)) as stream:
        batches = [batch async for batch in stream]
    assert [list(map(type, batch)) for batch in batches] == [[TextSaid] * 3, [Finished]]


async def test_a_piece_is_heard_before_the_next_is_said():
    more = asyncio.Event()
    speech = Speech([Text(["first"]), Hold(more), Text(["second"])])
    async with fake_provider(speech) as fake, claude(fake) as model, aclosing(model.stream(REQUEST)) as stream:
        assert await anext(stream) == [TextSaid("first")]
        more.set()
        assert await anext(stream) == [TextSaid("second")]


async def test_closing_the_stream_ends_the_call():
    speech = Speech([Text(["first"]), Hold(asyncio.Event())])
    async with fake_provider(speech) as fake, claude(fake) as model:
        async with aclosing(model.stream(REQUEST)) as stream:
            await anext(stream)
        await fake.left.wait()


async def test_cancelling_the_reader_ends_the_call():
    arrived = asyncio.Event()

    def answer(_: Asked) -> Speech:
        arrived.set()
        return Speech([Hold(asyncio.Event())])

    async with fake_provider(answer) as fake, claude(fake) as model:
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(hear(model, REQUEST))
            await arrived.wait()
            hearing.cancel()
        await fake.left.wait()


async def test_calls_one_after_the_other_use_one_connection():
    async with fake_provider(RICH) as fake, claude(fake) as model:
        for _ in range(3):
            await hear(model, REQUEST)
        assert (len(fake.asked), fake.connections) == (3, 1)


async def test_parallel_calls_are_heard_apart():
    def answer(asked: Asked) -> Speech:
        return Speech([Text([asked.body["messages"][0]["content"][0]["text"], "!"])])

    async with fake_provider(answer) as fake, claude(fake) as model:
        heard = await asyncio.gather(*(hear(model, asking(str(number))) for number in range(20)))
    assert [finished.content[0]["text"] for _, finished in heard] == [f"{n}!" for n in range(20)]


async def test_the_sdk_is_imported_once_however_many_wait_for_it():
    async with fake_provider(RICH) as fake, claude(fake) as model:
        await asyncio.gather(model.warm_up(), model.warm_up(), hear(model, REQUEST))
        await hear(model, REQUEST)
        assert fake.connections == 1


@pytest.mark.parametrize(
    ("status", "headers", "code", "retryable", "wait"),
    [
        (429, {"retry-after": "7"}, "rate_limited", True, 7.0),
        (429, {"retry-after": "7", "retry-after-ms": "1500"}, "rate_limited", True, 1.5),
        (429, {}, "rate_limited", True, None),
        (408, {}, "timeout", True, None),
        (409, {}, "unavailable", True, None),
        (500, {}, "unavailable", True, None),
        (502, {"retry-after": "nonsense"}, "unavailable", True, None),
        (529, {"retry-after": "0.5"}, "overloaded", True, 0.5),
        (529, {"x-should-retry": "false"}, "overloaded", False, None),
        (400, {}, "invalid_request", False, None),
        (401, {}, "authentication", False, None),
        (403, {}, "authentication", False, None),
        (404, {}, "invalid_request", False, None),
        (413, {}, "invalid_request", False, None),
        (422, {"retry-after": "3"}, "invalid_request", False, None),
    ],
)
async def test_an_http_error_says_whether_trying_again_can_help(
    status: int, headers: dict[str, str], code: str, retryable: bool, wait: float | None
):
    body = {"type": "error", "error": {"type": "some_error", "message": "because of this"}}
    async with fake_provider(Refusal(status, body, headers)) as fake, claude(fake) as model:
        failed, said = await failure(model, REQUEST)
        assert len(fake.asked) == 1, "the adapter makes no retries of its own"
    assert (failed.code, failed.message, failed.retryable, failed.retry_after_seconds) == (
        code,
        "because of this",
        retryable,
        wait,
    )
    assert said == []


async def test_a_page_of_a_proxy_is_an_error_like_any():
    async with fake_provider(Refusal(503, "<html>try later</html>")) as fake, claude(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("overloaded", True)


@pytest.mark.parametrize(
    "end",
    [
        Cut(),
        Cut(politely=True),
        Raw(b"data: {not json}\n\n"),
        Raw(b"data: 7\n\n"),
        Raw(b'data: {"type": "content_block_delta", "index": 9, "delta": {"type": "text_delta", "text": "x"}}\n\n'),
    ],
)
async def test_a_broken_stream_can_be_tried_again_and_what_was_said_was_heard(end: Cut | Raw):
    async with fake_provider(Speech([Text(["half", "way"]), end])) as fake, claude(fake) as model:
        failed, said = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("stream_broken", True)
    assert said == [TextSaid("half"), TextSaid("way")]


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("overloaded_error", "overloaded", True),
        ("rate_limit_error", "rate_limited", True),
        ("api_error", "unavailable", True),
        ("never_heard_of", "unavailable", True),
        ("invalid_request_error", "invalid_request", False),
    ],
)
async def test_an_error_in_mid_stream_says_whether_trying_again_can_help(kind: str, code: str, retryable: bool):
    speech = Speech([Text(["half"]), ErrorEvent(kind, "so it is")])
    async with fake_provider(speech) as fake, claude(fake) as model:
        failed, said = await failure(model, REQUEST)
    assert (failed.code, failed.message, failed.retryable) == (code, "so it is", retryable)
    assert said == [TextSaid("half")]


async def test_a_refusal_by_the_model_is_final():
    async with fake_provider(Speech([Text(["I"])], stop_reason="refusal")) as fake, claude(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("refused", False)


async def test_a_provider_that_is_not_there_can_be_tried_again():
    async with fake_provider(RICH) as fake:
        pass
    async with claude(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("unavailable", True)


@pytest.mark.parametrize("folder", ["HOME", "ANTHROPIC_CONFIG_DIR"])
async def test_without_credentials_the_call_fails_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
):
    # An empty home has no credentials; a folder that is named and has none is an error of the SDK's own.
    for name in ("API_KEY", "AUTH_TOKEN", "PROFILE", "CONFIG_DIR", "IDENTITY_TOKEN", "IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv(folder, str(tmp_path))
    async with fake_provider(RICH) as fake:
        model = ClaudeModel(base_url=fake.url)
        failed, _ = await failure(model, REQUEST)
        await model.close()
        assert fake.asked == []
    assert (failed.code, failed.retryable) == ("authentication", False)
    assert "ANTHROPIC_API_KEY" in failed.message


async def test_what_a_newer_version_adds_is_skipped_or_passed_through():
    events: list[dict[str, Any]] = [
        {"type": "brand_new", "x": 1},
        {
            "type": "content_block_start",
            "index": 5,
            "content_block": {"type": "server_tool_use", "id": "s", "name": "search", "input": {}},
        },
        {"type": "content_block_delta", "index": 5, "delta": {"type": "input_json_delta", "partial_json": '{"q": 1}'}},
        {"type": "content_block_start", "index": 6, "content_block": {"type": "novel", "stuff": [1]}},
        {"type": "content_block_delta", "index": 6, "delta": {"type": "novel_delta", "more": 2}},
        {"type": "content_block_stop", "index": 6},
    ]
    frames = [Raw(f"data: {json.dumps(event)}\n\n".encode()) for event in events]
    speech = Speech([Use("mine", ["{}"]), Raw(b": a comment\n\n"), *frames, Text(["ok"])])
    async with fake_provider(speech) as fake, claude(fake) as model:
        said, finished = await hear(model, REQUEST)
    assert said == [ToolInputSaid(0, "{}"), TextSaid("ok")]
    assert finished.content == (
        {"type": "tool_use", "name": "mine", "input": {}},
        {"type": "server_tool_use", "id": "s", "name": "search", "input": {"q": 1}},
        {"type": "novel", "stuff": [1]},
        {"type": "text", "text": "ok"},
    )


@pytest.mark.parametrize("broken", ['{"city": "Zü', "[1, 2]", "nonsense"])
async def test_a_tool_input_that_is_no_object_is_kept_with_why(broken: str):
    async with fake_provider(Speech([Use("weather", [broken])])) as fake, claude(fake) as model:
        _, finished = await hear(model, REQUEST)
    assert finished.content[0]["input"] == broken
    assert finished.content[0]["invalid"]


def test_an_event_without_an_end_is_given_up():
    lines = SseLines()
    with pytest.raises(TooLong):
        for _ in range(EVENT_BYTES_MAX // (1 << 20) + 1):
            lines.feed(b"data: " + b"x" * (1 << 20) + b"\n")


async def test_the_request_is_the_providers_own_form():
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}
    request = ModelRequest(
        model="claude-fake",
        instructions="be brief",
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "text": "hm", "signature": "sig"},
                    {"type": "thinking", "text": "of another model"},
                    {"type": "redacted_thinking", "data": "zzz"},
                    {"type": "text", "text": "  "},
                    {"type": "tool_use", "id": "call_1", "name": "a", "input": {"x": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "a", "input": {}},
                    {"type": "tool_use", "id": "call_3", "name": "a", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": {"deg": 3},
                        "is_error": False,
                        "status": "ok",
                    },
                    {"type": "tool_result", "tool_use_id": "call_2", "content": [image], "is_error": False},
                    {"type": "tool_result", "tool_use_id": "call_3", "content": "gone", "is_error": True},
                ],
            },
        ],
        tools=[ToolOffer("a", "does a", {"type": "object"})],
        max_tokens=4000,
        thinking_tokens=9000,
    )
    async with fake_provider(RICH) as fake, claude(fake) as model:
        before = json.dumps(request.messages)
        await hear(model, request)
    assert json.dumps(request.messages) == before, "the caller's blocks are not touched"
    asked = fake.asked[0]
    assert (asked.path, asked.headers["authorization"], asked.body["stream"]) == ("/v1/messages", "Bearer test", True)
    cached = {"type": "ephemeral"}
    assert {name: value for name, value in asked.body.items() if name != "stream"} == {
        "model": "claude-fake",
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 3999},
        "system": [{"type": "text", "text": "be brief", "cache_control": cached}],
        "tools": [{"name": "a", "description": "does a", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "zzz"},
                    {"type": "tool_use", "id": "call_1", "name": "a", "input": {"x": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "a", "input": {}},
                    {"type": "tool_use", "id": "call_3", "name": "a", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": '{"deg":3}', "is_error": False},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": [image], "is_error": False},
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_3",
                        "content": "gone",
                        "is_error": True,
                        "cache_control": cached,
                    },
                ],
            },
        ],
    }


def test_without_instructions_the_tools_are_what_is_cached():
    tools = [ToolOffer("a", "", {}), ToolOffer("b", "", {})]
    body = body_of(ModelRequest("m", "", REQUEST.messages, tools))
    assert "system" not in body
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, {"type": "ephemeral"}]
