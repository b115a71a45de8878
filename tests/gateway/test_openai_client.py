"""The Responses API in a real server, with the stock `openai` client: made, streamed, cut, resumed, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import openai
import orjson
import pytest
from openai.types.responses import Response
from playhead.commands import AnnounceAgent, CancelRun, Request, Say, StartSession
from playhead.events import (
    Event,
    FinalResponse,
    Json,
    ModelCallCompleted,
    ModelCallStarted,
    OwnerChanged,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunStarted,
    SessionStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from playhead.ids import MessageId, RunId, SessionId, call_id
from playhead_cli.child import start_dev
from playhead_gateway.projections.response_name import ResponseName, parse_response_name

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.support import CLOSED, CODEC, OWNED, STARTED, Served, Watching, World, serving

SOON = 5.0
ANSWER = ("Hel", "lo, ", "wörld \u2028", "😀")
WHOLE = "".join(ANSWER)
DEV_SECONDS_MAX = 30

Script = Callable[[Say], Sequence[Event]]


def spoken(run: RunId, *texts: str) -> list[Event]:
    return [ModelCallStarted(run, 1, 1, "scripted:plain", "scripted"), *(TextDelta(run, 1, 1, text) for text in texts)]


def ended(run: RunId, text: str) -> list[Event]:
    message = Json(orjson.dumps({"role": "assistant", "content": [{"type": "text", "text": text}]}).decode())
    return [
        ModelCallCompleted(run, 1, 1, message, Usage(3, 5), "end_turn", 12),
        FinalResponse(run, text, MessageId("msg_" + "a" * 26)),
        RunCompleted(run, Usage(3, 5)),
    ]


def answers(say: Say) -> Sequence[Event]:
    return [*spoken(say.run_id, *ANSWER), *ended(say.run_id, WHOLE)]


def begins(say: Say) -> Sequence[Event]:
    return spoken(say.run_id, *ANSWER[:2])


@dataclass
class Orchestrator:
    """Writes to sessions what a script has, as soon as they are told something."""

    world: World
    script: Script = answers
    said: list[Say] = field(default_factory=list[Say])

    async def work(self) -> None:
        requests = self.world.queue.replay(self.world.topics.requests.name, follow=True)
        async with aclosing(requests) as batches:
            async for batch in batches:
                for message in batch:
                    await self._take(cast("Request", CODEC.command(message.value)))

    async def _take(self, request: Request) -> None:
        match request:
            case StartSession(session=session, message=say):
                if (await self.world.log.end(session)).seq:
                    return  # a session begins once: this request was there before
                started = SessionStarted(request.agent or "support", "1", "scripted:plain", request.metadata)
                await self.world.write(session, started, OwnerChanged(1, "one"))
                if say is not None:
                    await self._answer(say)
            case Say():
                await self._answer(request)
            case CancelRun(session=session, run_id=run, reason=reason):
                assert run is not None
                await self.world.write(session, RunCancelled(run, reason))
            case _:
                pass  # the test itself writes what comes of it

    async def _answer(self, say: Say) -> None:
        self.said.append(say)
        begun = [UserMessage(say.run_id, say.message_id, say.content), RunStarted(say.run_id, say.message_id)]
        await self.world.write(say.session, *begun, *self.script(say))


@dataclass
class Talking:
    world: World
    orchestrator: Orchestrator
    client: openai.AsyncOpenAI
    served: Served


@asynccontextmanager
async def client_at(url: str, key: str = "unused") -> AsyncGenerator[openai.AsyncOpenAI, None]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=SOON) as client:
        yield client


@pytest.fixture
async def talking(world: World) -> AsyncGenerator[Talking, None]:
    for name in ("other", "support"):
        agent = AnnounceAgent(name, "1", "scripted:plain", "", (), name == "support", 1_700_000_000_000_000)
        await world.announce(world.topics.catalog.name, f"agent/{name}", agent)
    orchestrator = Orchestrator(world)
    limits = {"heartbeat_seconds": 0.05, "settle_seconds": 1.0, "response_seconds_max": 1.0}
    async with (
        serving(world.parts(**limits)) as served,
        client_at(f"http://{served.address}") as client,
        asyncio.TaskGroup() as group,
    ):
        working = group.create_task(orchestrator.work())
        yield Talking(world, orchestrator, client, served)
        working.cancel()


def place_of(response: Response) -> ResponseName:
    name = parse_response_name(response.id)
    assert name is not None
    return name


async def rest_of(stream: Any) -> list[Any]:  # Any, here and below: a union of some fifty types
    async with asyncio.timeout(SOON):
        return [event async for event in stream]


async def test_a_response_is_made_and_answered_whole(talking: Talking):
    response = await talking.client.responses.create(model="support", input="hello", metadata={"team": "blue"})
    assert response.status == "completed"
    assert response.output_text == WHOLE
    assert response.model == "support"
    assert response.metadata == {"team": "blue"}
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (3, 5, 8)
    name = place_of(response)
    assert response.conversation is not None
    assert response.conversation.id == name.session
    assert talking.orchestrator.said[0].run_id == name.run
    assert await talking.client.responses.retrieve(response.id) == response


async def test_a_response_is_streamed_and_the_helper_of_the_client_puts_it_together(talking: Talking):
    stream = await talking.client.responses.create(model="support", input="hello", stream=True)
    events = await rest_of(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == WHOLE
    assert events[-1].type == "response.completed"
    async with talking.client.responses.stream(model="support", input="hello") as helped:
        assert (await helped.get_final_response()).output_text == WHOLE


async def test_a_response_in_the_background_is_followed_across_a_cut(talking: Talking):
    """protocol:P95 The connection breaks in the middle; the run does not notice, and another gateway has the rest."""
    talking.orchestrator.script = begins
    stream = await talking.client.responses.create(model="support", input="hello", background=True, stream=True)
    first: list[Any] = []
    async with asyncio.timeout(SOON):
        async for event in stream:
            first.append(event)
            if event.type == "response.output_text.delta" and event.delta == ANSWER[1]:
                break
    await stream.close()
    response: Response = first[0].response
    name = place_of(response)
    assert (await talking.client.responses.retrieve(response.id)).status == "in_progress"
    last = first[-1].sequence_number
    async with serving(talking.world.parts()) as other, client_at(f"http://{other.address}") as client:
        resumed = await client.responses.retrieve(response.id, stream=True, starting_after=last)
        more = [TextDelta(name.run, 1, 1, text) for text in ANSWER[2:]]
        await talking.world.write(name.session, *more, *ended(name.run, WHOLE))
        rest = await rest_of(resumed)
        whole = await rest_of(await client.responses.retrieve(response.id, stream=True))
        assert [*first, *rest] == whole
        async with client.responses.stream(response_id=response.id, starting_after=last) as helped:
            assert [event.sequence_number async for event in helped] == [event.sequence_number for event in rest]
        assert (await client.responses.retrieve(response.id)).output_text == WHOLE


async def test_a_long_silence_is_filled_with_what_the_client_passes_over(talking: Talking):
    talking.orchestrator.script = begins
    stream = await talking.client.responses.create(model="support", input="hello", stream=True)
    events = aiter(stream)
    async with asyncio.timeout(SOON):
        async for event in events:
            if event.type == "response.output_text.delta" and event.delta == ANSWER[1]:
                break
    say = talking.orchestrator.said[0]
    path = f"/v1/responses/{ResponseName(say.session, say.run_id)}"
    async with talking.served.client.stream("GET", path, params={"stream": "true"}) as response:
        raw = Watching(response)
        await raw.until(b": hb\n\n: hb\n\n: hb\n\n")
    assert not any(field in raw.raw for field in (b"\nid:", b"retry:", b"\r"))
    await talking.world.write(say.session, *ended(say.run_id, "".join(ANSWER[:2])))
    assert (await rest_of(events))[-1].type == "response.completed"


async def test_a_response_is_polled_until_it_is_over(talking: Talking):
    talking.orchestrator.script = begins
    response = await talking.client.responses.create(model="support", input="hello", background=True)
    assert response.status == "in_progress"  # answered as soon as the log has it
    name = place_of(response)
    polled = await talking.client.responses.retrieve(response.id)
    assert polled.status == "in_progress"
    assert polled.created_at == response.created_at
    await talking.world.write(name.session, *ended(name.run, WHOLE))
    done = await talking.client.responses.retrieve(response.id)
    assert (done.status, done.output_text) == ("completed", WHOLE)


async def test_a_response_is_cancelled(talking: Talking):
    talking.orchestrator.script = begins
    response = await talking.client.responses.create(model="support", input="hello", background=True)
    cancelled = await talking.client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    again = await talking.client.responses.cancel(response.id)
    assert again == cancelled
    requests = await talking.world.published()
    assert len([request for request in requests if isinstance(request, CancelRun)]) == 1


async def test_one_response_follows_another_in_the_same_session(talking: Talking):
    first = await talking.client.responses.create(model="support", input="hello")
    second = await talking.client.responses.create(input="and?", previous_response_id=first.id)
    third = await talking.client.responses.create(model="support", input="and?", conversation=place_of(first).session)
    assert {place_of(one).session for one in (first, second, third)} == {place_of(first).session}
    assert len({place_of(one).run for one in (first, second, third)}) == 3
    assert [one.status for one in (second, third)] == ["completed"] * 2
    assert second.metadata == first.metadata
    with pytest.raises(openai.BadRequestError, match="does not branch"):
        await talking.client.responses.create(input="but?", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError, match="stays with it"):
        await talking.client.responses.create(model="other", input="but?", previous_response_id=third.id)


async def test_a_conversation_with_a_name_of_the_clients_is_one_session_and_loses_no_message(talking: Talking):
    asking = talking.client.responses.create
    both = await asyncio.gather(*(asking(model="support", input=text, conversation="conv_1") for text in ("a", "b")))
    later = await asking(model="support", input="c", conversation={"id": "conv_1"})
    assert len({place_of(one).session for one in (*both, later)}) == 1
    assert [one.status for one in (*both, later)] == ["completed"] * 3
    assert sorted(orjson.loads(say.content) for say in talking.orchestrator.said) == ["a", "b", "c"]
    other = await asking(model="support", input="c", conversation="conv_2")
    assert place_of(other).session != place_of(later).session


async def test_two_gateways_that_begin_a_conversation_at_once_lose_no_message(world: World):
    responses: list[Response] = []
    async with (
        serving(world.parts(settle_seconds=0.1)) as one,
        serving(world.parts(settle_seconds=0.1)) as two,
        client_at(f"http://{one.address}") as first,
        client_at(f"http://{two.address}") as second,
    ):
        for number, client in enumerate((first, second)):
            response = await client.responses.create(
                input=str(number), conversation="conv_1", metadata={"team": "blue"}, background=True
            )
            responses.append(response)
        assert [response.status for response in responses] == ["queued"] * 2  # nobody has begun it yet
        orchestrator = Orchestrator(world)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(orchestrator.work())
            for response in responses:
                stream = await first.responses.retrieve(response.id, stream=True)
                assert (await rest_of(stream))[-1].response.metadata == {"team": "blue"}
            working.cancel()
    assert sorted(orjson.loads(say.content) for say in orchestrator.said) == ["0", "1"]


async def test_a_request_with_a_key_is_answered_once(talking: Talking):
    keyed = {"Idempotency-Key": "one"}
    first = await talking.client.responses.create(model="support", input="hello", extra_headers=keyed)
    again = await talking.client.responses.create(model="support", input="hello", extra_headers=keyed)
    assert again == first
    after = {"Idempotency-Key": "two"}
    second = await talking.client.responses.create(input="and?", previous_response_id=first.id, extra_headers=after)
    again = await talking.client.responses.create(input="and?", previous_response_id=first.id, extra_headers=after)
    assert again == second
    assert len(talking.orchestrator.said) == 2
    with pytest.raises(openai.BadRequestError, match="was used with another request"):
        await talking.client.responses.create(model="support", input="other", extra_headers=keyed)


async def test_an_answer_that_takes_too_long_is_given_as_it_stands(talking: Talking):
    talking.orchestrator.script = begins
    response = await talking.client.responses.create(model="support", input="hello")
    assert (response.status, response.output_text) == ("in_progress", "".join(ANSWER[:2]))
    name = place_of(response)
    await talking.world.write(name.session, *ended(name.run, WHOLE))
    assert (await talking.client.responses.retrieve(response.id)).output_text == WHOLE


async def test_what_is_asked_of_the_user_ends_the_response_and_the_next_one_goes_on(talking: Talking):
    calls: list[ToolCall] = []

    def asks(say: Say) -> Sequence[Event]:
        made = ToolCall(
            say.run_id, 1, 1, call_id(say.session, say.run_id, 1, 0), "pay", Json('{"amount":5}'), "once", "bank"
        )
        calls.append(made)
        asked = QuestionAsked(say.run_id, 1, 1, "q_1", Json('"Pay 5?"'), None, made.call_id)
        return [ModelCallStarted(say.run_id, 1, 1, "scripted:plain", "scripted"), made, asked]

    talking.orchestrator.script = asks
    response = await talking.client.responses.create(model="support", input="pay")
    assert response.status == "incomplete"
    assert response.metadata is not None
    assert response.metadata["playhead_asks"] == "Pay 5?"
    with pytest.raises(openai.BadRequestError, match="waits for an answer"):
        await talking.client.responses.create(input="yes", previous_response_id=response.id)
    method, path = response.metadata["playhead_answer"].split()
    answered = await talking.served.client.request(method, path, json={"content": "yes"})
    assert answered.status_code == 202
    following = response.metadata["playhead_next_response"]
    assert (await talking.client.responses.retrieve(following)).status == "queued"
    run = calls[0].run_id
    returned = ToolResult(run, 1, 1, calls[0].call_id, "ok", Json('{"paid":true}'), 7)
    stream = await talking.client.responses.retrieve(following, stream=True)
    await talking.world.write(place_of(response).session, returned, *spoken(run, "Paid"), *ended(run, "Paid"))
    events = await rest_of(stream)
    assert events[0].type == "response.created"
    assert events[-1].response.output_text == "Paid"
    assert (await talking.client.responses.retrieve(response.id)) == response


async def test_calls_are_told_in_the_form_that_was_asked_for_also_to_who_comes_back(talking: Talking):
    """protocol:P95"""

    def works(say: Say) -> Sequence[Event]:
        return [
            ToolCall(say.run_id, 1, 1, call_id(say.session, say.run_id, 1, 0), "weather", Json("{}"), "read", "sky"),
            ToolResult(say.run_id, 1, 1, call_id(say.session, say.run_id, 1, 0), "ok", Json('"clear"'), 7),
            *spoken(say.run_id, WHOLE),
            *ended(say.run_id, WHOLE),
        ]

    talking.orchestrator.script = works
    response = await talking.client.responses.create(model="support", input="weather?")
    assert [item.type for item in response.output] == ["mcp_call", "message"]
    function = {"tool_items": "function"}
    response = await talking.client.responses.create(model="support", input="weather?", extra_query=function)
    kinds = ["function_call", "function_call_output", "message"]
    assert [item.type for item in response.output] == kinds
    assert [item.type for item in (await talking.client.responses.retrieve(response.id)).output] == kinds


async def test_agents_are_listed_as_models(talking: Talking):
    """protocol:P95"""
    models = [model async for model in talking.client.models.list()]
    assert [(model.id, model.object, model.created) for model in models] == [
        ("other", "model", 1_700_000_000),
        ("support", "model", 1_700_000_000),
    ]


async def test_what_there_is_not_is_not_found(talking: Talking):
    unknown = str(ResponseName(SessionId("ses_" + "a" * 26), RunId("run_" + "b" * 26)))
    for name in ("resp_123", unknown):
        with pytest.raises(openai.NotFoundError) as raised:
            await talking.client.responses.retrieve(name)
        assert raised.value.code == "response_not_found"
        with pytest.raises(openai.NotFoundError):
            await talking.client.responses.cancel(name)
        with pytest.raises(openai.NotFoundError):
            await talking.client.responses.retrieve(name, stream=True)
        with pytest.raises(openai.BadRequestError) as refused:
            await talking.client.responses.create(input="hello", previous_response_id=name)
        assert refused.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError) as raised:
        await talking.client.responses.create(model="nobody", input="hello")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    closed = await talking.world.session_with(STARTED, OWNED, CLOSED)
    with pytest.raises(openai.NotFoundError):
        await talking.client.responses.retrieve(str(ResponseName(closed, RunId("run_" + "b" * 26))))


IMAGE: dict[str, Any] = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"instructions": "be brief"}, "instructions"),
    ({"tools": [{"type": "function", "name": "mine"}]}, "tools"),
    ({"max_output_tokens": 5}, "max_output_tokens"),
    ({"store": False}, "store"),
    ({"input": [{"role": "system", "content": "be brief"}]}, "input[0]"),
    ({"input": [{"role": "assistant", "content": "hello"}]}, "input[0]"),
    ({"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [IMAGE, {"type": "input_audio"}]}]}, "input[0].content[1]"),
    ({"input": [{"role": "user", "content": [IMAGE | {"image_url": "file:///etc"}]}]}, "input[0].content[0]"),
    ({"input": ""}, "input"),
    ({"input": 5}, "input"),
    ({"metadata": {"k": "v" * 513}}, "metadata"),
    ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
    ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED)
async def test_what_cannot_be_honoured_is_refused_and_nothing_is_begun(
    talking: Talking, given: dict[str, Any], param: str
):
    answer = await talking.served.client.post("/v1/responses", json={"model": "support", "input": "hello", **given})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert await talking.world.published() == []


async def test_a_response_is_for_its_tenant_and_for_no_other_also_not_to_go_on_with(world: World, tmp_path: Path):
    ours, theirs, reader = a_key(1), a_key(2), a_key(3)
    tables = (
        key_table(ours, name="ours", more='tenant = "ours"'),
        key_table(theirs, name="theirs", more='tenant = "theirs"'),
        key_table(reader, name="reader", scopes='["sessions:read"]', more='tenant = "ours"'),
    )
    parts = replace(world.parts(settle_seconds=0.2), authenticate=authenticator(access_file(tmp_path, *tables)))
    async with (
        serving(parts) as served,
        client_at(f"http://{served.address}", ours.text) as mine,
        client_at(f"http://{served.address}", theirs.text) as other,
        client_at(f"http://{served.address}", reader.text) as reading,
        client_at(f"http://{served.address}", "wrong") as stranger,
    ):
        response = await mine.responses.create(input="canary", background=True, conversation="conv_1")
        assert response.status == "queued"  # nobody works here, and what is taken is not lost
        assert (await mine.responses.retrieve(response.id)).status == "queued"
        assert (await reading.responses.retrieve(response.id)).id == response.id
        name = place_of(response)
        begun = SessionStarted("support", "1", "scripted:plain", Json("{}"), tenant="ours")
        said = UserMessage(name.run, MessageId("msg_" + "m" * 26), Json('"canary"'))
        await world.write(name.session, begun, said, RunStarted(name.run, said.message_id))
        assert (await mine.responses.retrieve(response.id)).status == "in_progress"
        for asking in (
            other.responses.retrieve(response.id),
            other.responses.retrieve(response.id, stream=True),
            other.responses.cancel(response.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await asking
        for more in ({"previous_response_id": response.id}, {"conversation": name.session}):
            with pytest.raises(openai.BadRequestError, match="not found"):
                await other.responses.create(input="hello", extra_body=more)
        elsewhere = await other.responses.create(input="hello", background=True, conversation="conv_1")
        assert place_of(elsewhere).session != name.session
        with pytest.raises(openai.PermissionDeniedError) as denied:
            await reading.responses.create(input="hello")
        assert (denied.value.code, denied.value.type) == ("missing_scope", "permission_error")
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_what_a_user_shows_is_taken_as_it_is(talking: Talking):
    parts: list[Any] = [
        {"type": "input_text", "text": "look"},
        IMAGE,
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
    ]
    given: list[Any] = [{"role": "user", "content": parts}, {"type": "message", "role": "user", "content": "well?"}]
    await talking.client.responses.create(model="support", input=given)
    assert orjson.loads(talking.orchestrator.said[0].content) == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            "title": "a.pdf",
        },
        {"type": "text", "text": "well?"},
    ]


async def test_a_gateway_that_drains_says_after_which_event_to_go_on(talking: Talking):
    talking.orchestrator.script = begins
    async with serving(talking.world.parts()) as other, client_at(f"http://{other.address}") as client:
        stream = await client.responses.create(model="support", input="hello", stream=True)
        events = aiter(stream)
        first: list[Any] = [await anext(events)]
        other.stop.set()
        *more, last = await rest_of(events)
        assert (last.type, last.code) == ("error", "stream_draining")
    name = place_of(first[0].response)
    await talking.world.write(name.session, *ended(name.run, "".join(ANSWER[:2])))
    resumed = await talking.client.responses.retrieve(str(name), stream=True, starting_after=last.sequence_number)
    rest = await rest_of(resumed)
    whole = await rest_of(await talking.client.responses.retrieve(str(name), stream=True))
    assert [*first, *more, *rest] == whole


async def test_a_real_agent_answers_the_stock_client(tmp_path: Path):
    quick = {"PLAYHEAD_SCRIPTED_PACE": "0", "ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""}
    async with asyncio.timeout(DEV_SECONDS_MAX):
        child = await start_dev(tmp_path, 0, quick)
        try:
            async with client_at(child.url) as client:
                (model,) = [model async for model in client.models.list()]
                response = await client.responses.create(model=model.id, input="What time is it in Oslo?")
                assert response.status == "completed"
                assert "Europe/Oslo" in orjson.dumps(response.to_dict()).decode()
                assert "mcp_call" in [item.type for item in response.output]
                stream = await client.responses.retrieve(response.id, stream=True)
                events = await rest_of(stream)
                assert [event.sequence_number for event in events] == list(range(len(events)))
                assert events[-1].response == response
                resumed = await client.responses.retrieve(response.id, stream=True, starting_after=4)
                assert await rest_of(resumed) == events[5:]
                following = await client.responses.create(input="And in Rome?", previous_response_id=response.id)
                assert following.status == "completed"
        finally:
            await child.stop()
