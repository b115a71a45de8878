"""A slice of `make bench-tools`: four workers do what four times one would, and an idle pool adds little to a call."""

from __future__ import annotations

from statistics import median

import pytest

from bench.tools import measure, table

CALLS = 200
"""Of one worker: a few seconds."""
RATIO_MIN = 3.0
"""Less than the whole benchmark asks for: at the end of so few calls some slots have nothing to do."""
OVERHEAD_MS_MAX = 100.0


@pytest.mark.kafka
async def test_four_workers_do_at_least_three_times_what_one_does(kafka_bootstrap: str) -> None:
    one = await measure(kafka_bootstrap, 1, CALLS, idle_calls=20)
    four = await measure(kafka_bootstrap, 4, 4 * CALLS, idle_calls=20)
    print(table([one, four]))  # noqa: T201
    assert four.per_second / one.per_second >= RATIO_MIN
    assert median(call.overhead_ms for call in one.idle) < OVERHEAD_MS_MAX
