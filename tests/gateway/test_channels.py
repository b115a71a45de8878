"""Several sessions in one stream: each told whole, each frame named, one id for all places."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.support import CLOSED, OWNED, SSE, STARTED, Frame, World, a_turn, a_world, client_of, parse, serving

CLOSED_SESSION = (STARTED, OWNED, CLOSED)


async def some_sessions(world: World, count: int) -> list[str]:
    sessions: list[str] = []
    for number in range(count):
        session = await world.log.create()
        await world.write(session, STARTED, OWNED, *a_turn(session, words=number), CLOSED)
        sessions.append(session)
    return sessions


async def alone(client: httpx2.AsyncClient, session: str) -> list[Frame]:
    answer = await client.get(f"/v1/sessions/{session}/events", headers=SSE)
    return parse(answer.content)


async def together(client: httpx2.AsyncClient, sessions: list[str], after: str = "", **query: str) -> httpx2.Response:
    headers = SSE | ({"Last-Event-ID": after} if after else {})
    return await client.get("/v1/events", headers=headers, params={"sessions": ",".join(sessions), **query})


def of(frames: list[Frame], session: str) -> list[tuple[str, object]]:
    """Give what is told of one session, without its name."""
    found = [frame for frame in frames if frame.data.get("session") == session]
    return [(frame.event, {k: v for k, v in frame.data.items() if k != "session"}) for frame in found]


async def test_each_session_is_told_as_if_it_were_alone(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P85"""
    sessions = await some_sessions(world, 3)
    frames = parse((await together(client, sessions)).content)
    assert (frames[0].event, frames[0].retry, frames[0].id) == ("ready", 2000, None)
    assert [told["session"] for told in frames[0].data["sessions"]] == sessions
    assert [told["status"] for told in frames[0].data["sessions"]] == ["closed"] * 3
    for place, session in enumerate(sessions):
        single = await alone(client, session)
        assert of(frames, session) == of(
            [Frame(one.event, {"session": session, **one.data}, None, None, b"") for one in single[1:]], session
        )
        assert [frame.id and frame.id.split(".")[place] for frame in frames if frame.data.get("session") == session][
            :-1
        ] == [frame.id for frame in single[1:-1]]
    assert frames[-1].event == "end"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cut=st.integers(0, 60), deltas=st.sampled_from(["all", "final"]))
async def test_cut_anywhere_and_resumed_nothing_is_lost_or_repeated(cut: int, deltas: str) -> None:
    """protocol:P85"""
    world = await a_world()
    async with client_of(world.parts()) as client:
        sessions = await some_sessions(world, 3)
        whole = parse((await together(client, sessions, deltas=deltas)).content)
        events = [frame for frame in whole if frame.id is not None]
        seen = events[: min(cut, len(events))]
        answer = await together(client, sessions, str(seen[-1].id) if seen else "", deltas=deltas)
        rest = [frame for frame in parse(answer.content) if frame.id is not None] if answer.status_code == 200 else []
    for session in sessions:
        assert of(seen, session) + of(rest, session) == of(events, session)


async def test_what_happens_in_any_session_is_told_as_it_happens(world: World) -> None:
    """protocol:P85"""
    one, other = await world.session_with(STARTED, OWNED), await world.session_with(STARTED, OWNED)
    async with (
        serving(world.parts()) as served,
        served.client.stream("GET", "/v1/events", headers=SSE, params={"sessions": f"{one},{other}"}) as response,
    ):
        chunks = response.aiter_raw()
        told = b""
        for writes in (other, one, other):
            await world.write(writes, OWNED)
            while told.count(b"event: owner_changed") < 3:
                told += await anext(chunks)
            assert parse(told)[-1].data["session"] == writes
            told = told.replace(b"event: owner_changed", b"event: seen", 1)
        await world.write(one, CLOSED)
        await world.write(other, CLOSED)
        rest = b"".join([chunk async for chunk in chunks])
    assert [frame.data["session"] for frame in parse(rest) if frame.event == "end"] == [one, other]


async def test_all_over_and_all_seen_is_204(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P85"""
    sessions = await some_sessions(world, 2)
    last = parse((await together(client, sessions)).content)
    cursor = [frame.id for frame in last if frame.id is not None][-1]
    assert (await together(client, sessions, str(cursor))).status_code == 204


@pytest.mark.parametrize(
    ("sessions", "after", "status", "code"),
    [
        ("", "", 400, "invalid-query"),
        ("A,A", "", 400, "invalid-query"),
        ("A,x", "", 400, "invalid-id"),
        ("A,B", "1", 400, "invalid-cursor"),
        ("A,B", "1.x", 400, "invalid-cursor"),
        ("A,B", "1.900", 409, "cursor-conflict"),
        ("A,B", "1.1-00000000", 409, "cursor-conflict"),
        ("A,C", "", 404, "unknown-session"),
    ],
)
async def test_one_wrong_session_or_cursor_refuses_the_stream_and_is_named(
    world: World, client: httpx2.AsyncClient, *, sessions: str, after: str, status: int, code: str
) -> None:
    """protocol:P85"""
    names: dict[str, str] = {
        "A": await world.session_with(*CLOSED_SESSION),
        "B": await world.session_with(*CLOSED_SESSION),
    }
    names["C"] = "ses_" + "0" * 26
    named = [names.get(name, name) for name in sessions.split(",")]
    answer = await together(client, named, after)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status in (404, 409):
        assert answer.json()["session"] == named[-1]


async def test_too_many_sessions_are_refused(world: World) -> None:
    """protocol:P85"""
    async with client_of(world.parts(channels_max=2)) as client:
        assert (await together(client, ["ses_" + str(n) * 26 for n in range(3)])).status_code == 400
