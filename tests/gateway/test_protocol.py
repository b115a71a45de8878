"""Clauses of `docs/protocol.md` that no other test covers whole: the gateway as a stranger's client sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx2
import orjson
import pytest
from playhead.accept import Record, genesis
from playhead.codec import Context
from playhead.errors import CursorExpired
from playhead.events import (
    Event,
    Failure,
    FinalResponse,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    RunCompleted,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolInputDelta,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    Usage,
    UserMessage,
)
from playhead.ids import MessageId, RunId, SessionId, call_id
from playhead_gateway.problems import Problem, problem_response
from playhead_gateway.projections.sse import Projection

from tests.codec.samples import sample_events
from tests.gateway.support import (
    CLOSED,
    CODEC,
    MESSAGE,
    NOW,
    OWNED,
    RUN,
    SSE,
    STARTED,
    World,
    a_turn,
    client_of,
    deltas,
    parse,
    serving,
    until_ready,
    watching,
)
from tests.gateway.test_bad_input import broken

ID = re.compile(r"(ses|run|msg|call)_[0-9a-z]{26}")


def ids_in(value: Any) -> list[str]:
    """Find every id in a JSON value, by the names of the members that hold ids."""
    if isinstance(value, list):
        return [found for one in cast("list[Any]", value) for found in ids_in(one)]
    if not isinstance(value, dict):
        return []
    members = cast("dict[str, Any]", value)
    own = [text for name, text in members.items() if name in ("run_id", "message_id", "call_id", "session")]
    return own + [found for one in members.values() for found in ids_in(one)]


async def test_ids_have_a_prefix_and_26_characters(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P2"""
    begun = (await client.post("/v1/sessions", json={"input": "hello"})).json()
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    page = (await client.get(f"/v1/sessions/{session}/events")).json()
    found = [begun["id"], *ids_in(begun), *ids_in(page["events"])]
    assert {one.partition("_")[0] for one in found} == {"ses", "run", "msg", "call"}
    assert [one for one in found if not ID.fullmatch(one)] == []


async def test_a_bare_seq_is_as_good_as_a_cursor(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P5"""
    session = await world.session_with(STARTED, OWNED, *deltas(4), CLOSED)
    url = f"/v1/sessions/{session}/events"
    whole = await client.get(url)
    assert (await client.get(f"{url}?after=0")).content == whole.content
    for frame in parse((await client.get(url, headers=SSE)).content)[1:-1]:
        assert frame.id is not None
        seq, digits = frame.id.split("-")
        assert (int(seq), len(digits)) == (frame.data["seq"], 8)
        by_cursor = await client.get(url, params={"after": frame.id})
        by_seq = await client.get(url, params={"after": seq})
        assert by_cursor.json()["events"] == by_seq.json()["events"] == whole.json()["events"][int(seq) :]


@pytest.mark.parametrize("accept", [{}, SSE])
async def test_a_cursor_whose_events_were_erased_is_gone(world: World, accept: dict[str, str]) -> None:
    """protocol:P7"""
    parts = replace(world.parts(), log=broken(CursorExpired("3", 10)))
    async with client_of(parts) as client:
        answer = await client.get(f"/v1/sessions/ses_{'a' * 26}/events?after=3", headers=accept)
    assert (answer.status_code, answer.json()["code"], answer.json()["first_seq"]) == (410, "cursor-expired", 10)


def projected(*events: Event) -> list[dict[str, Any]]:
    """Give events as a client sees them, without a log."""
    projection = Projection(CODEC)
    found: list[dict[str, Any]] = []
    for value in sealed(*events):
        shown = projection.event(value)
        assert shown is not None
        found.append(orjson.loads(shown))
    return found


def sealed(*events: Event) -> list[Record]:
    session = SessionId("ses_" + "a" * 26)
    return CODEC.seal(genesis(session), events, Context(session, 1, None, NOW))


def test_every_type_begins_with_seq_type_at_and_then_its_place_in_the_run() -> None:
    """protocol:P8 protocol:P10"""
    for seq, shown in enumerate(projected(*sample_events()), start=1):
        names = list(shown)
        assert names[:3] == ["seq", "type", "at"]
        assert (shown["seq"], shown["at"]) == (seq, NOW)
        place = [name for name in names if name in ("run_id", "step", "attempt")]
        assert place in ([], ["run_id"], ["run_id", "step", "attempt"])
        assert names[3 : 3 + len(place)] == place
        assert None not in shown.values()


@dataclass
class Screen:
    """A client that knows the clauses P18 to P22 and nothing else."""

    said: dict[tuple[str, int, int], str] = field(default_factory=dict[tuple[str, int, int], str])
    messages: list[Any] = field(default_factory=list[Any])
    calls: dict[str, Any] = field(default_factory=dict[str, Any])

    def show(self, event: dict[str, Any]) -> None:
        """Take one event, as `data` has it."""
        place = (event.get("run_id", ""), event.get("step", 0), event.get("attempt", 0))
        match event["type"]:
            case "text_delta":
                self.said[place] = self.said.get(place, "") + event["text"]
            case "model_call_completed":
                self.said.pop(place, None)
                self.messages.append(event["message"]["content"])
            case "model_call_failed" | "model_call_abandoned":
                self.said.pop(place, None)
            case "tool_call" | "tool_progress" | "tool_result_chunk":
                self.calls[event["call_id"]] = event.get("output", event.get("progress"))
            case "tool_result":
                self.calls[event["call_id"]] = (event["status"], event["output"])
            case _:
                pass


def a_stormy_turn(session: SessionId) -> list[Event]:
    """Give a run in which one attempt fails, one is lost, and the third calls a tool."""
    call = call_id(session, RUN, 1, 0)
    asks = Json('{"role":"assistant","content":[{"type":"text","text":"let me look"}]}')
    says = Json('{"role":"assistant","content":[{"type":"text","text":"it is clear"}]}')
    return [
        UserMessage(RUN, MESSAGE, Json('"hello"')),
        RunStarted(RUN, MESSAGE),
        ModelCallStarted(RUN, 1, 1, "scripted", "scripted"),
        TextDelta(RUN, 1, 1, "let "),
        ModelCallFailed(RUN, 1, 1, Failure("overloaded", "later"), 500),
        ModelCallStarted(RUN, 1, 2, "scripted", "scripted"),
        Thinking(RUN, 1, 2, "hm"),
        TextDelta(RUN, 1, 2, "let me "),
        ModelCallAbandoned(RUN, 1, 2, "owner_lost"),
        ModelCallStarted(RUN, 1, 3, "scripted", "scripted"),
        TextDelta(RUN, 1, 3, "let me "),
        TextDelta(RUN, 1, 3, "look"),
        ToolInputDelta(RUN, 1, 3, call, "{}"),
        ModelCallCompleted(RUN, 1, 3, asks, Usage(1, 2), "tool_use", 3),
        ToolCall(RUN, 1, 3, call, "weather", Json("{}"), "read", "default"),
        ToolProgress(RUN, 1, 3, call, 0.5),
        ToolResultChunk(RUN, 1, 3, call, Json('"cle"')),
        ToolResult(RUN, 1, 3, call, "ok", Json('"clear"'), 5),
        ModelCallStarted(RUN, 2, 1, "scripted", "scripted"),
        TextDelta(RUN, 2, 1, "it is"),
        TextDelta(RUN, 2, 1, " clear"),
        ModelCallCompleted(RUN, 2, 1, says, Usage(1, 2), "end_turn", 3),
        FinalResponse(RUN, "it is clear", MessageId("msg_" + "a" * 26)),
        RunCompleted(RUN, Usage(2, 4)),
    ]


async def test_who_drops_what_is_superseded_is_left_with_the_conversation(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P18 protocol:P19 protocol:P20 protocol:P21 protocol:P22"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_stormy_turn(session))
    screen = Screen()
    before: list[str] = []
    for event in (await client.get(f"/v1/sessions/{session}/events")).json()["events"]:
        if event["type"].startswith("model_call_") and event["type"] != "model_call_started":
            before.append("".join(screen.said.values()))
        screen.show(event)
    assert before == ["let ", "let me ", "let me look", "it is clear"]
    assert screen.said == {}
    shown = (await client.get(f"/v1/sessions/{session}")).json()["messages"]
    assert screen.messages == [one["content"] for one in shown if one["role"] == "assistant"]
    assert list(screen.calls.values()) == [("ok", "clear")]


async def test_no_answer_is_cached(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P29"""
    session = await world.session_with(STARTED, OWNED, CLOSED)
    paths = ["", "/events", "/events?after=x"]
    urls = [f"/v1/sessions/{session}{path}" for path in paths]
    urls += ["/v1/sessions", "/v1/tools", "/v1/agents", "/v1/nothing", f"/v1/tasks/{session}"]
    answers = [await client.get(url) for url in urls]
    answers += [await client.get(urls[1], headers=SSE), await client.get(f"{urls[1]}?after=3", headers=SSE)]
    answers += [await client.post(url, json={"input": "hello"}) for url in ("/v1/sessions", "/v1/tasks")]
    assert {answer.status_code for answer in answers} == {200, 201, 202, 204, 400, 404}
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * len(answers)


async def test_pages_of_configured_origins_may_resume_and_repeat(world: World) -> None:
    """protocol:P30"""
    async with client_of(world.parts(allowed_origins=("https://app.example",))) as client:
        for method, header in (("GET", "last-event-id"), ("POST", "idempotency-key")):
            asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
            answers = [
                await client.options("/v1/sessions", headers={"Origin": origin, **asks})
                for origin in ("https://app.example", "https://evil.example")
            ]
            assert header in answers[0].headers["access-control-allow-headers"].lower()
            assert [answer.headers.get("access-control-allow-origin") for answer in answers] == [
                "https://app.example",
                None,
            ]


async def test_a_viewer_that_leaves_asks_for_nothing(world: World) -> None:
    """protocol:P53"""
    session = await world.session_with(
        STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"hi"')), RunStarted(RUN, MESSAGE)
    )
    async with serving(world.parts()) as served:
        async with watching(served.client, session) as seen:
            await seen.take(5)
        assert (await served.client.get(f"/v1/sessions/{session}")).json()["status"] == "running"
    assert await world.published() == []


async def test_a_process_is_alive_while_it_reads_the_catalogue_and_ready_afterwards(world: World) -> None:
    """protocol:P57"""
    async with client_of(world.parts()) as client:
        assert (await client.get("/livez")).json() == {"status": "ok"}
        await until_ready(client)
        assert (await client.get("/readyz")).json() == {"status": "ok", "checks": {"serving": "ok", "catalog": "ok"}}
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("alias", ["/agent/task", "/v1/tasks"])
async def test_a_task_is_found_by_both_of_its_names(world: World, client: httpx2.AsyncClient, alias: str) -> None:
    """protocol:P24 protocol:P55"""
    begun = await client.post(alias, json={"input": "hello"})
    assert (begun.status_code, begun.json().keys()) == (202, {"id", "status", "run_id", "message_id"})
    task, run = begun.json()["id"], RunId(begun.json()["run_id"])
    await world.write(task, STARTED, OWNED, UserMessage(run, MESSAGE, Json('"hello"')))
    for name in ("/agent/task", "/v1/tasks"):
        assert (await client.get(f"{name}/{task}")).json() == {"id": task, "status": "queued", "run_id": run}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/sessions/{}/fork"),
        ("GET", "/v1/sessions/{}/verify"),
        ("POST", "/v1/sessions/{}/approvals/call_1"),
        ("DELETE", "/v1/sessions/{}"),
    ],
)
async def test_what_is_not_there_yet_says_so(world: World, client: httpx2.AsyncClient, method: str, path: str) -> None:
    """protocol:P64"""
    session = await world.session_with(STARTED)
    answer = await client.request(method, path.format(session))
    assert (answer.status_code, answer.json()["code"]) in {(404, "not-found"), (405, "method-not-allowed")}


def test_a_problem_is_named_after_its_code() -> None:
    """protocol:P27"""
    shown = orjson.loads(problem_response(Problem(409, "session-closed", "it is closed", run_id="run_1")).body)
    assert shown == {
        "type": "urn:playhead:problem:session-closed",
        "title": "Conflict",
        "status": 409,
        "detail": "it is closed",
        "code": "session-closed",
        "run_id": "run_1",
    }
