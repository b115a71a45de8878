"""The watcher: reconnecting, resuming, and refusing a stream that is not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.errors import PlayheadError, Unavailable
from playhead_cli.client import Refused
from playhead_cli.watch import Dropped, Ended, Opened, Patience, Seen, Told, backoff, watch

from tests.cli.fake_gateway import SESSION, FakeGateway, answer, end, event, fake_gateway, ready, stream

QUICK = Patience(first_seconds=0.001, most_seconds=0.002, silence_seconds=2.0, lost_seconds=0.05)


async def collect(fake: FakeGateway, after: str | None = None, *, until: Callable[[Seen], bool]) -> list[Seen]:
    seen = list[Seen]()
    async with (
        asyncio.timeout(5),
        httpx2.AsyncClient(base_url=fake.url, trust_env=False) as http,
        aclosing(watch(http, SESSION, after, patience=QUICK, chance=lambda: 1.0)) as telling,
    ):
        async for one in telling:
            seen.append(one)
            if until(one):
                break
    return seen


def told(seen: list[Seen]) -> list[int]:
    return [one.event["seq"] for one in seen if isinstance(one, Told)]


def ended(seen: Seen) -> bool:
    return isinstance(seen, Ended)


async def test_a_stream_that_breaks_is_resumed_after_the_last_whole_event():
    broken = stream(ready(), event(1, "text_delta", text="a"), event(2, "text_delta", text="b")[:-9])
    async with fake_gateway(broken, stream(ready(), event(2, "text_delta", text="b"), end())) as fake:
        seen = await collect(fake, until=ended)
    assert told(seen) == [1, 2]
    assert [headers.get("last-event-id") for _, headers, _ in fake.asked] == [None, "1-00000001"]
    assert [type(one) for one in seen] == [Opened, Told, Dropped, Opened, Told, Ended]


async def test_it_starts_after_the_cursor_it_is_given():
    async with fake_gateway(stream(ready(), event(8, "text_delta", text="b"), end())) as fake:
        seen = await collect(fake, "7-00000007", until=ended)
    assert told(seen) == [8]
    assert fake.asked[0][1]["last-event-id"] == "7-00000007"


@pytest.mark.parametrize("second", [3, 1])
async def test_a_gap_or_a_repeated_event_is_an_error_and_never_shown(second: int):
    frames = stream(ready(), event(1, "text_delta", text="a"), event(second, "text_delta", text="b"), end())
    async with fake_gateway(frames) as fake:
        with pytest.raises(PlayheadError, match=f"event {second} after event 1"):
            await collect(fake, until=ended)


async def test_a_stream_from_the_beginning_must_begin_at_the_beginning():
    async with fake_gateway(stream(ready(), event(2, "text_delta", text="a"), end())) as fake:
        with pytest.raises(PlayheadError, match="event 2 after event 0"):
            await collect(fake, until=ended)


async def test_nothing_left_to_tell_is_the_end():
    async with fake_gateway(b"HTTP/1.1 204 No Content\r\n\r\n") as fake:
        assert await collect(fake, until=ended) == [Ended()]


async def test_a_refusal_is_not_tried_again():
    problem = answer({"title": "Conflict", "detail": "cursor 9 is ahead"}, "409 Conflict", "application/problem+json")
    async with fake_gateway(problem) as fake:
        with pytest.raises(Refused, match="Conflict: cursor 9 is ahead"):
            await collect(fake, "9", until=ended)
    assert len(fake.asked) == 1


async def test_a_busy_gateway_is_asked_again():
    busy = answer({"title": "Busy"}, "503 Service Unavailable")
    async with fake_gateway(busy, stream(ready(), end())) as fake:
        seen = await collect(fake, until=ended)
    assert [type(one) for one in seen] == [Dropped, Opened, Ended]


async def test_a_page_that_is_no_event_stream_is_an_error():
    async with fake_gateway(answer("hello", kind="text/html")) as fake:
        with pytest.raises(PlayheadError, match="not an event stream"):
            await collect(fake, until=ended)


async def test_patience_ends_and_the_error_names_the_cursor_to_resume_from():
    async with fake_gateway(stream(ready(), event(1, "text_delta", text="a"))) as fake:
        with pytest.raises(Unavailable, match=f"playhead tail {SESSION} --after 1-00000001"):
            await collect(fake, until=ended)


async def test_an_unknown_frame_of_the_gateway_is_skipped():
    async with fake_gateway(stream(ready(), "event: weather\ndata: {}\n\n", end())) as fake:
        seen = await collect(fake, until=ended)
    assert [type(one) for one in seen] == [Opened, Ended]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_waits_are_bounded_and_never_negative(tries: int, chance: float):
    assert 0 <= backoff(Patience(), tries, chance) <= Patience().most_seconds
