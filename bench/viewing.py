"""Cases with many viewers, what they came to, and the table of it. Pure: it neither measures nor prints.

A figure is the median of its rounds, and a ratio is of two such medians of the same run. The range of the rounds stands
beside the p99: a ratio of two whose ranges overlap decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

__all__ = ["Case", "Figures", "table"]

STALLED_HOLDS_BYTES = 256 * 1024
"""What a stalled viewer may take of the server's memory: a portion of 64 KiB, the transport's 64 KiB, a request."""
RING_BYTES_MAX = 16 * 1024 * 1024

TARGETS: Mapping[tuple[str, str, bool], tuple[str, float]] = {
    ("one", "sqlite", True): ("p99_ms", 1.5),
    ("one", "kafka", True): ("p99_ms", 1.5),
    ("many", "sqlite", False): ("p50_ms", 1.5),
    ("many", "kafka", False): ("p50_ms", 3.0),
    ("stalled", "sqlite", False): ("p99_ms", 1.2),
    ("stalled", "kafka", False): ("p99_ms", 1.2),
}
"""Which ratio, at most, of a scenario with many on a system: to the reference (True), or to the same with fewer."""

COLUMNS = (
    "case                      system  delivered lost twice   p50 ms   p99 ms (least to most)  append p99  "
    "frames/write  us/write  server cores  MiB before  open  peak"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: `viewers` is of each session, `rate` its deltas a second."""

    name: str
    system: str
    sessions: int
    viewers: int
    rate: float
    seconds: float
    stalled: int = 0
    padding: int = 0

    @property
    def title(self) -> str:
        """Name it in the table."""
        stalled = f" + {self.stalled} stalled" if self.stalled else ""
        return f"{self.name}: {self.sessions} x {self.viewers}{stalled}"

    @property
    def size(self) -> int:
        """How many connections there are."""
        return self.sessions * (self.viewers + self.stalled)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run came to: `report` is the client's, `written` the writer's, `later` of the stalled once they read."""

    case: Case
    report: dict[str, Any]
    written: dict[str, Any]
    server_seconds: float
    server_cores: float
    rss_before_mib: float
    rss_open_mib: float
    rss_peak_mib: float
    later: dict[str, Any] | None = None

    @property
    def write_us(self) -> float:
        """What the server used for each portion that a viewer got."""
        return self.server_seconds * 1e6 / max(1, self.report["portions"])

    @property
    def problems(self) -> list[str]:
        """Say what makes it worth nothing."""
        found: list[str] = []
        for what, report in (("", self.report), (" by the stalled", self.later)):
            if report is not None and (report["lost"] or report["repeated"]):
                found.append(f"{report['lost']} lost and {report['repeated']} repeated{what}")
        expected = self.case.sessions * self.case.viewers * int(self.case.rate * self.case.seconds)
        if self.report["delivered"] < expected:
            found.append(f"{self.report['delivered']} of {expected} deltas arrived")
        return [f"{self.case.system}, {self.case.title}: {problem}" for problem in found]


def table(all_figures: Sequence[Figures]) -> tuple[str, list[str]]:
    """Show all figures and ratios; give which targets were missed."""
    by_case: dict[Case, list[Figures]] = {}
    for figures in all_figures:
        by_case.setdefault(figures.case, []).append(figures)
    lines, missed = [COLUMNS, *(_row(case, rounds) for case, rounds in by_case.items()), ""], list[str]()
    for case, rounds in by_case.items():
        for other in _compared(case, by_case):
            line, is_reached = _ratio(rounds, by_case[other], is_many=case.size > min(each.size for each in by_case))
            lines.append(line)
            if not is_reached:
                missed.append(line)
        lines += [_about_stalled(figures) for figures in rounds if figures.later is not None]
    return "\n".join(lines), missed


def _row(case: Case, rounds: Sequence[Figures]) -> str:
    of = [each.report for each in rounds]
    return (
        f"{case.title:25} {case.system:7} {sum(one['delivered'] for one in of):9} "
        f"{sum(one['lost'] for one in of):4} {sum(one['repeated'] for one in of):5} "
        f"{_median(rounds, 'p50_ms'):8.2f} {_median(rounds, 'p99_ms'):8.2f} {_range(of):>15} "
        f"{median(each.written['append_p99_ms'] for each in rounds):11.2f} "
        f"{_median(rounds, 'delivered') / _median(rounds, 'portions'):13.1f} "
        f"{median(each.write_us for each in rounds):9.1f} {median(each.server_cores for each in rounds):13.2f} "
        f"{median(each.rss_before_mib for each in rounds):11.0f} {median(each.rss_open_mib for each in rounds):5.0f} "
        f"{median(each.rss_peak_mib for each in rounds):5.0f}"
    )


def _range(reports: Sequence[dict[str, Any]]) -> str:
    figures = [cast("float", report["p99_ms"]) for report in reports]
    return f"({min(figures):.1f}-{max(figures):.1f})"


def _compared(case: Case, cases: Iterable[Case]) -> list[Case]:
    """Give what a case is held against: the reference with as many, and the same system with fewer."""
    alike = [other for other in cases if other.name == case.name]
    beside = [other for other in alike if other.size == case.size and other.system == "memory" != case.system]
    return beside + [other for other in alike if other.size < case.size and other.system == case.system]


def _ratio(rounds: Sequence[Figures], others: Sequence[Figures], *, is_many: bool) -> tuple[str, bool]:
    case, other = rounds[0].case, others[0].case
    to_reference = other.system != case.system
    p50, p99 = (_median(rounds, key) / _median(others, key) for key in ("p50_ms", "p99_ms"))
    line = (
        f"{case.title}, {case.system}: p50 {p50:.2f}, p99 {p99:.2f} times {'memory' if to_reference else other.title}"
    )
    target = TARGETS.get((case.name, case.system, to_reference))
    if target is None or not is_many:
        return line, True
    key, most = target
    is_reached = {"p50_ms": p50, "p99_ms": p99}[key] <= most
    return f"{line} (target: {key[:3]} at most {most:g}{'' if is_reached else ', MISSED'})", is_reached


def _about_stalled(figures: Figures) -> str:
    assert figures.later is not None
    later, count = figures.later, figures.case.stalled
    bound = (count * STALLED_HOLDS_BYTES + RING_BYTES_MAX) / 2**20
    grown = figures.rss_peak_mib - figures.rss_open_mib
    return (
        f"{figures.case.title}, {figures.case.system}: memory grew by {grown:.0f} MiB while it was written "
        f"(bound: {bound:.0f}); {later['ended_before']} of the stalled had been dropped; then "
        f"{later['viewers'] - later['reconnected']} read on and {later['reconnected']} resumed: "
        f"{later['delivered']} deltas, {later['lost']} lost, {later['repeated']} twice"
    )


def _median(rounds: Sequence[Figures], key: str) -> float:
    return median(cast("float", each.report[key]) for each in rounds)
