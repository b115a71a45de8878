"""`OpenAIModel`, through its stream, against a fake that speaks chat completions over real HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from playhead.events import Usage
from playhead_orchestrator.adapters.openai import OpenAIModel
from playhead_orchestrator.adapters.openai_wire import ChatStream, body_of
from playhead_orchestrator.model import Finished, ModelRequest, TextSaid, ThinkingSaid, ToolInputSaid, ToolOffer

from tests.orchestrator.hearing import asking, failure, hear, read
from tests.support.providers import FakeProvider, Refusal, fake_provider
from tests.support.speech import Cut, ErrorEvent, Hold, Ping, Raw, Speech, Text, Think, Use, openai_wire

REQUEST = asking("hello")
RICH = Speech(
    [
        Think(["Ich überlege", " … 🤔"]),
        Ping(),
        Text(["Grüße", ", ", "🌍", " – done\n\n\u2028ok"]),
        Use("weather", ['{"ci', 'ty": "Zü', 'rich"}'], "id_1"),
        Use("now", [], "id_2"),
        Use("clock", ["{", '"at": [1]', "}"], "id_3"),
    ],
    stop_reason="tool_use",
)


@asynccontextmanager
async def openai(fake: FakeProvider) -> AsyncGenerator[OpenAIModel, None]:
    model = OpenAIModel(api_key="test", base_url=f"{fake.url}/v1")
    try:
        async with asyncio.timeout(5):
            yield model
    finally:
        await model.close()


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Raw:
    data = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return Raw(f"data: {json.dumps(data)}\n\n".encode())


async def test_a_message_is_heard_as_it_is_said_and_then_whole():
    async with fake_provider(RICH) as fake, openai(fake) as model:
        said, finished = await hear(model, REQUEST)
    assert said == [
        ThinkingSaid("Ich überlege"),
        ThinkingSaid(" … 🤔"),
        *(TextSaid(text) for text in ("Grüße", ", ", "🌍", " – done\n\n\u2028ok")),
        *(ToolInputSaid(0, piece) for piece in ('{"ci', 'ty": "Zü', 'rich"}')),
        *(ToolInputSaid(2, piece) for piece in ("{", '"at": [1]', "}")),
    ]
    assert finished == Finished(
        (
            {"type": "thinking", "text": "Ich überlege … 🤔"},
            {"type": "text", "text": "Grüße, 🌍 – done\n\n\u2028ok"},
            {"type": "tool_use", "name": "weather", "input": {"city": "Zürich"}},
            {"type": "tool_use", "name": "now", "input": {}},
            {"type": "tool_use", "name": "clock", "input": {"at": [1]}},
        ),
        Usage(11, 22),
        "tool_use",
    )


async def test_the_message_agrees_with_what_the_sdk_makes_of_the_same_stream():
    async with fake_provider(RICH) as fake, openai(fake) as model:
        _, finished = await hear(model, REQUEST)
        sdk = AsyncOpenAI(api_key="test", base_url=f"{fake.url}/v1")
        said = sdk.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}])
        async with sdk, said as stream:
            theirs = (await stream.get_final_completion()).choices[0]
    blocks = {block["type"]: block for block in finished.content}
    assert theirs.message.content == blocks["text"]["text"]
    assert [
        {"type": "tool_use", "name": call.function.name, "input": json.loads(call.function.arguments or "{}")}
        for call in theirs.message.tool_calls or ()
    ] == [block for block in finished.content if block["type"] == "tool_use"]
    assert theirs.finish_reason == "tool_calls"


BODY = b"".join(
    frame for frame in openai_wire(RICH, {"stream_options": {"include_usage": True}}) if isinstance(frame, bytes)
)


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=60), crlf=st.booleans())
def test_wherever_the_bytes_are_cut_the_same_is_read(cuts: list[int], crlf: bool):
    body = BODY.replace(b"\n", b"\r\n") if crlf else BODY
    places = [0, *sorted(cuts), len(body)]
    assert read(ChatStream(), [body[a:b] for a, b in pairwise(places)]) == read(ChatStream(), [BODY])


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=30))
async def test_wherever_the_network_cuts_the_same_is_heard(cuts: list[int]):
    async with fake_provider(Speech(RICH.steps, RICH.stop_reason, cuts=cuts)) as fake, openai(fake) as model:
        assert await hear(model, REQUEST) == read(ChatStream(), [BODY])


async def test_closing_the_stream_ends_the_call():
    speech = Speech([Text(["first"]), Hold(asyncio.Event())])
    async with fake_provider(speech) as fake, openai(fake) as model:
        async with aclosing(model.stream(REQUEST)) as stream:
            await anext(stream)
        await fake.left.wait()


async def test_calls_one_after_the_other_use_one_connection():
    async with fake_provider(RICH) as fake, openai(fake) as model:
        for _ in range(3):
            await hear(model, REQUEST)
        assert (len(fake.asked), fake.connections) == (3, 1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("end_turn", "end_turn"), ("max_tokens", "max_tokens"), ("tool_use", "tool_use"), ("strange", "strange")],
)
async def test_why_it_stopped_is_said_in_our_words(theirs: str, ours: str):
    async with fake_provider(Speech([Text(["x"])], stop_reason=theirs)) as fake, openai(fake) as model:
        _, finished = await hear(model, REQUEST)
    assert finished.stop_reason == ours


async def test_a_server_without_usage_done_index_or_the_right_reason_is_understood():
    calls = [
        chunk({"tool_calls": [{"id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "two", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "b", "function": {"arguments": '{"y": 2}'}}]}),
        chunk({"reasoning": "so", "content": None}),
        chunk({}, "stop"),
        Cut(politely=True),
    ]
    async with fake_provider(Speech(calls)) as fake, openai(fake) as model:
        said, finished = await hear(model, REQUEST)
    assert said == [ToolInputSaid(0, '{"x": 1}'), ToolInputSaid(1, '{"y": 2}'), ThinkingSaid("so")]
    assert finished == Finished(
        (
            {"type": "tool_use", "name": "one", "input": {"x": 1}},
            {"type": "tool_use", "name": "two", "input": {"y": 2}},
            {"type": "thinking", "text": "so"},
        ),
        Usage(),
        "tool_use",
    )


def test_cached_tokens_are_counted_once():
    data: dict[str, Any] = {
        "choices": list[object](),
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}},
    }
    body = [f"data: {json.dumps(data)}\n\n".encode(), chunk({}, "stop").data]
    assert read(ChatStream(), body)[1].usage == Usage(2, 5, 8)


async def test_a_refusal_is_final():
    async with fake_provider(Speech([Text(["I"])], stop_reason="refusal")) as fake, openai(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("refused", False)


async def test_a_refusal_in_words_is_final_and_says_them():
    speech = Speech([chunk({"refusal": "I will "}), chunk({"refusal": "not."})])
    async with fake_provider(speech) as fake, openai(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.message, failed.retryable) == ("refused", "I will not.", False)


@pytest.mark.parametrize(
    ("status", "error_code", "headers", "expected"),
    [
        (429, "rate_limit_exceeded", {"retry-after": "7"}, ("rate_limited", True, 7.0)),
        (429, "insufficient_quota", {"retry-after": "7"}, ("rate_limited", False, None)),
        (500, "server_error", {}, ("unavailable", True, None)),
        (503, "slow_down", {"retry-after-ms": "250"}, ("overloaded", True, 0.25)),
        (400, "bad", {}, ("invalid_request", False, None)),
        (401, "invalid_api_key", {}, ("authentication", False, None)),
        (404, "model_not_found", {}, ("invalid_request", False, None)),
    ],
)
async def test_an_http_error_says_whether_trying_again_can_help(
    status: int, error_code: str, headers: dict[str, str], expected: tuple[str, bool, float | None]
):
    body = {"error": {"message": "because of this", "type": "t", "param": None, "code": error_code}}
    async with fake_provider(Refusal(status, body, headers)) as fake, openai(fake) as model:
        failed, _ = await failure(model, REQUEST)
        assert len(fake.asked) == 1, "the adapter makes no retries of its own"
    assert failed.message == "because of this"
    assert (failed.code, failed.retryable, failed.retry_after_seconds) == expected


@pytest.mark.parametrize("end", [Cut(), Cut(politely=True), Raw(b"data: {not json}\n\n"), Raw(b"data: [1]\n\n")])
async def test_a_broken_stream_can_be_tried_again_and_what_was_said_was_heard(end: Cut | Raw):
    async with fake_provider(Speech([Text(["half", "way"]), end])) as fake, openai(fake) as model:
        failed, said = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("stream_broken", True)
    assert said == [TextSaid("half"), TextSaid("way")]


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("server_error", "unavailable", True),
        ("rate_limit_exceeded", "rate_limited", True),
        ("insufficient_quota", "invalid_request", False),
        ("invalid_request_error", "invalid_request", False),
    ],
)
async def test_an_error_in_mid_stream_says_whether_trying_again_can_help(kind: str, code: str, retryable: bool):
    speech = Speech([Text(["half"]), ErrorEvent(kind, "so it is")])
    async with fake_provider(speech) as fake, openai(fake) as model:
        failed, said = await failure(model, REQUEST)
    assert (failed.code, failed.message, failed.retryable) == (code, "so it is", retryable)
    assert said == [TextSaid("half")]


async def test_a_provider_that_is_not_there_can_be_tried_again():
    async with fake_provider(RICH) as fake:
        pass
    async with openai(fake) as model:
        failed, _ = await failure(model, REQUEST)
    assert (failed.code, failed.retryable) == ("unavailable", True)


async def test_without_a_key_warming_up_is_quiet_and_the_call_fails_with_advice(monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    model = OpenAIModel(base_url="http://127.0.0.1:9/v1")
    await model.warm_up()
    failed, _ = await failure(model, REQUEST)
    await model.close()
    assert (failed.code, failed.retryable) == ("authentication", False)
    assert "OPENAI_API_KEY" in failed.message


def test_without_the_sdk_the_call_fails_with_how_to_install_it():
    # In a process of its own, in which the import fails as it does where the extra is not installed.
    script = """
import asyncio, sys
sys.modules["openai"] = None
from playhead_orchestrator.adapters.openai import OpenAIModel
from playhead_orchestrator.model import ModelFailed, ModelRequest

async def main():
    model = OpenAIModel()
    await model.warm_up()
    try:
        await anext(model.stream(ModelRequest("m", "", [])))
    except ModelFailed as failed:
        print(failed.code, failed.retryable, failed.message)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("misconfigured False")
    assert "pip install 'playhead[openai]'" in done.stdout


async def test_the_request_is_the_providers_own_form():
    source = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    request = ModelRequest(
        model="gpt-fake",
        instructions="be brief",
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "source": source}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "text": "hm"},
                    {"type": "text", "text": "ah"},
                    {"type": "tool_use", "id": "call_1", "name": "a", "input": {"x": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "a", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": {"deg": 3}, "is_error": False},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "gone", "is_error": True},
                    {"type": "text", "text": "and"},
                    {"type": "text", "text": "now?"},
                ],
            },
        ],
        tools=[ToolOffer("a", "does a", {"type": "object"})],
        max_tokens=4000,
    )
    async with fake_provider(RICH) as fake, openai(fake) as model:
        await hear(model, request)
    asked = fake.asked[0]
    assert (asked.path, asked.headers["authorization"]) == ("/v1/chat/completions", "Bearer test")

    def call(identity: str, arguments: str) -> dict[str, Any]:
        return {"id": identity, "type": "function", "function": {"name": "a", "arguments": arguments}}

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    function = {"name": "a", "description": "does a", "parameters": {"type": "object"}}
    assert asked.body == {
        "model": "gpt-fake",
        "max_tokens": 4000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": "ah", "tool_calls": [call("call_1", '{"x":1}'), call("call_2", "{}")]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"deg":3}'},
            {"role": "tool", "tool_call_id": "call_2", "content": "The tool failed: gone"},
            {"role": "user", "content": "and\n\nnow?"},
        ],
    }


def test_the_limit_has_the_name_that_the_server_knows():
    assert body_of(REQUEST, "max_completion_tokens")["max_completion_tokens"] == 8192
