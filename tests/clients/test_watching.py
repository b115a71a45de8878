"""The watcher: reconnecting, resuming, and refusing a stream that is not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.client import Dropped, Ended, Event, Lost, Opened, Patience, Refused, Seen
from playhead.client.watching import View, backoff, watch
from playhead.errors import PlayheadError

from tests.cli.fake_gateway import SESSION, FakeGateway, answer, end, event, fake_gateway, ready, stream

QUICK = Patience(first_seconds=0.001, most_seconds=0.002, silence_seconds=2.0, lost_seconds=0.05)


async def collect(
    fake: FakeGateway, after: str | None = None, *, types: tuple[str, ...] = (), until: Callable[[Seen], bool]
) -> list[Seen]:
    seen, view = list[Seen](), View(SESSION, after, types)
    async with (
        asyncio.timeout(5),
        httpx2.AsyncClient(base_url=fake.url, trust_env=False) as http,
        aclosing(watch(http, view, patience=QUICK, chance=lambda: 1.0)) as telling,
    ):
        async for one in telling:
            seen.append(one)
            if until(one):
                break
    return seen


def told(seen: list[Seen]) -> list[int]:
    return [one.seq for one in seen if isinstance(one, Event)]


def ended(seen: Seen) -> bool:
    return isinstance(seen, Ended)


async def test_a_stream_that_breaks_is_resumed_after_the_last_whole_event():
    broken = stream(ready(), event(1, "text_delta", text="a"), event(2, "text_delta", text="b")[:-9])
    async with fake_gateway(broken, stream(ready(), event(2, "text_delta", text="b"), end())) as fake:
        seen = await collect(fake, until=ended)
    assert told(seen) == [1, 2]
    assert [headers.get("last-event-id") for _, headers, _ in fake.asked] == [None, "1-00000001"]
    assert [type(one) for one in seen] == [Opened, Event, Dropped, Opened, Event, Ended]


async def test_it_starts_after_the_cursor_it_is_given():
    async with fake_gateway(stream(ready(), event(8, "text_delta", text="b"), end())) as fake:
        seen = await collect(fake, "7-00000007", until=ended)
    assert told(seen) == [8]
    assert fake.asked[0][1]["last-event-id"] == "7-00000007"


def text(seq: int) -> str:
    return event(seq, "text_delta", text=str(seq))


@pytest.mark.parametrize("second", [1, 0])
async def test_an_event_that_is_told_again_is_an_error_and_never_shown(second: int):
    async with fake_gateway(stream(ready(), text(1), text(second), end())) as fake:
        with pytest.raises(PlayheadError, match=f"event {second} after event 1"):
            await collect(fake, until=ended)


async def test_after_a_gap_the_stream_is_asked_again_and_what_was_missing_is_not_lost():
    broken, whole = stream(ready(), text(1), text(3), end()), stream(ready(), text(2), text(3), end())
    async with fake_gateway(broken, whole) as fake:
        seen = await collect(fake, until=ended)
    assert told(seen) == [1, 2, 3]
    assert fake.asked[1][1]["last-event-id"] == "1-00000001"
    assert [one.reason for one in seen if isinstance(one, Dropped)] == ["the stream told event 3 after event 1"]


async def test_a_gap_that_is_there_again_is_what_the_gateway_cannot_show():
    """protocol:P13"""
    after = stream(ready(), text(3), text(6), text(7), end())
    async with fake_gateway(stream(ready(), text(1), text(3)), after) as fake:
        seen = await collect(fake, until=ended)
    assert told(seen) == [1, 3, 6, 7]
    assert len(fake.asked) == 2


async def test_a_stream_from_the_beginning_begins_at_the_beginning():
    async with fake_gateway(stream(ready(), text(2)), stream(ready(), text(1), text(2), end())) as fake:
        assert told(await collect(fake, until=ended)) == [1, 2]


async def test_of_some_types_alone_the_seqs_need_not_follow():
    async with fake_gateway(stream(ready(), text(1), text(3)), stream(ready(), text(9), end())) as fake:
        seen = await collect(fake, types=("text_delta", "run_completed"), until=ended)
    assert told(seen) == [1, 3, 9]
    assert [first.split()[1].partition("?")[2] for first, _, _ in fake.asked] == [
        "types=text_delta%2Crun_completed"
    ] * 2


async def test_without_deltas_the_seqs_need_not_follow():
    async with (
        fake_gateway(stream(ready(), text(1), text(9), end())) as fake,
        httpx2.AsyncClient(base_url=fake.url, trust_env=False) as http,
    ):
        view = View(SESSION, deltas="final")
        seen = [one async for one in watch(http, view, patience=QUICK)]
    assert told(seen) == [1, 9]
    assert [type(one) for one in seen] == [Opened, Event, Event, Ended]


async def test_patience_begins_anew_with_each_stream_that_opens():
    patience = replace(QUICK, lost_seconds=0.001)
    async with (
        fake_gateway(stream(ready()), stream(ready()), stream(ready()), stream(ready(), end())) as fake,
        httpx2.AsyncClient(base_url=fake.url, trust_env=False) as http,
    ):
        seen = [one async for one in watch(http, View(SESSION), patience=patience, chance=lambda: 1.0)]
    assert [type(one) for one in seen] == [*[Opened, Dropped] * 3, Opened, Ended]


async def test_a_gateway_that_drains_is_come_back_to_when_it_says():
    draining = 'event: draining\nretry: 3\ndata: {"reason": "draining"}\n\n'
    async with fake_gateway(stream(ready(), text(1), draining), stream(ready(), text(2), end())) as fake:
        seen = await collect(fake, until=ended)
    assert told(seen) == [1, 2]
    assert [one.wait_seconds for one in seen if isinstance(one, Dropped)] == [0.003]


async def test_a_gateway_that_asks_to_be_left_alone_is():
    busy = answer({"title": "Busy"}, "429 Too Many Requests\r\nretry-after: 1")
    async with fake_gateway(busy, stream(ready(), end())) as fake:
        seen = await collect(fake, until=ended)
    assert [one.wait_seconds for one in seen if isinstance(one, Dropped)] == [1.001]


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
        with pytest.raises(Lost, match="resume after 1-00000001") as lost:
            await collect(fake, until=ended)
    assert (lost.value.session, lost.value.cursor) == (SESSION, "1-00000001")


async def test_an_unknown_frame_of_the_gateway_is_skipped():
    async with fake_gateway(stream(ready(), "event: weather\ndata: {}\n\n", end())) as fake:
        seen = await collect(fake, until=ended)
    assert [type(one) for one in seen] == [Opened, Ended]


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 60))
def test_waits_are_bounded_and_never_negative(tries: int, chance: float, retry_seconds: float):
    assert 0 <= backoff(Patience(), tries, chance, retry_seconds) <= Patience().most_seconds


def test_the_first_try_comes_soon_and_the_next_ones_as_late_as_the_gateway_asks():
    assert [backoff(Patience(), tries, 1.0, 2.0) for tries in (0, 1, 5)] == [0.2, 2.0, 5.0]
