"""The parts about the way of a delta from the model to the client: one session, tools, a crowd, a flood, bare stores.

All systems run side by side and are measured in turn, round after round; what they use while idle is measured and said.
What each process takes, and what its store keeps, is measured around the crowd.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from bench.footprint import bytes_of_folder, bytes_of_topics, memory_of
from bench.scenarios import AGENTS, parse
from bench.stage import Broker, Stage, ask, in_turn, say
from bench.systems import Deployment, System, cpu_seconds_of, start_deployment
from bench.table import quantile

__all__ = ["PARTS", "measure"]

PARTS = ("stream", "tools", "crowd", "flood", "raw")
SETTLE_SECONDS = 0.5
"""How long a system may tidy up after the last session before its CPU time is read."""
IDLE_SECONDS = 2.0
CROWD = 200
FLOODS = 3
"""Of 10,000 deltas, less than a second each; a round's figure is the median."""
RAW_RATE = 50
"""Records per second, as the model writes deltas."""
CROWDED_SHARE_MAX = 0.7
"""Past this share of one core, the provider or the client may be what is measured."""

WITHOUT: Mapping[str, frozenset[str]] = {
    "plain": frozenset({"flood"}),  # it keeps nothing: its reference is `memory`
    "memory": frozenset({"tools"}),
    "floor": frozenset({"tools", "flood"}),
}
"""The parts in which a system is not measured."""


class Path:
    """The running systems, and what the harness itself was busy with."""

    def __init__(self, stage: Stage, broker: Broker | None) -> None:
        self._stage = stage
        self._broker = broker
        self._deployments: dict[str, Deployment] = {}
        self._systems: dict[str, System] = {}
        self._crowded: dict[str, float] = {}
        self._late_ms = 0.0

    def start(self, stack: ExitStack, name: str) -> None:
        """Start a system and make runs that do not count: imports, connections, groups that settle."""
        if name == "floor":
            self._systems[name] = self._stage.start(stack, name, self._broker)
            return
        say(f"starting {name}")
        deployment = self._deployments[name] = self._stage.deployment(name, self._broker)
        system = self._systems[name] = start_deployment(stack, deployment)
        for agent, sessions in (("tools", 1), ("crowd", self._stage.plan.warm_up_sessions)):
            if agent not in WITHOUT.get(name, ()) and (agent != "tools" or self._stage.wire == "anthropic"):
                self._stage.client(system, agent, sessions)

    def idle(self) -> None:
        """Say what each system uses while nothing happens."""
        before = [system.cpu_seconds for system in self._systems.values()]
        time.sleep(IDLE_SECONDS)
        shares = (
            f"{name} {(system.cpu_seconds - used) / IDLE_SECONDS:.1%}"
            for (name, system), used in zip(self._systems.items(), before, strict=True)
        )
        self._stage.result.notes.append(f"CPU while idle, of one core: {', '.join(shares)}")

    def round(self, number: int) -> None:
        """Measure every system once."""
        does: Mapping[str, Callable[[System], None]] = {
            "stream": self._stream,
            "tools": self._tools,
            "crowd": self._crowd,
            "flood": self._flood,
        }
        for name in in_turn(number, list(self._systems)):
            # The floor is the harness's own and changes no verdict: once is enough.
            if name == "floor" and number:
                continue
            for part, do in does.items():
                if self._has(name, part):
                    do(self._systems[name])
        if "raw" in self._stage.plan.parts:
            self._raw()

    def conclude(self) -> None:
        """Note what the processes hold, and what a reader needs to know about the harness itself."""
        result = self._stage.result
        for name, system in self._systems.items():
            for process in () if name == "floor" else system.processes:
                now, peak = memory_of(process)
                result.took(name, process.name, "rss_mib", now)
                if peak is not None:
                    result.took(name, process.name, "rss_peak_mib", peak)
        for name, share in self._crowded.items():
            warning = "  <- too busy: the crowd's figures are the harness's" if share > CROWDED_SHARE_MAX else ""
            result.notes.append(f"harness: {name} used at most {share:.0%} of one core in the crowd{warning}")
        result.notes.append(f"harness: with one session, the model was at most {self._late_ms:.1f} ms late")

    def _has(self, name: str, part: str) -> bool:
        return part in self._stage.plan.parts and part not in WITHOUT.get(name, ())

    def _stream(self, system: System) -> None:
        report = self._stage.client(system, "stream", 1)
        self._late_ms = max(self._late_ms, report.late_ms)
        if report.runs:
            self._stage.result.add(system.name, "delta_p50", median(report.delta_ms))
            self._stage.result.add(system.name, "delta_p99", quantile(report.delta_ms, 0.99))

    def _tools(self, system: System) -> None:
        report = self._stage.client(system, "tools", 1, self._stage.plan.tool_runs)
        self._late_ms = max(self._late_ms, report.late_ms)
        if report.runs:
            self._stage.result.add(system.name, "tools", median(report.overhead_ms))
            self._stage.result.add(system.name, "first_event", median(report.first_event_ms))
            self._stage.result.add(system.name, "first_delta", median(report.first_delta_ms))

    def _crowd(self, system: System) -> None:
        result, provider = self._stage.result, self._stage.provider
        pids = self._pids(system)
        used, provided = {name: cpu_seconds_of(pid) for name, pid in pids.items()}, provider.cpu_seconds
        kept = self._kept(system.name)
        report = self._stage.client(system, "crowd", CROWD)
        wall = sum(report.wall_seconds)
        self._busy("the client", report.cpu_seconds / wall)
        self._busy("the model", (provider.cpu_seconds - provided) / wall)
        time.sleep(SETTLE_SECONDS)
        if report.runs != CROWD:
            return
        result.add(system.name, "sessions", CROWD / wall)
        took = {name: cpu_seconds_of(pid) - used[name] for name, pid in pids.items()}
        result.add(system.name, "cpu", sum(1000 * took[each.name] / CROWD for each in system.processes))
        if system.name == "floor":
            return
        for name, seconds in took.items():
            result.took(system.name, name, "cpu_ms_per_session", 1000 * seconds / CROWD)
        for what, size in self._kept(system.name).items():
            grown = size - kept.get(what, 0)
            result.took(system.name, what, "bytes_per_session", grown / CROWD)
            result.took(system.name, what, "bytes_per_delta", grown / CROWD / parse(AGENTS["crowd"]).deltas_of_run)

    def _flood(self, system: System) -> None:
        expected, rates = parse(AGENTS["flood"]).deltas_of_run, list[float]()
        for _ in range(FLOODS):
            taken = ask("taking", "--port", str(system.port), "--agent", "flood")
            problem = taken["problem"] or _wrong_count(taken["deltas"], expected)
            if problem:
                self._stage.problem(system.name, "flood", problem)
            else:
                rates.append(taken["deltas"] / taken["flood_seconds"] / 1000)
        if rates:
            self._stage.result.add(system.name, "flood", median(rates))

    def _raw(self) -> None:
        stores = {"raw sqlite": ["--sqlite", str(self._stage.folder)]}
        if self._broker is not None:
            stores["raw kafka"] = ["--kafka", self._broker.address]
        paced = ["--count", str(self._stage.plan.raw_records), "--rate", str(RAW_RATE)]
        for name, store in stores.items():
            delays: list[float] = ask("raw", *store, *paced)["delta_ms"]
            self._stage.result.add(name, "delta_p50", median(delays))
            self._stage.result.add(name, "delta_p99", quantile(delays, 0.99))

    def _pids(self, system: System) -> dict[str, int]:
        pids = {process.name: process.popen.pid for process in system.processes}
        if self._broker is not None and self._broker.pid is not None and system.name in {"kafka", "lanes"}:
            pids["broker (not ours)"] = self._broker.pid
        return pids

    def _kept(self, name: str) -> dict[str, int]:
        """Give how many bytes a system's stores have."""
        if name == "embedded":
            return {"files of the log": bytes_of_folder(self._deployments[name].data)}
        if self._broker is None or name not in {"kafka", "lanes"}:
            return {}
        prefix = self._deployments[name].prefix
        sizes = bytes_of_topics(self._broker.address, prefix)
        sessions = sum(size for topic, size in sizes.items() if topic.startswith(f"{prefix}.session."))
        return {"topics of sessions": sessions, "other topics": sum(sizes.values()) - sessions}

    def _busy(self, name: str, share: float) -> None:
        self._crowded[name] = max(share, self._crowded.get(name, 0.0))


def _wrong_count(count: int, expected: int) -> str:
    return "" if count == expected else f"{count} of {expected} deltas arrived"


def measure(stage: Stage, names: Sequence[str]) -> None:
    """Start the systems, measure them round after round, stop them."""
    with stage.broker() as broker, ExitStack() as stack:
        path = Path(stage, broker)
        for name in names:
            path.start(stack, name)
        path.idle()
        for number in range(stage.plan.rounds):
            say(f"the path of a delta: round {number + 1} of {stage.plan.rounds}")
            path.round(number)
        path.conclude()
