"""Idempotency-Key: the same key is the same request, through any replica, before and after a crash."""

from __future__ import annotations

import httpx2
import pytest
from playhead.commands import Say
from playhead.ids import SessionId

from tests.gateway.support import OWNED, STARTED, World, a_turn, client_of

KEY = {"Idempotency-Key": "first"}


async def test_a_message_that_is_in_the_log_is_not_sent_again(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P45"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, key="first", question="hello"))
    again = await client.post(f"/v1/sessions/{session}/messages", json={"content": "hello"}, headers=KEY)
    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["run_id"] == a_turn(session)[0].run_id  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert await world.published() == []


async def test_the_same_key_with_another_message_is_refused(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P46"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, key="first", question="hello"))
    other = await client.post(f"/v1/sessions/{session}/messages", json={"content": "bye"}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")


async def test_a_key_gives_the_same_ids_before_the_log_shows_anything_through_any_replica(world: World) -> None:
    """protocol:P45"""
    session = await world.session_with(STARTED, OWNED)
    answers: list[object] = []
    for _ in range(2):
        async with client_of(world.parts()) as client:
            said = await client.post(f"/v1/sessions/{session}/messages", json={"content": "hi"}, headers=KEY)
            answers.append(said.json())
    assert answers[0] == answers[1]
    first, second = await world.published()
    assert isinstance(first, Say)
    assert first == second


async def test_a_replica_remembers_what_it_has_just_sent(world: World, client: httpx2.AsyncClient) -> None:
    session = await world.session_with(STARTED, OWNED)
    url = f"/v1/sessions/{session}/messages"
    first = await client.post(url, json={"content": "hi"}, headers=KEY)
    again = await client.post(url, json={"content": "hi"}, headers=KEY)
    other = await client.post(url, json={"content": "ho"}, headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422
    assert len(await world.published()) == 1


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/tasks"])
async def test_a_key_names_the_session_that_it_begins(world: World, path: str) -> None:
    """protocol:P45 protocol:P46"""
    ids: set[str] = set()
    for _ in range(2):
        async with client_of(world.parts()) as client:
            made = await client.post(path, json={"input": "hello"}, headers=KEY)
            ids.add(made.json()["id"])
            ids.add((await client.post(path, json={"input": "hello"}, headers=KEY)).json()["id"])
    assert len(ids) == 1


async def test_a_session_that_has_begun_is_given_back_as_it_is_now(world: World, client: httpx2.AsyncClient) -> None:
    made = (
        await client.post("/v1/sessions", json={"input": "hello", "metadata": {"team": "blue"}}, headers=KEY)
    ).json()
    session = SessionId(made["id"])
    await world.write(session, STARTED, OWNED, *a_turn(session, key="first", question="hello"))
    async with client_of(world.parts()) as other:
        body = {"input": "hello", "metadata": {"team": "blue"}}
        again = await other.post("/v1/sessions", json=body, headers=KEY)
        assert again.status_code == 201
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["run_id"] == made["run_id"]
        assert (again.json()["agent"], again.json()["status"], again.json()["last_seq"]) == ("support", "idle", 15)
        changes: list[dict[str, object]] = [{"input": "bye"}, {"metadata": {}}, {"agent": "other"}]
        for changed in changes:
            refused = await other.post("/v1/sessions", json={**body, **changed}, headers=KEY)
            assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-mismatch"), changed
    assert len(await world.published()) == 1


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ('"quoted"', 202),
        ('"with \\"escapes\\""', 202),
        ("bare-key", 202),
        ("k" * 255, 202),
        ("k" * 256, 400),
        ("", 400),
        ('""', 400),
        ('"open', 400),
        ("caf\xe9", 400),
    ],
)
async def test_a_key_is_taken_quoted_or_bare_up_to_255_characters(
    world: World, client: httpx2.AsyncClient, given: str, status: int
) -> None:
    """protocol:P47"""
    session = await world.session_with(STARTED, OWNED)
    headers = [(b"Idempotency-Key", given.encode("latin-1"))]
    said = await client.post(f"/v1/sessions/{session}/messages", json={"content": "hi"}, headers=headers)
    assert said.status_code == status


async def test_quoted_and_bare_are_the_same_key(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P47"""
    session = await world.session_with(STARTED, OWNED)
    url = f"/v1/sessions/{session}/messages"
    bare = await client.post(url, json={"content": "hi"}, headers={"Idempotency-Key": "a"})
    quoted = await client.post(url, json={"content": "hi"}, headers={"Idempotency-Key": '"a"'})
    assert bare.json() == quoted.json()
