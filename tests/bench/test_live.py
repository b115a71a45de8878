"""The cores of the time in which all were live, from what was noted all the time."""

from __future__ import annotations

from bench.live import Used, cores_between

SECOND = 1_000_000_000


def test_cores_are_of_the_looks_between_two_times_alone() -> None:
    used: Used = [(at * SECOND, {"busy": 5.0 + at * 0.5, "idle": 1.0}) for at in range(10)]
    used.append((10 * SECOND, {"busy": 100.0, "idle": 100.0}))  # what came after
    assert cores_between(used, 2 * SECOND, 9 * SECOND) == {"busy": 0.5, "idle": 0.0}
    assert cores_between(used, 2 * SECOND, 2 * SECOND) == {}
