"""The event stream: what is said first and last, replay, live, resuming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playhead.adapters.memory import MemorySessionLog
from playhead.commands import StartSession
from playhead.errors import CursorExpired
from playhead.events import Event, Json, RunCompleted, RunStarted, Usage, UserMessage
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import Page

from tests.gateway.support import (
    CLOSED,
    MESSAGE,
    OWNED,
    RUN,
    SSE,
    STARTED,
    Watching,
    World,
    a_turn,
    a_world,
    client_of,
    deltas,
    events_of,
    parse,
    serving,
    watching,
)


async def whole(client: httpx2.AsyncClient, session: str, after: str = "", **query: str) -> bytes:
    """Give the stream of a closed session, from a cursor on."""
    headers = SSE | ({"Last-Event-ID": after} if after else {})
    answer = await client.get(f"/v1/sessions/{session}/events", headers=headers, params=query)
    assert answer.status_code == 200
    return answer.content


async def test_a_finished_session_is_ready_its_events_and_end(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P32 protocol:P35 protocol:P37"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    answer = await client.get(f"/v1/sessions/{session}/events", headers=SSE)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.startswith(b"event: ready\nretry: 2000\ndata: {")
    ready, *events, end = parse(answer.content)
    assert (ready.id, ready.retry) == (None, 2000)
    assert ready.data == {"session": session, "status": "closed", "first_seq": 1, "last_seq": 16}
    assert [event.data["seq"] for event in events] == list(range(1, 17))
    assert [event.event for event in events] == [event.data["type"] for event in events]
    assert (end.event, end.id, end.data) == ("end", None, {"session": session, "last_seq": 16})
    assert b"\r" not in answer.content


async def test_ready_says_what_follows_the_cursor(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P32"""
    session = await world.session_with(STARTED, OWNED, *deltas(3), CLOSED)
    ready, first, *_ = parse(await whole(client, session, "2"))
    assert ready.data == {"session": session, "status": "closed", "first_seq": 3, "last_seq": 6}
    assert first.data["seq"] == 3


def some_log(session: SessionId, turns: int, words: int) -> list[Event]:
    events: list[Event] = [STARTED, OWNED]
    for turn in range(turns):
        events.extend(a_turn(session, key=f"turn {turn}", question="\n\n\u2028é", words=words))
    return [*events, CLOSED]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.integers(0, 2), words=st.integers(0, 6), ring=st.sampled_from([1, 3_000, 10_000_000]))
def test_resuming_after_any_event_gives_exactly_the_rest_through_any_replica(turns: int, words: int, ring: int) -> None:
    """protocol:P40"""

    async def check() -> None:
        world = await a_world()
        session = await world.log.create()
        await world.write(session, *some_log(session, turns, words))
        async with client_of(world.parts()) as one, client_of(world.parts(ring_bytes_max=ring)) as other:
            stream = await whole(one, session)
            assert await whole(other, session) == stream
            _, *events, end = parse(stream)
            for seen, event in enumerate(events, start=1):
                assert event.id is not None
                if seen == len(events):
                    assert (
                        await one.get(f"/v1/sessions/{session}/events?after={event.id}", headers=SSE)
                    ).status_code == 204
                    continue
                rest = b"".join(frame.raw for frame in [*events[seen:], end])
                for client in (one, other):
                    resumed = await whole(client, session, event.id)
                    assert resumed.endswith(rest)
                    assert len(parse(resumed)) == len(events) - seen + 2
            # A replica that has nothing of the session in memory serves any cursor as well.
            for seen in (1, len(events) - 1):
                async with client_of(world.parts()) as fresh:
                    resumed = await whole(fresh, session, events[seen - 1].id or "")
                    assert resumed.endswith(b"".join(frame.raw for frame in [*events[seen:], end]))

    asyncio.run(check())


async def test_the_header_wins_over_the_query_and_both_names_are_taken(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P34"""
    session = await world.session_with(STARTED, OWNED, *deltas(3), CLOSED)
    for headers, query, first in (
        ({"Last-Event-ID": "4"}, {"after": "2"}, 5),
        ({}, {"after": "2"}, 3),
        ({}, {"last_event_id": "3"}, 4),
        ({"Last-Event-ID": ""}, {"after": "2"}, 3),
    ):
        answer = await client.get(f"/v1/sessions/{session}/events", headers=SSE | headers, params=query)
        assert parse(answer.content)[1].data["seq"] == first


async def test_a_finished_stream_with_nothing_left_is_204_whoever_asks(world: World) -> None:
    """protocol:P36"""
    session = await world.session_with(STARTED, OWNED, CLOSED)
    for opened_before in (False, True):
        async with client_of(world.parts()) as client:
            if opened_before:
                await whole(client, session)
            answer = await client.get(f"/v1/sessions/{session}/events?after=3", headers=SSE)
            assert (answer.status_code, answer.content) == (204, b"")


async def test_a_filter_leaves_out_the_other_types_and_keeps_ids(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P41"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    every = events_of(parse(await whole(client, session)))
    some = events_of(parse(await whole(client, session, types="run_started,run_completed")))
    assert [frame.raw for frame in some] == [
        frame.raw for frame in every if frame.event in ("run_started", "run_completed")
    ]


async def test_what_happens_while_one_watches_comes_at_once_and_in_order(world: World) -> None:
    """protocol:P33"""
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, watching(served.client, session) as stream:
        ready, *events = await stream.take(3)
        assert (ready.data["status"], ready.data["last_seq"]) == ("idle", 2)
        assert [event.data["seq"] for event in events] == [1, 2]
        for number, event in enumerate(deltas(20), start=3):
            await world.write(session, event)
            assert (await stream.next()).data["seq"] == number
        await world.write(session, CLOSED)
        assert [frame.event for frame in await stream.rest()] == ["session_closed", "end"]


async def test_catching_up_meets_what_happens_meanwhile_without_a_seam(world: World) -> None:
    """protocol:P33"""
    session = await world.session_with(STARTED, OWNED, *deltas(2000))

    async def go_on() -> None:
        for _ in range(100):
            await world.write(session, *deltas(20))
            await asyncio.sleep(0)
        await world.write(session, CLOSED)

    async def watch(client: httpx2.AsyncClient, after: int) -> None:
        async with watching(client, session, after=after) as stream:
            seqs = [frame.data["seq"] for frame in events_of(await stream.rest())]
        assert seqs == list(range(after + 1, 4004))

    # A ring that holds some dozens of events: viewers start behind it, and meet it while it moves.
    async with serving(world.parts(ring_bytes_max=30_000)) as served, asyncio.TaskGroup() as group:
        for after in (1990, 0, 1, 500, 1999, 2002):
            group.create_task(watch(served.client, after))
        group.create_task(go_on())


async def test_two_gateways_give_the_same_bytes(world: World) -> None:
    """protocol:P40"""
    session = await world.session_with(STARTED, OWNED)
    async with (
        serving(world.parts()) as one,
        serving(world.parts()) as other,
        watching(one.client, session) as first,
        watching(other.client, session) as second,
    ):
        await world.write(session, *a_turn(session), CLOSED)
        await first.rest()
        await second.rest()
        assert first.raw == second.raw


async def test_silence_is_filled_with_heartbeats(world: World) -> None:
    """protocol:P38"""
    session = await world.session_with(STARTED)
    async with serving(world.parts(heartbeat_seconds=0.05)) as served, watching(served.client, session) as stream:
        await stream.until(b"\n\n: hb\n\n: hb\n\n")
        await world.write(session, OWNED)
        assert [frame.event for frame in await stream.take(3)] == ["ready", "session_started", "owner_changed"]


async def test_a_filtered_stream_is_kept_alive_too(world: World) -> None:
    session = await world.session_with(STARTED)

    async def talk() -> None:
        while True:
            await world.write(session, *deltas(1))
            await asyncio.sleep(0.005)

    async with serving(world.parts(heartbeat_seconds=0.05)) as served, asyncio.TaskGroup() as group:
        talking = group.create_task(talk())
        async with watching(served.client, session, types="run_started") as stream:
            await stream.until(b": hb\n\n: hb\n\n")
            assert b"id:" not in stream.raw
        talking.cancel()


async def test_a_stream_can_be_begun_with_a_message(world: World) -> None:
    """protocol:P54"""
    async with serving(world.parts()) as served:
        request = served.client.stream("POST", "/agent/stream", json={"input": "hello"})
        async with request as response:
            assert response.headers["content-type"] == "text/event-stream"
            stream = Watching(response)
            ready = await stream.next()
            session = SessionId(ready.data["session"])
            assert ready.data == {"session": session, "status": "running", "first_seq": 1, "last_seq": 0}
            assert response.headers["content-location"] == f"/v1/sessions/{session}/events"
            (asked,) = await world.published()
            assert isinstance(asked, StartSession)
            assert asked.session == session
            await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
            frames = await stream.rest()
            assert [frame.data["seq"] for frame in events_of(frames)] == list(range(1, 17))


async def test_a_key_resumes_the_stream_that_it_began(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P45 protocol:P54"""
    headers, body = {"Idempotency-Key": "k"}, {"input": "hello", "metadata": {"team": "blue"}}
    made = (await client.post("/v1/sessions", json=body, headers=headers)).json()
    session = SessionId(made["id"])
    await world.write(session, STARTED, OWNED, *a_turn(session, key="k"), CLOSED)
    again = await client.post("/v1/stream", json=body, headers=headers | {"Last-Event-ID": "10"})
    ready, first, *_ = parse(again.content)
    assert (ready.data["first_seq"], first.data["seq"]) == (11, 11)
    assert len(await world.published()) == 1


async def test_the_status_of_an_open_session_is_that_of_its_log(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, watching(served.client, session) as stream:
        await stream.take(3)
        await world.write(session, UserMessage(RUN, MESSAGE, Json('"x"')), RunStarted(RUN, MESSAGE))
        await stream.take(2)
        assert (await served.client.get(f"/v1/sessions/{session}")).json()["status"] == "running"
        async with watching(served.client, session, after=2) as late:
            assert (await late.next()).data["status"] == "running"
        await world.write(session, RunCompleted(RUN, Usage()))
        await stream.take(1)
        assert (await served.client.get(f"/v1/sessions/{session}")).json()["status"] == "idle"


@pytest.mark.parametrize("after", [0, 2, 3])
async def test_a_viewer_of_a_running_session_that_resumes_is_told_that_it_runs(world: World, after: int) -> None:
    session = await world.session_with(STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"x"')), RunStarted(RUN, MESSAGE))
    async with serving(world.parts()) as served, watching(served.client, session, after=after) as stream:
        ready = await stream.next()
        assert ready.data == {"session": session, "status": "running", "first_seq": after + 1, "last_seq": 4}


async def test_a_session_that_is_removed_ends_its_streams(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        async with watching(served.client, session) as stream:
            await stream.take(3)
            await world.log.delete(session)
            assert [frame.event for frame in await stream.rest()] == ["draining"]
        assert (await served.client.get(f"/v1/sessions/{session}/events", headers=SSE)).status_code == 404


class ErasedLog(MemorySessionLog):
    """A log whose events up to one seq were erased."""

    erased_to = 0

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        if after.seq < self.erased_to:
            raise CursorExpired(str(after), self.erased_to + 1)
        async with aclosing(super().read(session, after, follow=follow)) as pages:
            async for page in pages:
                yield page


async def test_a_cursor_whose_events_were_erased_is_410_and_the_last_good_one_still_works(world: World) -> None:
    log = world.log = ErasedLog()
    session = await world.session_with(STARTED, OWNED, *deltas(5), CLOSED)
    log.erased_to = 4
    url = f"/v1/sessions/{session}/events"
    async with client_of(world.parts()) as client:
        for _ in range(2):
            for after in (0, 3):
                for headers in (SSE, {}):
                    gone = await client.get(f"{url}?after={after}", headers=headers)
                    assert (gone.status_code, gone.json()["code"]) == (410, "cursor-expired")
                    assert gone.json()["first_seq"] == 5
            _, first, *_ = parse((await client.get(f"{url}?after=4", headers=SSE)).content)
            assert first.data["seq"] == 5


async def test_a_history_that_the_log_no_longer_has_is_not_what_is_shown(
    world: World, client: httpx2.AsyncClient
) -> None:
    session = await world.session_with(STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"x"')), RunStarted(RUN, MESSAGE))
    cursor = (await client.get(f"/v1/sessions/{session}")).json()["cursor"]
    await world.log.delete(session)
    await world.log.create(session)
    await world.write(session, STARTED, *deltas(4))
    assert (await client.get(f"/v1/sessions/{session}")).json()["status"] == "idle"
    assert (await client.get(f"/v1/sessions/{session}/events?after={cursor}", headers=SSE)).status_code == 409


async def test_one_append_that_is_larger_than_what_is_kept_drops_nobody(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(ring_bytes_max=1_000)) as served, watching(served.client, session) as stream:
        await stream.take(3)
        await world.write(session, *deltas(300))
        assert [frame.data["seq"] for frame in await stream.take(300)] == list(range(3, 303))
