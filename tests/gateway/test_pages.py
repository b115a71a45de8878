"""Events as JSON pages: the same events as the stream, a cursor for the next page."""

from __future__ import annotations

import httpx2
import orjson
import pytest
from playhead.accept import Record, hash_of
from playhead.codec import Context

from tests.gateway.support import CLOSED, CODEC, NOW, OWNED, SSE, STARTED, World, a_turn, deltas, events_of, parse


async def test_pages_give_the_whole_log_in_order_whatever_their_size(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P4 protocol:P42"""
    session = await world.session_with(STARTED, OWNED, *deltas(20))
    end = await world.log.end(session)
    for limit in (1, 7, 22, 100):
        after, seqs = "0", list[int]()
        while True:
            page = (await client.get(f"/v1/sessions/{session}/events?after={after}&limit={limit}")).json()
            assert page["last_seq"] == 22
            if not page["events"]:
                assert page["next_after"] == after
                break
            seqs.extend(event["seq"] for event in page["events"])
            after = page["next_after"]
        assert seqs == list(range(1, 23))
        assert after == str(end.cursor)


async def test_a_page_has_the_very_bytes_of_the_stream(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P42"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session), CLOSED)
    url = f"/v1/sessions/{session}/events"
    stream = (await client.get(url, headers=SSE)).content
    datas = [frame.raw.split(b"\n")[1].removeprefix(b"data: ") for frame in events_of(parse(stream))]
    assert (await client.get(url)).content.startswith(b'{"events":[' + b",".join(datas) + b"],")


async def test_a_filtered_page_goes_on_beyond_what_it_left_out(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P42"""
    session = await world.log.create()
    await world.write(session, STARTED, OWNED, *a_turn(session, words=50))
    url = f"/v1/sessions/{session}/events"
    page = (await client.get(f"{url}?types=run_started,tool_call,no_such_type&limit=1")).json()
    assert [event["type"] for event in page["events"]] == ["run_started"]
    page = (await client.get(f"{url}?types=run_started,tool_call&after={page['next_after']}")).json()
    assert [event["type"] for event in page["events"]] == ["tool_call"]
    assert page["next_after"] == str((await world.log.end(session)).cursor)


async def test_an_empty_session_is_an_empty_page(world: World, client: httpx2.AsyncClient) -> None:
    session = await world.log.create()
    page = await client.get(f"/v1/sessions/{session}/events")
    assert page.json() == {"events": [], "next_after": "0", "last_seq": 0}


@pytest.mark.parametrize("accept", [{}, SSE])
@pytest.mark.parametrize(
    ("cursor", "refusal"),
    [
        ("7", (409, "cursor-conflict")),
        ("999999999", (409, "cursor-conflict")),
        ("2-00000000", (409, "cursor-conflict")),
        ("x", (400, "invalid-cursor")),
        ("2-XYZ", (400, "invalid-cursor")),
        ("2 ", (400, "invalid-cursor")),
        ("1" * 1000, (400, "invalid-cursor")),
    ],
)
async def test_a_cursor_that_is_not_on_the_log_is_never_skipped(
    world: World, client: httpx2.AsyncClient, accept: dict[str, str], cursor: str, refusal: tuple[int, str]
) -> None:
    """protocol:P6"""
    session = await world.session_with(STARTED, OWNED, CLOSED)
    url = f"/v1/sessions/{session}/events"
    answer = await client.get(url, params={"after": cursor}, headers=accept)
    assert (answer.status_code, answer.json()["code"]) == refusal
    if refusal[0] == 409:
        assert answer.json()["last_seq"] == 3
        # Also when the session is open already, and its events come from memory.
        await client.get(url, headers=SSE)
        again = await client.get(url, params={"after": cursor}, headers=accept)
        assert (again.status_code, again.json()["code"]) == refusal


async def test_an_event_of_a_newer_version_is_left_out_and_keeps_its_place(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P13"""
    session = await world.session_with(STARTED, OWNED)
    head = await world.log.end(session)
    (known,) = CODEC.seal(head, deltas(1), Context(session, 1, None, NOW))
    value = known.value[:2] + bytes(8) + known.value[10:]
    await world.log.append(session, head, [Record(known.seq, known.prev, hash_of(value), value)])
    await world.write(session, CLOSED)
    url = f"/v1/sessions/{session}/events"
    stream = (await client.get(url, headers=SSE)).content
    assert [frame.data["seq"] for frame in events_of(parse(stream))] == [1, 2, 4]
    page = orjson.loads((await client.get(url)).content)
    assert [event["seq"] for event in page["events"]] == [1, 2, 4]
    assert (await client.get(f"{url}?after=3", headers=SSE)).content.count(b"\nid: ") == 1
    assert (await client.get(f"/v1/sessions/{session}")).json()["status"] == "closed"
