"""What a client may choose of a session's events: which types, up to where, how fast, and whether to wait."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.accept import Record, genesis
from playhead.codec import Context
from playhead.commands import CancelRun
from playhead.events import Json, RunCompleted, RunStarted, Usage, UserMessage
from playhead.ids import SessionId
from playhead_gateway.pace import SILENCE_SECONDS_MAX, Pace
from playhead_gateway.projections.native import DELTAS, Choice, Native
from playhead_gateway.projections.sse import Projection

from tests.gateway.support import (
    CLOSED,
    CODEC,
    MESSAGE,
    NOW,
    OWNED,
    RUN,
    SSE,
    STARTED,
    Frame,
    World,
    a_turn,
    deltas,
    parse,
    serving,
    watching,
)

SOON = 5.0


async def a_closed_session(world: World) -> SessionId:
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    return session


async def told(client: httpx2.AsyncClient, session: str, **query: Any) -> list[Frame]:
    answer = await client.get(f"/v1/sessions/{session}/events", headers=SSE, params=query)
    assert answer.status_code == 200
    return parse(answer.content)


async def test_final_deltas_leave_out_what_a_finished_message_supersedes(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P80"""
    session = await a_closed_session(world)
    everything = await told(client, session)
    final = await told(client, session, deltas="final")
    assert any(frame.event in DELTAS for frame in everything)
    assert final == [frame for frame in everything if frame.event not in DELTAS]
    page = (await client.get(f"/v1/sessions/{session}/events", params={"deltas": "final"})).json()
    assert [event["seq"] for event in page["events"]] == [frame.data["seq"] for frame in final[1:-1]]
    assert await told(client, session, deltas="all") == everything


@pytest.mark.parametrize(
    ("query", "streams"),
    [
        ({"deltas": "some"}, True),
        ({"deltas": "some"}, False),
        ({"until": "x"}, True),
        ({"until": "run_x"}, False),
        ({"speed": "0"}, True),
        ({"speed": "1001"}, True),
        ({"speed": "nan"}, True),
        ({"wait": "61"}, False),
        ({"wait": "-1"}, False),
    ],
)
async def test_what_makes_no_sense_is_refused(
    world: World, client: httpx2.AsyncClient, query: dict[str, str], *, streams: bool
) -> None:
    session = await a_closed_session(world)
    url = f"/v1/sessions/{session}/events"
    answer = await client.get(url, headers=SSE if streams else {}, params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-query")
    assert answer.json()["parameter"] == next(iter(query))


async def test_a_stream_until_an_event_ends_there_and_has_nothing_left_then(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P81"""
    session = await a_closed_session(world)
    everything = await told(client, session)
    for until in (1, 5, len(everything) - 2):
        frames = await told(client, session, until=until)
        assert frames[1:-1] == everything[1 : until + 1]
        assert (frames[-1].event, frames[-1].id) == ("end", None)
        assert frames[-1].data == {"session": session, "last_seq": until, "reason": "until"}
        again = SSE | {"Last-Event-ID": str(frames[-2].id)}
        url = f"/v1/sessions/{session}/events"
        assert (await client.get(url, headers=again, params={"until": until})).status_code == 204
        page = (await client.get(url, params={"until": until})).json()
        assert [event["seq"] for event in page["events"]] == list(range(1, until + 1))


async def test_a_stream_until_a_run_waits_for_its_end_and_knows_one_that_is_over(world: World) -> None:
    """protocol:P81"""
    session = await world.session_with(
        STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"Hi"')), RunStarted(RUN, MESSAGE)
    )
    async with serving(world.parts()) as served:
        url = f"/v1/sessions/{session}/events?until={RUN}"
        async with watching(served.client, session, until=RUN) as stream:
            for name in ("ready", "session_started", "owner_changed", "user_message", "run_started"):
                assert (await stream.next()).event == name
            await world.write(session, *deltas(1), RunCompleted(RUN, Usage()), OWNED)
            assert [(await stream.next()).event for _ in range(3)] == ["text_delta", "run_completed", "end"]
        over = parse((await served.client.get(url, headers=SSE)).content)
        assert [frame.event for frame in over[-2:]] == ["run_completed", "end"]
        beyond = SSE | {"Last-Event-ID": "6"}
        late = parse((await served.client.get(url, headers=beyond)).content)
        assert [frame.event for frame in late] == ["ready", "owner_changed", "end"]
        assert (await served.client.get(url, headers=SSE | {"Last-Event-ID": "7"})).status_code == 204


async def test_a_paced_stream_tells_the_same_and_takes_its_time(world: World) -> None:
    """protocol:P82"""
    session = await world.log.create()
    head = await world.log.end(session)

    for place, event in enumerate((STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"Hi"')), CLOSED)):
        records = CODEC.seal(head, (event,), Context(session, 1, None, NOW + place * 1_000_000))
        head = await world.log.append(session, head, records)
    async with serving(world.parts()) as served:
        url = f"/v1/sessions/{session}/events"
        everything = (await served.client.get(url, headers=SSE)).content
        loop = asyncio.get_running_loop()
        begun = loop.time()
        paced = (await served.client.get(url, headers=SSE, params={"speed": "10"})).content
        assert 0.29 <= loop.time() - begun < SOON
        assert paced == everything


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20), st.floats(0.01, 1000), st.floats(0, 1e6))
def test_a_pace_never_waits_longer_than_was_recorded_nor_than_its_bound(
    gaps: list[int], speed: float, now: float
) -> None:
    pace, at = Pace(speed), NOW
    for place, gap in enumerate(gaps):
        at += gap
        frame = b'event: x\ndata: {"seq":1,"at":%d}\nid: %d-00000000\n\n' % (at, place)
        wait = pace.wait(frame, now)
        allowed = 0 if place == 0 else min(max(gap, 0) / 1e6 / speed, SILENCE_SECONDS_MAX)
        assert wait <= allowed + 1e-3
        now += max(wait, 0)
        assert pace.wait(frame, now) <= 1e-3


async def test_a_page_that_would_be_empty_waits_for_what_comes(world: World) -> None:
    """protocol:P83"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        url = f"/v1/sessions/{session}/events"
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(
                served.client.get(url, params={"after": "2", "wait": "5", "types": "text_delta"})
            )
            await world.write(session, RunStarted(RUN, MESSAGE))
            await world.write(session, *deltas(1))
        page = waiting.result().json()
        assert [event["seq"] for event in page["events"]] == [4]
        assert page["next_after"].startswith("4-")
        begun = asyncio.get_running_loop().time()
        nothing = (await served.client.get(url, params={"after": "4", "wait": "0.05"})).json()
        assert asyncio.get_running_loop().time() - begun >= 0.05
        assert (nothing["events"], nothing["last_seq"]) == ([], 4)
        await world.write(session, CLOSED)
        over = await asyncio.wait_for(served.client.get(url, params={"after": "5", "wait": "60"}), SOON)
        assert over.json()["events"] == []


async def test_leaving_cancels_only_where_that_was_asked(world: World) -> None:
    """protocol:P84"""
    async with serving(world.parts()) as served:
        for asked in (True, False):
            body = {"input": "Hi", "cancel_on_disconnect": asked}
            async with served.client.stream("POST", "/v1/stream", json=body) as response:
                session = response.headers["content-location"].split("/")[3]
                await anext(response.aiter_raw())
            found: list[CancelRun] = []
            with_time = asyncio.get_running_loop().time() + (SOON if asked else 0.2)
            while not found and asyncio.get_running_loop().time() < with_time:
                await asyncio.sleep(0.01)
                found = [
                    one for one in await world.published() if isinstance(one, CancelRun) and one.session == session
                ]
            assert [one.reason for one in found] == (["disconnected"] if asked else [])


@given(st.data())
def test_a_choice_says_the_same_however_frames_come(data: st.DataObject) -> None:
    session = SessionId("ses_" + "0" * 26)

    records: list[Record] = CODEC.seal(
        genesis(session), [STARTED, OWNED, *a_turn(session), CLOSED], Context(session, 1, None, NOW)
    )
    frames = [Projection(CODEC).frame(record) for record in records]
    until = data.draw(st.none() | st.integers(1, len(frames)))
    choice = Choice.of(
        frozenset(data.draw(st.sets(st.sampled_from(["text_delta", "run_started"])))), deltas=data.draw(st.booleans())
    )
    choice = Choice(choice.only, choice.never, until)

    def said(cuts: list[int]) -> bytes:
        dialect, found = Native(session, b"", choice, lambda: 0), b""
        for one, other in zip([0, *cuts], [*cuts, len(frames)], strict=True):
            if not dialect.done:
                found += dialect.say(frames[one:other])
        return found

    cuts = sorted(data.draw(st.lists(st.integers(0, len(frames)), max_size=5)))
    assert said(cuts) == said([])
