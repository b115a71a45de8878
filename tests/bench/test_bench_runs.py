"""The benchmark's harness, held against delays that are known because they were put there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest

from bench.client import Report, Run, doubt, live_window
from bench.scenarios import AGENTS, SAMPLES, parse
from bench.systems import ROOT, System, start_provider, start_system

MEASURE_SECONDS_MAX = 60.0
TRIES_MAX = 6
"""On a busy machine a figure may be anything for once; what is wrong with the harness is wrong each time."""
TOLERANCE_MS = 8.0
"""Wide enough for a busy machine of two cores, far from the delays that are looked for. Of several figures the least
counts: a busy machine only adds."""


class Measure(Protocol):
    """Asks a system: which agent, how many sessions at once, how often, and over how many seconds they begin."""

    def __call__(self, agent: str, sessions: int, repeat: int, ramp: float = 0.0) -> Report: ...


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[System, System], None, None]:
    folder: Path = tmp_path_factory.mktemp("bench")
    with ExitStack() as stack:
        provider = stack.enter_context(start_provider(folder))
        yield provider, stack.enter_context(start_system("plain", provider, folder, None))


def measuring(provider: System, system: System) -> Measure:
    def ask(agent: str, sessions: int, repeat: int, ramp: float = 0.0) -> Report:
        ports = ["--port", str(system.port), "--provider", str(provider.port)]
        amount = ["--agent", agent, "--sessions", str(sessions), "--repeat", str(repeat), "--ramp", str(ramp)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.client", *ports, *amount],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=MEASURE_SECONDS_MAX,
            check=True,
        )
        return Report(**orjson.loads(done.stdout))

    return ask


@pytest.fixture(scope="module")
def measure(systems: tuple[System, System]) -> Measure:
    provider, plain = systems

    client = measuring(provider, plain)
    client("short", 4, 1)  # the first request pays for the server's lazy imports
    return client


def test_a_delay_put_into_the_way_of_each_delta_is_reported_as_added_latency(measure: Measure) -> None:
    without, held = list[float](), list[float]()

    def added() -> float:
        for agent, delays in (("short", without), ("held", held)):
            report = measure(agent, 1, 3)
            assert not report.problems
            delays.extend(report.delta_ms)
        return min(held) - min(without)

    assert any(added() == pytest.approx(20, abs=TOLERANCE_MS) for _ in range(TRIES_MAX))


def test_the_time_that_the_model_takes_for_its_first_delta_is_not_the_systems(measure: Measure) -> None:
    events, deltas = {"short": list[float](), "late": list[float]()}, {"short": list[float](), "late": list[float]()}

    def added() -> tuple[float, float]:
        for agent in events:
            report = measure(agent, 1, 3)
            events[agent] += report.first_event_ms
            deltas[agent] += report.first_delta_ms
        return min(events["late"]) - min(events["short"]), min(deltas["late"]) - min(deltas["short"])

    assert any(added() == pytest.approx((100, 0), abs=TOLERANCE_MS) for _ in range(TRIES_MAX))


def test_the_time_of_the_model_and_of_parallel_tools_is_not_overhead(measure: Measure) -> None:
    script = parse(AGENTS["tools"])

    def overhead() -> float:
        report = measure("tools", 1, 3)
        assert report.runs == 3
        assert len(report.delta_ms) == 3 * script.deltas_of_run
        return min(report.overhead_ms)

    # Two calls of 50 ms each in turn, or a step counted as the system's, would always be past this.
    assert any(0 < overhead() < 40 for _ in range(TRIES_MAX))


def test_runs_at_once_are_all_counted_and_each_delta_of_them_once(measure: Measure) -> None:
    report = measure("short", 8, 1)
    assert report.runs == 8
    assert len(report.delta_ms) == 8 * parse(SAMPLES["short"]).deltas_of_run
    assert len(report.wall_seconds) == 1
    assert not report.problems


def test_only_deltas_count_as_live_that_were_written_while_all_runs_were(measure: Measure) -> None:
    report = measure("paced", 4, 1, ramp=0.4)
    assert report.runs == 4
    # The last of four begins after 0.3 s; the first ends 0.495 s after its first delta.
    assert report.live_seconds == pytest.approx(0.195, abs=0.12)
    assert len(report.live_ms) == pytest.approx(4 * 200 * report.live_seconds, abs=20)


def test_runs_of_which_one_ends_before_another_begins_were_never_all_live() -> None:
    first, second = Run("one", delays=[(10, 1), (20, 1)]), Run("two", delays=[(30, 1), (40, 1)])
    began, ended = live_window([first, second])
    assert began > ended


@pytest.mark.parametrize("system", ["plain", "embedded"])
def test_the_model_speaks_openais_wire_too(system: str, tmp_path: Path) -> None:
    with start_provider(tmp_path) as provider, start_system(system, provider, tmp_path, None, "openai") as started:
        client = measuring(provider, started)
        reports = [client("stream", 1, 1)]
        if system == "embedded":  # *plain* has no tools on this wire
            reports.append(client("tools", 1, 1))
    assert [report.problems for report in reports] == [[]] * len(reports)
    assert reports[0].runs == 1


def test_a_server_that_knows_no_runs_gives_problems_and_no_figures(systems: tuple[System, System]) -> None:
    provider, _ = systems
    # The model server's own wire is not that of a system under test for this agent: it has no tools to run.
    command = [sys.executable, "-m", "bench.client", "--port", str(provider.port), "--provider", str(provider.port)]
    done = subprocess.run(
        [*command, "--agent", "tools"], cwd=ROOT, stdout=subprocess.PIPE, timeout=MEASURE_SECONDS_MAX, check=True
    )
    report = Report(**orjson.loads(done.stdout))
    assert report.runs == 0
    assert report.problems == ["5 of 10 deltas arrived"]


def test_a_run_in_which_a_tool_or_a_model_call_is_not_as_asked_is_doubted() -> None:
    script = parse(AGENTS["tools"])
    whole: dict[str, Any] = {"steps": [{}, {}], "tools": [[1, 2], [1, 2]]}
    assert not doubt(Run("token"), whole, script)
    assert doubt(Run("token"), whole | {"tools": [[1, 2]]}, script) == "the model saw 1 tools instead of 2"
    assert doubt(Run("token"), whole | {"steps": [{}] * 3}, script) == "the model saw 3 steps instead of 2"


def test_the_cpu_time_of_a_system_grows_with_what_it_serves(systems: tuple[System, System], measure: Measure) -> None:
    _, plain = systems
    before = plain.cpu_seconds
    measure("short", 8, 1)
    assert plain.cpu_seconds > before


@pytest.mark.parametrize("model", ["claude", "bench-x5", "bench-d", "bench-tools3", "bench-d-5"])
def test_a_name_that_is_no_script_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match=r"bench"):
        parse(model)
