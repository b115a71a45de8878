"""The hot path, from the model to the client, must not get slower unnoticed: what it costs, as a ratio to *plain*.

What is compared is CPU time, because time on the clock says little on a busy machine. Both systems are measured at the
same moment, by clients of their own: whatever else the machine does, it does to both. Of some repetitions the median
counts. Between two processes that compute all the time, ratios were seen to grow by a fifth; twice as slow is twice as
much. When the hot path is made faster, the figures here must be lowered, or it could get slower again by as much.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, median_low

import orjson
import pytest

from bench.client import Report
from bench.systems import ROOT, System, start_provider, start_system

MEASURED: Mapping[str, float] = {"crowd": 1.0, "spate": 0.3}
"""CPU of *embedded* over that of *plain*: many sessions, a delta at a time; one session, deltas in bursts."""
MARGIN = 1.6
LATENCY_RATIO_MAX = 10.0
"""Of a delta, p50. It catches a wait that was put into the way, and nothing finer, however busy the machine is."""
REPETITIONS = 4
SESSIONS = {"crowd": 30, "spate": 1}
REPEATED = {"crowd": 1, "spate": 2}
CLIENT_SECONDS_MAX = 60.0

Ratios = Mapping[str, Sequence[float]]
Pair = tuple[System, System]
"""A system and its own model: what a model remembers is told to the first client that asks."""


def at_once(pairs: Sequence[Pair], agent: str) -> list[tuple[float, float]]:
    """Make runs on all systems at the same time; give for each its CPU seconds and its latency in milliseconds."""
    used = [system.cpu_seconds for system, _ in pairs]
    amount = ["--agent", agent, "--sessions", str(SESSIONS[agent]), "--repeat", str(REPEATED[agent])]
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.client", *amount, "--port", str(system.port), "--provider", str(model.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for system, model in pairs
    ]
    said = [client.communicate(timeout=CLIENT_SECONDS_MAX)[0] for client in clients]
    cpu = [system.cpu_seconds - before for (system, _), before in zip(pairs, used, strict=True)]
    reports = [Report(**orjson.loads(each)) for each in said]
    assert [report.runs for report in reports] == [SESSIONS[agent] * REPEATED[agent]] * len(pairs)
    return [(seconds, median(report.delta_ms)) for seconds, report in zip(cpu, reports, strict=True)]


@pytest.fixture(scope="module")
def ratios(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ratios, None, None]:
    folder: Path = tmp_path_factory.mktemp("regression")
    with ExitStack() as stack:
        pairs: list[Pair] = []
        for name in ("embedded", "plain"):
            model = stack.enter_context(start_provider(folder))
            pairs.append((stack.enter_context(start_system(name, model, folder, None)), model))
        at_once(pairs, "crowd")  # imports, connections, code that gets faster
        found: dict[str, list[float]] = {"latency": [], "crowd": [], "spate": []}
        for _ in range(REPETITIONS):
            for agent in SESSIONS:
                (cpu, delta_ms), (plain_cpu, plain_delta_ms) = at_once(pairs, agent)
                found[agent].append(cpu / plain_cpu)
                if agent == "crowd":
                    found["latency"].append(delta_ms / plain_delta_ms)
        yield found


@pytest.mark.parametrize("agent", sorted(MEASURED))
def test_a_delta_costs_no_more_cpu_beside_a_plain_loop_than_it_did(ratios: Ratios, agent: str) -> None:
    print(agent, ratios[agent])  # noqa: T201
    assert median_low(ratios[agent]) <= MARGIN * MEASURED[agent]


def test_nothing_waits_between_the_model_and_the_client(ratios: Ratios) -> None:
    print("latency", ratios["latency"])  # noqa: T201
    assert median_low(ratios["latency"]) <= LATENCY_RATIO_MAX
