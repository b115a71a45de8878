"""A session's log as a durable stream, where the protocol's own suite says nothing: cursors, ends, erasure, words."""

from __future__ import annotations

import asyncio

import httpx2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.accept import Record, hash_of
from playhead.events import TextDelta
from playhead.ids import BEGINNING, Cursor, Seq, SessionId, session_id
from playhead_gateway.projections.durable import DurableEvents, cursor_after, cursor_at, offset_of, place_of

from tests.clients.support import a_session, shown
from tests.gateway.agui_model import frames_of
from tests.gateway.support import CLOSED, NOW, OWNED, RUN, STARTED, World, a_turn, client_of, deltas, serving
from tests.gateway.test_streams import ErasedLog


def url(session: SessionId) -> str:
    return f"/v1/stream/{session}"


async def test_chunks_one_after_the_other_are_the_log_and_only_the_last_says_so(world: World) -> None:
    session = await a_session(world, closed=False)
    events = [event for _, event in await shown(world, session)]
    async with client_of(world.parts(page_events_max=10)) as client:
        found: list[object] = []
        offset, ends = "-1", list[bool]()
        while not (ends and ends[-1]):
            answer = await client.get(url(session), params={"offset": offset})
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["stream-next-offset"] > offset
            offset = answer.headers["stream-next-offset"]
            ends.append("stream-up-to-date" in answer.headers)
            assert "stream-closed" not in answer.headers
            found += answer.json()
    assert found == events
    assert len(ends) == -(-len(events) // 10)
    assert not any(ends[:-1])


async def test_a_chunk_ends_with_the_event_that_makes_it_large_enough(client: httpx2.AsyncClient, world: World) -> None:
    session = await world.session_with(*[TextDelta(RUN, 1, 1, "x" * 400_000)] * 4)
    answer = await client.get(url(session))
    assert ([event["seq"] for event in answer.json()], "stream-up-to-date" in answer.headers) == ([1, 2, 3], False)


async def test_an_offset_is_a_cursor_and_a_cursor_an_offset(client: httpx2.AsyncClient, world: World) -> None:
    session = await a_session(world)
    (third, _), (_, fourth) = (await shown(world, session))[2:4]
    for offset in (third, "3", "0000000000000003"):
        answer = await client.get(url(session), params={"offset": offset})
        assert answer.json()[0] == fourth
    end = (await client.head(url(session))).headers["stream-next-offset"]
    page = (await client.get(f"/v1/sessions/{session}/events", params={"after": end})).json()
    assert (page["events"], place_of(end)) == ([], place_of(page["next_after"]))


@pytest.mark.parametrize("query", ["", "&live=long-poll", "&live=sse"])
async def test_an_offset_that_is_not_on_the_log_is_never_skipped_over(
    client: httpx2.AsyncClient, world: World, query: str
) -> None:
    session = await world.session_with(STARTED, OWNED)
    for offset in ("3", "9", "2-00000000"):
        answer = await client.get(f"{url(session)}?offset={offset}{query}")
        assert (answer.status_code, answer.json()["code"]) == (409, "cursor-conflict")
        assert answer.json()["last_seq"] == 2
        assert f"cursor {offset} " in answer.json()["detail"]


async def test_names_of_no_session_and_words_of_no_meaning_are_refused(
    client: httpx2.AsyncClient, world: World
) -> None:
    session = await world.session_with(STARTED, OWNED)
    for method in ("GET", "HEAD"):
        assert (await client.request(method, url(session_id(bytes(16))))).status_code == 404
        assert (await client.request(method, "/v1/stream/nonsense")).status_code == 400
    for query in (
        "offset=x",
        "offset=-2",
        "live=websocket&offset=-1",
        "live=long-poll&offset=-1&cursor=x",
        "offset=-1&offset=1",
    ):
        assert (await client.get(f"{url(session)}?{query}")).status_code == 400
    assert (await client.post(url(session), json={})).status_code == 405


async def test_what_a_client_has_is_not_sent_again_until_there_is_more_or_nothing_will_follow(
    client: httpx2.AsyncClient, world: World
) -> None:
    session = await world.session_with(STARTED, OWNED)
    tags = list[str]()
    for more in ((), deltas(1), (CLOSED,)):
        if more:
            await world.write(session, *more)
        answer = await client.get(url(session))
        assert answer.headers["cache-control"] == "private, no-cache"
        tags.append(answer.headers["etag"])
        same = await client.get(url(session), headers={"If-None-Match": f'"other", W/{tags[-1]}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tags[-1])
        assert same.headers["stream-next-offset"] == answer.headers["stream-next-offset"]
    assert len(set(tags)) == 3
    at_end = await client.get(url(session), params={"offset": answer.headers["stream-next-offset"]})
    assert (at_end.json(), at_end.headers["stream-closed"], at_end.headers["etag"][-3:]) == ([], "true", ':c"')


async def test_what_was_erased_is_gone_and_what_follows_it_is_not(world: World) -> None:
    log = world.log = ErasedLog()
    session = await a_session(world)
    events = [event for _, event in await shown(world, session)]
    log.erased_to = 5
    async with client_of(world.parts()) as client:
        for offset in ("-1", "4"):
            answer = await client.get(url(session), params={"offset": offset})
            assert (answer.status_code, answer.json()["code"], answer.json()["first_seq"]) == (410, "cursor-expired", 6)
        for offset in (5, 6):
            assert (await client.get(url(session), params={"offset": offset})).json() == events[offset:]


async def test_an_event_that_cannot_be_shown_is_passed_by(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    head = await world.log.end(session)
    noise = b"\xc3\x01 of a schema that nobody knows"
    await world.log.append(session, head, [Record(Seq(3), head.hash, hash_of(noise), noise)])
    async with serving(world.parts(wait_seconds_max=0.2)) as served:
        answer = await served.client.get(url(session), params={"offset": "2"})
        assert (answer.json(), "stream-up-to-date" in answer.headers) == ([], True)
        offset = answer.headers["stream-next-offset"]
        assert place_of(offset) == (await world.log.end(session)).cursor
        polled = await served.client.get(url(session), params={"offset": "2", "live": "long-poll"})
        assert (polled.status_code, polled.headers["stream-next-offset"]) == (200, offset)
        async with served.client.stream("GET", url(session), params={"offset": "2", "live": "sse"}) as response:
            told = await anext(response.aiter_raw())
        assert told.startswith(b"event: control\n")
        assert b'"streamNextOffset":"0000000000000003"' in told
        assert (await served.client.get(url(session), params={"offset": "0000000000000003"})).json() == []


async def test_a_gateway_that_drains_lets_followers_go_without_a_word(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with (
        serving(world.parts()) as served,
        served.client.stream("GET", url(session), params={"offset": "-1", "live": "sse"}) as response,
    ):
        chunks = response.aiter_raw()
        told = await anext(chunks)
        served.stop.set()
        async with asyncio.timeout(5):
            assert [chunk async for chunk in chunks] == []
    assert told.count(b"event: control") == 1
    assert b'"streamClosed"' not in told


# --- words -------------------------------------------------------------------------------------------------------


class Known:
    """An end of a log."""

    def __init__(self, last_seq: int, *, closed: bool) -> None:
        self.last_seq = last_seq
        self.closed = closed


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_the_frames_come_the_client_gets_each_event_once_and_an_offset_to_go_on_from(
    data: st.DataObject,
) -> None:
    session = session_id(bytes(16))
    frames = frames_of([STARTED, OWNED, *a_turn(session), CLOSED])
    hidden = data.draw(st.sets(st.integers(0, len(frames) - 2)))
    frames = [b"" if place in hidden else frame for place, frame in enumerate(frames)]
    dialect = DurableEvents(BEGINNING, Known(len(frames), closed=True), lambda: 7)
    assert dialect.opening() == b""
    seqs, offsets, place = list[int](), list[str](), 0
    while place < len(frames):
        count = data.draw(st.integers(1, len(frames) - place))
        *told, control = dialect.say(frames[place : place + count]).removesuffix(b"\n\n").split(b"\n\n")
        place += count
        for block in told:
            seqs += [event["seq"] for event in orjson.loads(block.removeprefix(b"event: data\ndata:"))]
        said = orjson.loads(control.removeprefix(b"event: control\ndata:"))
        offsets.append(said["streamNextOffset"])
        found = place_of(offsets[-1])
        assert found is not None
        assert found.seq == place
        ends = place == len(frames)
        assert said == {"streamNextOffset": offsets[-1]} | (
            {"upToDate": True, "streamClosed": True} if ends else {"streamCursor": "7"}
        )
        assert dialect.done == ends
    assert seqs == [place + 1 for place in range(len(frames)) if place not in hidden]
    assert offsets == sorted(offsets)


def test_who_is_at_the_end_is_told_so_at_once() -> None:
    waits = DurableEvents(Cursor(Seq(3)), Known(3, closed=False), lambda: 7)
    told = b'event: control\ndata:{"streamNextOffset":"0000000000000003","streamCursor":"7","upToDate":true}\n\n'
    assert waits.opening() == told
    over = DurableEvents(Cursor(Seq(3)), Known(3, closed=True), lambda: 7)
    assert over.opening() == b""
    assert b'"streamClosed":true' in over.ending(3)
    assert b'"streamCursor"' not in over.ending(3)


@given(st.integers(0, 10**17), st.integers(0, 10**17), st.sampled_from([None, "00000000", "9f3a2c41"]))
def test_offsets_sort_as_the_log_does_and_are_read_back(one: int, other: int, tag: str | None) -> None:
    one, other = one % 10**16, other % 10**16
    assert (offset_of(Cursor(Seq(one), tag)) < offset_of(Cursor(Seq(other)))) == (one < other)
    place = Cursor(Seq(one), tag if one else None)
    assert place_of(offset_of(place)) == place


@given(st.integers(0, 2 * NOW), st.integers(0, 10**12), st.integers(1, 180))
def test_a_stream_cursor_is_always_past_the_one_before(at: int, given_one: int, jitter: int) -> None:
    assert cursor_after(None, at, jitter) == cursor_at(at)
    assert cursor_after(given_one, at, jitter) > given_one
    assert cursor_after(given_one, at, jitter) >= cursor_at(at)
