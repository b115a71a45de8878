"""Sessions over JSON: begin, say, look, cancel, close."""

from __future__ import annotations

import httpx2
import pytest
from playhead.commands import AnnounceAgent, CancelRun, CloseSession, Say, StartSession
from playhead.events import Failure, Json, RunFailed, RunStarted, ToolCall, UserMessage
from playhead.ids import SessionId, call_id, parse_session_id

from tests.gateway.support import CLOSED, MESSAGE, NOW, OWNED, RUN, STARTED, World, a_turn, client_of, until_ready


async def test_a_new_session_is_named_and_can_be_read_at_once(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P43"""
    made = await client.post("/v1/sessions", json={"agent": "support", "metadata": {"team": "blue"}})
    assert made.status_code == 201
    session = parse_session_id(made.json()["id"])
    assert made.json() == {"id": session, "agent": "support", "status": "idle", "last_seq": 0}
    assert made.headers["location"] == f"/v1/sessions/{session}"
    read = await client.get(f"/v1/sessions/{session}")
    assert read.status_code == 200
    assert read.json()["status"] == "idle"
    assert read.json()["agent"] == "support"
    assert read.json()["last_seq"] == 0
    (request,) = await world.published()
    assert isinstance(request, StartSession)
    assert (request.session, request.agent, request.metadata, request.message) == (
        session,
        "support",
        '{"team":"blue"}',
        None,
    )


async def test_a_session_that_begins_with_input_names_its_run(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P43"""
    made = await client.post("/v1/sessions", json={"input": "hello"})
    assert made.status_code == 201
    assert made.json()["status"] == "running"
    (request,) = await world.published()
    assert isinstance(request, StartSession)
    assert request.message is not None
    assert request.message.content == '"hello"'
    assert (made.json()["run_id"], made.json()["message_id"]) == (request.message.run_id, request.message.message_id)


async def test_a_message_becomes_a_request_to_its_session(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P44"""
    session = await world.session_with(STARTED, OWNED)
    blocks = [{"type": "text", "text": "hello"}]
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    said = await client.post(
        f"/v1/sessions/{session}/messages",
        json={"content": blocks, "mode": "interrupt"},
        headers={"traceparent": trace},
    )
    assert said.status_code == 202
    (request,) = await world.published()
    assert request == Say(
        said.json()["message_id"],
        session,
        said.json()["message_id"],
        said.json()["run_id"],
        Json('[{"type":"text","text":"hello"}]'),
        "interrupt",
        trace,
    )


async def test_a_session_shows_what_its_log_folds_to(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P49"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session))
    end = await world.log.end(session)
    shown = (await client.get(f"/v1/sessions/{session}")).json()
    assert shown["id"] == session
    assert shown["agent"] == "support"
    assert shown["model"] == "scripted:plain"
    assert shown["metadata"] == {"team": "blue"}
    assert shown["status"] == "idle"
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert shown["messages"][0]["content"] == "hello"
    assert shown["usage"] == {"input_tokens": 7, "output_tokens": 11, "cache_read_tokens": 0, "cache_write_tokens": 0}
    assert shown["pending"] == []
    assert (shown["last_seq"], shown["cursor"]) == (end.seq, str(end.cursor))


async def test_a_session_shows_what_it_waits_for(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P48 protocol:P49"""
    session = await world.log.create()
    call = call_id(session, RUN, 1, 0)
    await world.write(
        session,
        STARTED,
        UserMessage(RUN, MESSAGE, Json('"one"')),
        RunStarted(RUN, MESSAGE),
        ToolCall(RUN, 1, 1, call, "weather", Json('{"city":"Paris"}'), "read", "default"),
        UserMessage(RUN, MESSAGE, Json('"two"')),
    )
    shown = (await client.get(f"/v1/sessions/{session}")).json()
    assert shown["status"] == "running"
    assert shown["run"]["run_id"] == RUN
    assert [one["type"] for one in shown["pending"]] == ["tool_call", "message"]
    assert shown["pending"][0]["input"] == {"city": "Paris"}


async def test_a_session_read_again_shows_what_came_since(world: World, client: httpx2.AsyncClient) -> None:
    session = await world.session_with(STARTED, OWNED)
    assert (await client.get(f"/v1/sessions/{session}")).json()["status"] == "idle"
    await world.write(session, UserMessage(RUN, MESSAGE, Json('"one"')), RunStarted(RUN, MESSAGE))
    shown = (await client.get(f"/v1/sessions/{session}")).json()
    assert (shown["status"], shown["last_seq"]) == ("running", 4)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/messages"),
        ("POST", "/answers/q_1"),
        ("POST", "/cancel"),
        ("POST", "/close"),
    ],
)
async def test_an_unknown_session_is_not_found_and_a_malformed_id_is_refused(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    """protocol:P3"""
    body = {"content": "hello"} if path in ("/messages", "/answers/q_1") else None
    unknown = await client.request(method, f"/v1/sessions/ses_{'a' * 26}{path}", json=body)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-session")
    assert unknown.headers["content-type"] == "application/problem+json"
    malformed = await client.request(method, f"/v1/sessions/ses_{'A' * 26}{path}", json=body)
    assert (malformed.status_code, malformed.json()["code"]) == (400, "invalid-id")


async def test_cancel_and_close_are_requests(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P51 protocol:P52"""
    session = await world.session_with(STARTED, OWNED)
    one = await client.post(f"/v1/sessions/{session}/cancel", json={"run_id": RUN})
    everything = await client.post(f"/v1/sessions/{session}/cancel")
    closed = await client.post(f"/v1/sessions/{session}/close")
    assert [answer.status_code for answer in (one, everything, closed)] == [202, 202, 202]
    first, second, third = await world.published()
    assert isinstance(first, CancelRun)
    assert isinstance(second, CancelRun)
    assert isinstance(third, CloseSession)
    assert (first.run_id, second.run_id) == (RUN, None)
    assert first.request_id != second.request_id


async def test_nothing_can_be_said_to_a_closed_session_but_closing_it_again_is_no_error(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P48 protocol:P52"""
    session = await world.session_with(STARTED, OWNED, CLOSED)
    said = await client.post(f"/v1/sessions/{session}/messages", json={"content": "hello"})
    assert (said.status_code, said.json()["code"]) == (409, "session-closed")
    assert (await client.post(f"/v1/sessions/{session}/close")).status_code == 202
    assert (await client.post(f"/v1/sessions/{session}/cancel")).status_code == 202
    assert await world.published() == []


async def test_reject_is_refused_while_a_run_is_going_and_sent_along_otherwise(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P44"""
    session = await world.session_with(STARTED, OWNED)
    ask = {"content": "hello", "mode": "reject"}
    assert (await client.post(f"/v1/sessions/{session}/messages", json=ask)).status_code == 202
    (request,) = await world.published()
    assert isinstance(request, Say)
    assert request.mode == "reject"
    await world.write(session, UserMessage(RUN, MESSAGE, Json('"one"')), RunStarted(RUN, MESSAGE))
    refused = await client.post(f"/v1/sessions/{session}/messages", json=ask)
    assert (refused.status_code, refused.json()["code"], refused.json()["run_id"]) == (409, "run-in-progress", RUN)
    assert len(await world.published()) == 1


async def test_an_agent_that_nobody_serves_is_refused_once_some_are_known(world: World) -> None:
    """protocol:P43"""
    catalog = world.topics.catalog.name
    async with client_of(world.parts()) as before:
        assert (await before.post("/v1/sessions", json={"agent": "nobody"})).status_code == 201
    agent = AnnounceAgent("support", "1", "scripted:plain", "helps", ("weather",), default=True, at=NOW)
    await world.announce(catalog, "agent/support", agent)
    async with client_of(world.parts()) as client:
        await until_ready(client)
        refused = await client.post("/v1/sessions", json={"agent": "nobody"})
        assert (refused.status_code, refused.json()["code"]) == (422, "unknown-agent")
        assert refused.json()["agents"] == ["support"]
        made = await client.post("/v1/sessions", json={})
        assert made.json()["agent"] == "support"
    (request,) = (one for one in await world.published() if one.session == made.json()["id"])
    assert isinstance(request, StartSession)
    assert request.agent is None


async def test_a_task_is_queued_then_running_then_completed_with_its_result(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P55"""
    made = await client.post("/agent/task", json={"input": "hello"})
    assert made.status_code == 202
    session, run = SessionId(made.json()["id"]), made.json()["run_id"]
    assert made.json()["status"] == "queued"
    (request,) = await world.published()
    assert isinstance(request, StartSession)
    assert request.message is not None
    assert (await client.get(f"/v1/tasks/{session}")).json() == {"id": session, "status": "queued"}
    turn = a_turn(session)
    await world.write(session, STARTED, OWNED, turn[0])
    assert (await client.get(f"/v1/tasks/{session}")).json()["status"] == "queued"
    await world.write(session, *turn[1:-1])
    assert (await client.get(f"/agent/task/{session}")).json()["status"] == "running"
    await world.write(session, turn[-1])
    done = (await client.get(f"/v1/tasks/{session}")).json()
    assert (done["status"], done["result"]) == ("completed", "word 0 word 1 word 2 ")
    assert run == request.message.run_id


async def test_a_task_that_failed_says_why(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P55"""
    session = await world.session_with(
        STARTED,
        UserMessage(RUN, MESSAGE, Json('"one"')),
        RunStarted(RUN, MESSAGE),
        RunFailed(RUN, Failure("provider", "no")),
    )
    task = (await client.get(f"/v1/tasks/{session}")).json()
    assert task == {"id": session, "status": "failed", "error": {"code": "provider", "message": "no"}, "run_id": RUN}
