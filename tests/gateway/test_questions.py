"""What calls wait for, shown; and what they ask, answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from playhead.commands import AnswerQuestion
from playhead.events import (
    Event,
    Json,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunStarted,
    ToolCall,
    ToolPending,
    ToolResult,
    ToolStarted,
    UserMessage,
)
from playhead.ids import CallId, SessionId

from tests.gateway.support import MESSAGE, NOW, OWNED, RUN, STARTED, World, client_of

CALLS = [CallId("call_" + letter * 26) for letter in "abcde"]
SCHEMA = Json('{"type":"boolean"}')
KEY = {"Idempotency-Key": "first"}
ASKED = QuestionAsked(RUN, 1, 1, "q_1", Json('"Sure?"'), SCHEMA, CALLS[0], Json('{"page":3}'))


def a_call(number: int, *waits_for: CallId) -> ToolCall:
    return ToolCall(RUN, 1, 1, CALLS[number], "book", Json("{}"), "write", "default", waits_for)


def asking(*more: Event) -> list[Event]:
    began = [UserMessage(RUN, MESSAGE, Json('"one"')), RunStarted(RUN, MESSAGE)]
    return [STARTED, OWNED, *began, a_call(0), ToolStarted(RUN, 1, 1, CALLS[0], "w"), ASKED, *more]


async def pending(client: httpx2.AsyncClient, session: SessionId) -> list[dict[str, Any]]:
    shown = (await client.get(f"/v1/sessions/{session}")).json()
    return [{name: one[name] for name in one if name not in SAME} for one in shown["pending"]]


SAME = {"type", "run_id", "name", "input", "effect", "pool"}


async def answer(
    client: httpx2.AsyncClient, session: SessionId, content: object, question: str = "q_1", **headers: str
) -> httpx2.Response:
    url = f"/v1/sessions/{session}/answers/{question}"
    return await client.post(url, json={"content": content}, headers=headers)


async def test_each_open_call_says_what_it_waits_for(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P49 protocol:P69 protocol:P71"""
    session = await world.session_with(
        *asking(
            a_call(1),
            ToolPending(RUN, 1, 1, CALLS[1], NOW + 5, "the bank"),
            a_call(2),
            ToolStarted(RUN, 1, 1, CALLS[2], "w"),
            ToolResult(RUN, 1, 1, CALLS[2], "ok", Json("1"), 5),
            a_call(3, CALLS[1], CALLS[2]),
            a_call(4),
        )
    )
    assert await pending(client, session) == [
        {
            "call_id": CALLS[0],
            "question": {"question_id": "q_1", "content": "Sure?", "schema": {"type": "boolean"}},
        },
        {"call_id": CALLS[1], "until": NOW + 5},
        {"call_id": CALLS[3], "waits_for": [CALLS[1]]},
        {"call_id": CALLS[4]},
    ]


async def test_a_session_whose_calls_all_wait_for_somebody_outside_is_waiting(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P48"""
    session = await world.session_with(*asking())
    assert (await client.get(f"/v1/sessions/{session}")).json()["status"] == "waiting"
    await world.write(session, a_call(1))
    assert (await client.get(f"/v1/sessions/{session}")).json()["status"] == "running"


async def test_what_is_asked_is_shown_however_little_is_remembered_of_it(world: World) -> None:
    session = await world.session_with(*asking())
    async with client_of(world.parts(questions_bytes_max=0)) as client:
        shown = [(await pending(client, session))[0]["question"]["content"] for _ in range(2)]
    assert shown == ["Sure?", "Sure?"]


async def test_an_answer_is_a_request_to_the_session(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P70"""
    session = await world.session_with(*asking())
    given = await answer(client, session, {"yes": True})
    assert (given.status_code, given.json()) == (202, {"id": session, "question_id": "q_1"})
    (request,) = await world.published()
    assert isinstance(request, AnswerQuestion)
    assert replace(request, request_id="") == AnswerQuestion("", session, "q_1", Json('{"yes":true}'), "user")
    # It is safe, and the session takes the first: no second one can be.
    again = await answer(client, session, {"yes": False})
    assert (again.status_code, again.json()["code"]) == (409, "question-closed")
    assert len(await world.published()) == 1


@pytest.mark.parametrize(
    ("more", "question", "code"),
    [
        ((), "q_2", "unknown-question"),
        ((QuestionAnswered(RUN, 1, 1, "q_1", Json("true"), "user"),), "q_1", "question-closed"),
        ((RunCancelled(RUN, "requested"),), "q_1", "question-closed"),
    ],
)
async def test_what_is_not_asked_or_not_any_more_cannot_be_answered(
    world: World, client: httpx2.AsyncClient, more: tuple[Event, ...], question: str, code: str
) -> None:
    """protocol:P70"""
    session = await world.session_with(*asking(*more))
    refused = await answer(client, session, content=True, question=question)
    assert (refused.status_code, refused.json()["code"]) == (404 if code.startswith("unknown") else 409, code)
    assert await world.published() == []


async def test_an_answer_with_the_same_key_is_the_same_answer_before_and_after_it_is_in_the_log(world: World) -> None:
    """protocol:P45 protocol:P46"""
    session = await world.session_with(*asking())
    async with client_of(world.parts()) as client:
        first, again = [await answer(client, session, content=True, **KEY) for _ in range(2)]
        other = await answer(client, session, content=False, **KEY)
    (request,) = await world.published()
    await world.write(session, QuestionAnswered(RUN, 1, 1, "q_1", Json("true"), "user"), cause=request.request_id)
    async with client_of(world.parts()) as client:
        later, other_later = [await answer(client, session, content=given, **KEY) for given in (True, False)]
    assert [one.status_code for one in (first, again, other, later, other_later)] == [202, 202, 422, 202, 422]
    replayed = [one.headers.get("idempotency-replayed") for one in (first, again, later)]
    assert replayed == [None, "true", "true"]
    assert len(await world.published()) == 1


async def test_an_answer_has_a_content_and_nothing_else(world: World, client: httpx2.AsyncClient) -> None:
    session = await world.session_with(*asking())
    for body in ({}, {"content": 1, "by": "me"}):
        refused = await client.post(f"/v1/sessions/{session}/answers/q_1", json=body)
        assert refused.json()["code"] == "invalid-body"
    assert (await answer(client, session, "x" * 800_000)).json()["code"] == "too-large"
    assert (await answer(client, session, None)).status_code == 202
