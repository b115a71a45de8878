"""From figures to the table: rows, targets, verdicts. Pure: it neither measures nor prints.

A row's figure is the median of its rounds. Ratios are of those medians; the range of the rounds stands beside each, so
that a reader sees whether a difference is larger than the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, assert_never

__all__ = ["ROWS", "Figures", "Row", "Target", "quantile", "render", "verdicts"]

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""For each system and each row's key, one figure a round."""

Rule = Literal["at most times", "at least times", "at most plus"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a system must reach, relative to a reference of the same run."""

    rule: Rule
    amount: float
    reference: str = "plain"

    def __str__(self) -> str:
        match self.rule:
            case "at most times":
                return f"≤ {self.amount:g} × {self.reference}"
            case "at least times":
                return f"≥ {self.amount:g} × {self.reference}"
            case "at most plus":
                return f"≤ {self.reference} + {self.amount:g}"
            case _:
                assert_never(self.rule)

    def compare(self, figure: float, reference: float) -> tuple[str, bool]:
        """Give the comparison as it is written, and whether the target is reached."""
        match self.rule:
            case "at most times":
                return f"{figure / reference:.2f} ×", figure <= self.amount * reference
            case "at least times":
                return f"{figure / reference:.2f} ×", figure >= self.amount * reference
            case "at most plus":
                return f"{figure - reference:+.2f}", figure <= reference + self.amount
            case _:
                assert_never(self.rule)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured, and the targets that systems have for it."""

    key: str
    title: str
    targets: Mapping[str, Target]


ROWS = (
    Row(
        "delta_p50",
        "added latency of a delta at the client, p50 (ms)",
        {"embedded": Target("at most times", 1.8), "kafka": Target("at most times", 1.5, "raw kafka")},
    ),
    Row("delta_p99", "added latency of a delta at the client, p99 (ms)", {}),
    Row(
        "first_event",
        "first event after POST, p50 (ms)",
        {"embedded": Target("at most plus", 3), "kafka": Target("at most plus", 10)},
    ),
    Row(
        "first_delta",
        "first delta after POST, over the model's time, p50 (ms)",
        {"embedded": Target("at most plus", 3), "kafka": Target("at most plus", 10)},
    ),
    Row(
        "tools",
        "two parallel tools: overhead over model + tool time, p50 (ms)",
        {"embedded": Target("at most times", 1.2), "kafka": Target("at most times", 2.5)},
    ),
    Row(
        "sessions",
        "200 sessions at once (sessions per second)",
        {"embedded": Target("at least times", 1), "kafka": Target("at least times", 0.7)},
    ),
    Row(
        "cpu",
        "CPU of the system's processes per session (ms)",
        {"embedded": Target("at most times", 1), "kafka": Target("at most times", 1.5)},
    ),
)


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one system, compared."""

    row: str
    system: str
    comparison: str
    target: str
    reached: bool


def verdicts(figures: Figures) -> list[Verdict]:
    """Compare every target that both figures are there for."""
    found: list[Verdict] = []
    for row in ROWS:
        for system, target in row.targets.items():
            own = figures.get(system, {}).get(row.key)
            reference = figures.get(target.reference, {}).get(row.key)
            if own and reference:
                comparison, reached = target.compare(median(own), median(reference))
                found.append(Verdict(row.key, system, comparison, str(target), reached))
    return found


def render(figures: Figures) -> str:
    """Write the table in Markdown: a column a system, and after those with targets how they stand."""
    known = {(verdict.row, verdict.system): verdict for verdict in verdicts(figures)}
    judged = {system for _, system in known}
    head = ["what"]
    for system in figures:
        head += [system, "against", "target", ""] if system in judged else [system]
    lines = [head, ["---"] * len(head)]
    for row in ROWS:
        line = [row.title]
        for system in figures:
            line.append(_figure(figures[system].get(row.key)))
            if system in judged:
                verdict = known.get((row.key, system))
                line += (
                    [verdict.comparison, verdict.target, "pass" if verdict.reached else "FAIL"] if verdict else [""] * 3
                )
        if any(line[1:]):
            lines.append(line)
    return "\n".join(_aligned(lines))


def _figure(rounds: Sequence[float] | None) -> str:
    if not rounds:
        return ""
    if len(rounds) == 1:
        return _number(rounds[0])
    return f"{_number(median(rounds))} ({_number(min(rounds))}–{_number(max(rounds))})"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "| "
        + " | ".join(
            cell.ljust(width, "-" if set(cell) == {"-"} else " ") for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    ]
