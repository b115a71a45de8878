"""The soak's verdicts and plot on series that are known, and a soak of seconds of `playhead dev`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from playhead.adapters.kafka.index import Line
from playhead.adapters.kafka.ledger import Ledger
from playhead.ids import session_id

from bench.plot import drawn
from bench.series import KEPT, Sample, Series, judged, series_of, slope
from bench.steady import Step
from bench.systems import ROOT

SOAK_SECONDS_MAX = 60.0


def soaked(name: str, value: Callable[[int], float], samples: int = 361) -> list[Sample]:
    """An hour of samples, ten seconds apart."""
    return [{"second": 10.0 * at, "sessions": 100.0 * at, name: value(at)} for at in range(samples)]


def is_flat(samples: list[Sample]) -> bool:
    (verdict,) = judged(samples)
    return verdict.flat


def test_a_line_has_its_own_slope_and_bad_moments_do_not_move_it() -> None:
    seconds = [float(second) for second in range(60)]
    values = [3.0 + second / 2 for second in seconds]
    for moment in (10, 30, 50):
        values[moment] += 1_000
    assert slope(seconds, values) == pytest.approx(0.5, abs=0.01)


def test_memory_that_fills_first_and_then_stays_is_flat() -> None:
    assert is_flat(soaked("gateway.rss_mib", lambda at: 80.0 + min(at, 119) * 2.0))


def test_memory_that_grows_all_the_time_is_not() -> None:
    # 12 MiB an hour: 8 of them in the part that is judged, where less than 6 are allowed
    assert not is_flat(soaked("gateway.rss_mib", lambda at: 80.0 + at / 360 * 12))
    assert is_flat(soaked("gateway.rss_mib", lambda at: 80.0 + at / 360 * 6))


def test_one_more_topic_in_the_judged_part_is_found_when_topics_go_on_growing() -> None:
    assert is_flat(soaked("topics", lambda _: 9.0))
    assert not is_flat(soaked("topics", lambda at: 9.0 + at // 60))


def test_files_that_come_and_go_with_connections_are_flat_and_files_that_stay_open_are_not() -> None:
    assert is_flat(soaked("gateway.fds", lambda at: 60.0 + at % 7))
    assert not is_flat(soaked("gateway.fds", lambda at: 60.0 + at / 10))


def test_memory_may_grow_by_what_lanes_are_said_to_keep_of_each_session_and_only_there() -> None:
    samples = soaked("gateway.rss_mib", lambda at: 80.0 + at * 100 * 150 / 2**20 + at / 60)
    for system, flat in (("lanes", True), ("embedded", False), ("kafka", False)):
        (verdict,) = judged(samples, system)
        assert verdict.flat == flat
    (verdict,) = judged(soaked("worker.rss_mib", lambda at: 80.0 + at * 100 * 150 / 2**20 + at / 60), "lanes")
    assert not verdict.flat


def test_what_lanes_are_said_to_keep_of_a_session_is_what_they_keep() -> None:
    """149 bytes for a line of the index, 179 in a ledger: the documentation says so, and a little more is allowed."""
    sessions = [session_id(os.urandom(16)) for _ in range(64 * 500)]
    tracemalloc.start()
    lines = {session.encode(): Line(1, number).pack() for number, session in enumerate(sessions)}
    of_index = tracemalloc.get_traced_memory()[0] / len(sessions)
    ledgers = [Ledger(0) for _ in range(64)]
    for number, session in enumerate(sessions):
        ledgers[number % 64].note(session.encode(), number)
    of_both = tracemalloc.get_traced_memory()[0] / len(sessions)
    tracemalloc.stop()
    assert len(lines) == len(sessions)
    assert of_index == pytest.approx(149, rel=0.15)
    assert of_both - of_index == pytest.approx(179, rel=0.15)
    kept = {name: mib * 2**20 for name, mib in KEPT["lanes"].items()}
    assert of_index <= kept["gateway.rss_mib"] * 1.1
    assert of_both <= kept["orchestrator.rss_mib"] * 1.1


def test_a_database_may_grow_by_what_its_sessions_write() -> None:
    assert is_flat(soaked("database_mib", lambda at: 100.0 * at * 0.015))
    assert not is_flat(soaked("database_mib", lambda at: 100.0 * at * 0.025))


def test_latency_is_judged_by_samples_in_which_nobody_else_was_busy() -> None:
    slow = soaked("delta_p50_ms", lambda at: 2.0 + at / 10)
    assert not is_flat(slow)
    assert judged([{**sample, "others.cores": 1.0} for sample in slow]) == []
    noisy = [{**sample, "others.cores": 1.0} for sample in slow if sample["second"] % 20]
    assert is_flat(sorted([*noisy, *soaked("delta_p50_ms", lambda _: 2.0)[::2]], key=lambda sample: sample["second"]))


@pytest.mark.parametrize(("name", "value"), [("disk.sync_ms", 1_500.0), ("stolen.cores", 0.5)])
def test_latency_is_not_judged_by_samples_in_which_the_machine_stood_still(name: str, value: float) -> None:
    stalls = [
        {**sample, "delta_p50_ms": 500.0, name: value} if number > 200 and number % 2 else sample
        for number, sample in enumerate(soaked("delta_p50_ms", lambda _: 2.0))
    ]
    (verdict,) = judged(stalls)
    assert verdict.flat
    assert verdict.greatest == 2.0
    unexplained = [{**sample, name: 0.0} for sample in stalls]
    (verdict,) = judged(unexplained)
    assert verdict.greatest == 500.0


def test_a_single_error_is_one_too_many_whenever_it_was() -> None:
    assert is_flat(soaked("errors", lambda _: 0.0))
    assert not is_flat(soaked("errors", lambda at: float(at == 2)))


def test_sessions_that_nobody_could_have_forgotten_yet_are_not_judged() -> None:
    assert judged(soaked("dev.sessions_owned", lambda at: 10.0 * at, samples=8)) == []
    assert is_flat(soaked("dev.sessions_owned", lambda at: 10.0 * min(at, 9), samples=15))


def test_series_of_names_without_a_tolerance_are_drawn_and_not_judged() -> None:
    samples = soaked("per_second", float)
    assert judged(samples) == []
    plot = drawn("a <soak>", series_of(samples))
    assert "a &lt;soak&gt;" in plot
    assert len(re.findall("<polyline", plot)) == 2


def test_processes_share_a_panel_and_each_has_its_line() -> None:
    both = [Series("gateway.fds", [0.0, 60.0], [1.0, 2.0]), Series("worker.fds", [0.0, 60.0], [4.0, 3.0])]
    plot = drawn("two", both)
    assert plot.count(">fds, files<") == 1
    assert plot.count("<polyline") == 2
    assert 'points="70.0,126.5 710.0,99.0"' in plot


def test_latency_is_flat_up_to_three_times_that_of_the_slowest_rate() -> None:
    first = Step(4.0, 2.0, 1.0, 0)
    assert Step(20.0, 6.0, 1.0, 0).is_flat(first)
    assert not Step(20.0, 6.1, 1.0, 0).is_flat(first)
    assert not Step(20.0, 2.0, 5.0, 0).is_flat(first)
    assert not Step(20.0, 2.0, 1.0, 1).is_flat(first)


def test_a_soak_of_seconds_samples_every_series_and_draws_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.steady", "--minutes", "0.15", "--every", "0.6", "--rate", "6"]
    command += ["--results", str(tmp_path)]
    # Whether so short a soak is flat, which the exit code says, is chance; that its runs were whole is not.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SOAK_SECONDS_MAX, check=False)
    assert "PROBLEM" not in done.stdout, done.stdout + done.stderr
    assert "sessions; " in done.stdout, done.stdout + done.stderr
    (lines,) = tmp_path.glob("steady-embedded-*.jsonl")
    about, *samples = [orjson.loads(line) for line in lines.read_bytes().splitlines()]
    assert about["rate"] == 6.0
    assert len(samples) >= 7
    wanted = {"second", "sessions", "errors", "delta_p50_ms", "delta_p99_ms", "database_mib", "open_sessions"}
    wanted |= {"disk.sync_ms", "stolen.cores", "others.cores"}
    wanted |= {f"dev.{what}" for what in ("rss_mib", "fds", "threads", "cores")}
    wanted |= {f"dev.{what}" for what in ("sessions_owned", "stream_clients", "tasks")}
    assert wanted <= set().union(*samples)  # no delta need come in the last of so short a time
    for counted in ("dev.sessions_owned", "dev.tasks", "disk.sync_ms"):
        assert max(sample.get(counted, 0) for sample in samples) > 0, counted
    assert samples[-1]["sessions"] == pytest.approx(54, abs=3)
    plot = lines.with_suffix(".svg")
    drawn_first = plot.read_text()
    assert drawn_first.startswith("<svg")
    plot.unlink()
    again = subprocess.run([*command[:3], "--judge", str(lines)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.stdout.splitlines()[:-2] == done.stdout.splitlines()[:-2]
    assert plot.read_text() == drawn_first
