"""A slice of `make bench-placements`, and what it says of a follower that was told a thing twice or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence

import pytest
from playhead.accept import Record, genesis
from playhead.adapters.memory import MemorySessionLog
from playhead.codec import Codec, Context
from playhead.events import TextDelta
from playhead.ids import BEGINNING, Cursor, RunId, SessionId
from playhead.log import Page

from bench.placements import ROWS, Followers, Pace, measure, rows
from bench.stage import Broker

PACE = Pace(seconds=0.5, rate=1_000, rate_each=5)
SESSIONS = 5
RUN = RunId("run_0123456789abcdef0123456789")


@pytest.mark.kafka
@pytest.mark.parametrize("placement", ["topic", "lanes"])
async def test_each_placement_has_a_figure_in_each_row(kafka_bootstrap: str, placement: str) -> None:
    # Of the broker nothing but its process is known: this one is looked at in its place.
    found = await measure((placement, SESSIONS), PACE, Broker(kafka_bootstrap, os.getpid()))
    assert {name for _, *names in ROWS for name in names if name} <= found.keys()
    assert 0 < found["append_p50"] <= found["append_p99"]
    assert 0 < found["arrival_p50"] <= found["arrival_p99"]
    assert found["others_us"] > 0
    assert found["opened_per_second"] > 0 and found["broker_bytes"] > 0


def test_many_sessions_share_the_rate_of_all() -> None:
    pace = Pace(seconds=1, rate=1_000, rate_each=5)
    assert [pace.of(count) for count in (10, 200, 10_000)] == [5, 5, 0.1]


def test_a_case_that_did_not_work_is_a_column_without_figures() -> None:
    worked = {"append_p50": [1.25], "append_p99": [12.5], "broker.rss_mib": [400.4]}
    lines = rows({"topic, 10,000": {}, "lanes, 10,000": worked})
    assert lines[0] == "| | topic, 10,000 | lanes, 10,000 |"
    assert "| append, p50 / p99 (ms) | – | 1.25 / 12.5 |" in lines
    assert "| broker: memory (MiB) | – | 400 |" in lines


class Wrong(MemorySessionLog):
    """A log that hands out pages which it was given."""

    def __init__(self, pages: Sequence[Sequence[Record]]) -> None:
        super().__init__()
        self._pages = pages

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield the pages."""
        for records in self._pages:
            yield Page(tuple(records), genesis(session))


@pytest.mark.parametrize(
    ("places", "said"),
    [([[0], [1, 2]], []), ([[0, 1], [1, 2]], ["2 came after 2"]), ([[0], [2]], ["3 came after 1"])],
)
async def test_a_follower_says_what_came_twice_or_was_passed_over(places: list[list[int]], said: list[str]) -> None:
    session = SessionId("ses_0123456789abcdef0123456789")
    deltas = [TextDelta(RUN, 1, 1, f"@{number:019d} so it goes") for number in range(3)]
    records = Codec().seal(genesis(session), deltas, Context(session, 1, None, 0))
    async with asyncio.TaskGroup() as tasks:
        followers = Followers(Wrong([[records[place] for place in page] for page in places]), tasks)
        followers.follow([session])
        await followers.reach({session: 3})
    assert [problem.partition(": ")[2] for problem in followers.problems] == said
