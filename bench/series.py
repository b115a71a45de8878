"""From samples to a verdict: is a series flat. Pure.

Only the last two thirds of a soak are judged: before that, caches fill and processes find their size. The growth over
that stretch is its length times the median of the slopes between all pairs of samples (Theil–Sen), which a few samples
taken in a bad moment do not move. What it may be is said for each kind of series, by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = [
    "KEPT",
    "LEFT_ALONE",
    "TOLERANCES",
    "Sample",
    "Series",
    "Tolerance",
    "Verdict",
    "judged",
    "series_of",
    "slope",
]

Sample = Mapping[str, float]
"""What was found at one moment, by name: `second`, and `gateway.rss_mib` for what belongs to a process."""

SETTLING_SHARE = 1 / 3
OTHERS = "others.cores"
"""The series of what processes used that are none of the soak's."""
LEFT_ALONE: Mapping[str, float] = {OTHERS: 0.3, "stolen.cores": 0.2, "disk.sync_ms": 100.0}
"""Up to what of each a sample was taken on a machine that did what the soak asked, and nothing else.

A disk that takes so long for one byte is not kept busy by a soak: this one's own writes are answered in a few ms.
"""
NOT_JUDGED = frozenset({*LEFT_ALONE, "broker.rss_mib"})
"""A broker's memory is a heap that fills until it is collected, as far as it was told that it may."""
SAMPLES_MIN = 6
"""Of fewer nothing is said."""
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much a series may grow: so much an hour, but always so much in all, and always such a share of its median.

    The last two are noise: what an allocator takes at a time, connections that are open just then.
    """

    unit: str
    an_hour: float = 0.0
    in_all: float = 0.0
    share: float = 0.0
    a_session: float = 0.0
    """For what is written for each session and stays."""
    settles_seconds: float = 0.0
    """What comes before is not judged, however short a soak is."""
    alone: bool = False
    """Only samples count in which the machine was left alone: see `LEFT_ALONE`."""

    def allows(self, seconds: float, middle: float) -> float:
        """Give the greatest growth over a stretch of time."""
        return max(self.an_hour * seconds / HOUR, self.in_all, self.share * abs(middle))


TOLERANCES: Mapping[str, Tolerance] = {
    "rss_mib": Tolerance("MiB", an_hour=8.0, in_all=6.0),
    "fds": Tolerance("files", in_all=4.0, share=0.15),
    "threads": Tolerance("threads", in_all=1.0),
    "cores": Tolerance("cores", alone=True, in_all=0.03, share=0.25),
    "topics": Tolerance("topics"),
    "partitions": Tolerance("partitions"),
    "lag": Tolerance("messages", in_all=20.0, share=0.5),
    "delta_p50_ms": Tolerance("ms", alone=True, in_all=5.0, share=0.5),
    "delta_p99_ms": Tolerance("ms", alone=True, in_all=100.0, share=1.0),
    "first_event_p50_ms": Tolerance("ms", alone=True, in_all=10.0, share=0.5),
    "open_sessions": Tolerance("sessions", in_all=5.0, share=0.5),
    "sessions_owned": Tolerance("sessions", in_all=20.0, share=0.1, settles_seconds=90.0),  # 60 s idle, and a look
    "tasks": Tolerance("tasks", in_all=20.0, share=0.5, settles_seconds=90.0),
    "stream_clients": Tolerance("clients", in_all=5.0, share=0.5),
    "tool_calls_running": Tolerance("calls", in_all=5.0, share=0.5),
    "database_mib": Tolerance("MiB", a_session=0.02),
    "errors": Tolerance("errors"),
}
"""By the last part of a series' name. A series of another name is drawn and not judged."""


KEPT: Mapping[str, Mapping[str, float]] = {
    "lanes": {"orchestrator.rss_mib": 360 / 2**20, "gateway.rss_mib": 160 / 2**20},
}
"""For each system and series what a process keeps of each session that there ever was, and is said to keep.

In lanes that is a line of the index, about 149 bytes, and in an orchestrator about 179 of a ledger, which has at most
4,096 sessions a lane.
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its name, and at which second it had which value."""

    name: str
    seconds: Sequence[float]
    values: Sequence[float]

    @property
    def kind(self) -> str:
        """What is measured, without of which process."""
        return self.name.rpartition(".")[2]

    def at(self, seconds: Collection[float]) -> Series:
        """Give the part of some moments."""
        kept = [(second, value) for second, value in zip(self.seconds, self.values, strict=True) if second in seconds]
        return Series(self.name, [second for second, _ in kept], [value for _, value in kept])

    def settled(self, seconds_min: float = 0.0) -> Series:
        """Give the part that is judged: the last two thirds, and nothing of the first so many seconds."""
        since = self.seconds[0] + max(seconds_min, (self.seconds[-1] - self.seconds[0]) * SETTLING_SHARE)
        return self.at([second for second in self.seconds if second >= since])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a series is flat, and how it went over the part that was judged."""

    name: str
    unit: str
    middle: float
    least: float
    greatest: float
    an_hour: float
    growth: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than it may."""
        return self.growth <= self.allowed

    def __str__(self) -> str:
        said = "flat" if self.flat else "GROWS"
        return (
            f"{self.name:32} {self.middle:10.2f} ({self.least:.2f}–{self.greatest:.2f}) {self.unit}".ljust(78)
            + f" {self.growth:+9.2f} of {self.allowed:.2f} allowed, {self.an_hour:+.1f} an hour   {said}"
        )


def slope(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Give the median of the slopes between all pairs of samples, a second."""
    points = list(zip(seconds, values, strict=True))
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(points)
        for later in points[index + 1 :]
        if later[0] > earlier[0]
    ]
    return median(slopes) if slopes else 0.0


def series_of(samples: Sequence[Sample]) -> list[Series]:
    """Take samples apart, by name; a sample need not have all."""
    names = dict.fromkeys(name for sample in samples for name in sample if name != "second")
    found: list[Series] = []
    for name in names:
        there = [sample for sample in samples if name in sample]
        found.append(Series(name, [one["second"] for one in there], [one[name] for one in there]))
    return found


def judged(samples: Sequence[Sample], system: str = "") -> list[Verdict]:
    """Judge every series that has a tolerance and enough samples. `sessions` counts those that have begun."""
    kept = KEPT.get(system, {})
    sessions = {sample["second"]: sample.get("sessions", 0.0) for sample in samples}
    quiet = {
        sample["second"]
        for sample in samples
        if all(sample.get(name, 0.0) <= most for name, most in LEFT_ALONE.items())
    }
    verdicts: list[Verdict] = []
    for whole in series_of(samples):
        tolerance = TOLERANCES.get(whole.kind)
        if tolerance is None or whole.name in NOT_JUDGED:
            continue
        series = whole.settled(tolerance.settles_seconds)
        series = series.at(quiet) if tolerance.alone else series
        if len(series.values) < SAMPLES_MIN:
            continue
        passed, middle = series.seconds[-1] - series.seconds[0], median(series.values)
        rate = slope(series.seconds, series.values)
        begun = sessions[series.seconds[-1]] - sessions[series.seconds[0]]
        allowed = tolerance.allows(passed, middle) + (tolerance.a_session + kept.get(whole.name, 0.0)) * begun
        if whole.kind == "errors":  # not one, at any time
            rate = max(whole.values) / max(passed, 1.0)
        spread = (min(series.values), max(series.values))
        verdicts.append(
            Verdict(whole.name, tolerance.unit, middle, *spread, rate * HOUR, round(rate * passed, 6), allowed)
        )
    return verdicts
