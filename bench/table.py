"""From figures to the table: rows, targets, verdicts. Pure: it neither measures nor prints.

A row's figure is the median of its rounds. Ratios are of those medians; the range of the rounds stands beside each, so
that a reader sees whether a difference is larger than the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, assert_never

__all__ = ["ITSELF", "Figures", "Row", "Target", "Verdict", "quantile", "render", "verdicts", "wide"]

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""For each system and each row's key, one figure a round."""

Rule = Literal["at most times", "at least times", "at most plus", "at most", "at least"]
"""The last two are absolute: they have no reference."""

ITSELF = "itself"
"""A reference that is another row of the same system."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a system must reach: relative to a reference of the same run, or absolute."""

    rule: Rule
    amount: float
    reference: str = "plain"
    row: str = ""
    """The row of the reference, where it is not the same."""
    named: str = ""
    """How the reference is called in the table, where it is not by its name."""

    def __str__(self) -> str:
        called = self.named or self.reference
        match self.rule:
            case "at most times":
                return f"≤ {self.amount:g} × {called}"
            case "at least times":
                return f"≥ {self.amount:g} × {called}"
            case "at most plus":
                return f"≤ {called} + {self.amount:g}"
            case "at most":
                return f"≤ {self.amount:g}"
            case "at least":
                return f"≥ {self.amount:g}"
            case _:
                assert_never(self.rule)

    @property
    def is_absolute(self) -> bool:
        """Whether it needs no reference."""
        return self.rule in ("at most", "at least")

    def compare(self, figure: float, reference: float) -> tuple[str, float]:
        """Give the comparison as it is written, and the share of the limit by which it is missed: 0 if reached."""
        match self.rule:
            case "at most times":
                return f"{figure / reference:.2f} ×", _over(figure, self.amount * reference)
            case "at least times":
                return f"{figure / reference:.2f} ×", _under(figure, self.amount * reference)
            case "at most plus":
                return f"{figure - reference:+.2f}", _over(figure, reference + self.amount)
            case "at most":
                return "", _over(figure, self.amount)
            case "at least":
                return "", _under(figure, self.amount)
            case _:
                assert_never(self.rule)


def _over(figure: float, limit: float) -> float:
    return max(0.0, figure / limit - 1)


def _under(figure: float, limit: float) -> float:
    return max(0.0, 1 - figure / limit)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured, and the targets that systems have for it."""

    key: str
    title: str
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one system, compared."""

    row: str
    system: str
    comparison: str
    target: str
    missed_by: float
    """The share of the limit that is missing: 0 if it is reached."""

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.missed_by == 0

    def __str__(self) -> str:
        if self.reached:
            return "pass"
        return (
            f"MISSED by {self.missed_by:.0%}"
            if self.missed_by < 1
            else f"MISSED at {1 + self.missed_by:.1f} × the limit"
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def verdicts(rows: Sequence[Row], figures: Figures) -> list[Verdict]:
    """Compare every target that both figures are there for."""
    found: list[Verdict] = []
    for row in rows:
        for system, target in row.targets.items():
            own = figures.get(system, {}).get(row.key)
            if not own:
                continue
            if target.is_absolute:
                comparison, missed_by = target.compare(median(own), 0.0)
            else:
                name = system if target.reference == ITSELF else target.reference
                reference = figures.get(name, {}).get(target.row or row.key)
                if not reference:
                    continue
                comparison, missed_by = target.compare(median(own), median(reference))
            found.append(Verdict(row.key, system, comparison, str(target), missed_by))
    return found


HEAD = ("what", "system", "median (least–greatest)", "against", "target", "verdict")


def render(rows: Sequence[Row], figures: Figures) -> str:
    """Write the table in Markdown: a line for each row and system, with how it stands where there is a target."""
    known = {(verdict.row, verdict.system): verdict for verdict in verdicts(rows, figures)}
    lines: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD)]
    for row in rows:
        title = row.title
        for system, measured in figures.items():
            if rounds := measured.get(row.key):
                verdict = known.get((row.key, system))
                judged = [verdict.comparison, verdict.target, str(verdict)] if verdict else [""] * 3
                lines.append([title, system, _figure(rounds), *judged])
                title = ""
    return "\n".join(_aligned(lines))


COLUMNS: Mapping[str, Sequence[str]] = {"embedded": ("embedded",), "Kafka": ("kafka", "lanes")}


def wide(rows: Sequence[Row], figures: Figures, *, ranges: bool = True) -> str:
    """Write the table in Markdown as documentation has it: a line a row, references beside the systems with targets.

    Without `ranges` the medians stand alone.
    """
    if not ranges:
        figures = {
            name: {key: [median(rounds)] for key, rounds in measured.items() if rounds}
            for name, measured in figures.items()
        }
    known = {(verdict.row, verdict.system): verdict for verdict in verdicts(rows, figures)}
    ours = {system for systems in COLUMNS.values() for system in systems}
    columns = {"reference": [system for system in figures if system not in ours], **COLUMNS}
    lines = [f"| what | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row in rows:
        cells: list[str] = []
        for title, systems in columns.items():
            said = [
                ("" if system == title.lower() else f"{system} ") + _judged(rounds, known.get((row.key, system)))
                for system in systems
                if (rounds := figures.get(system, {}).get(row.key))
            ]
            cells.append("; ".join(said))
        if any(cells):
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _judged(rounds: Sequence[float], verdict: Verdict | None) -> str:
    if verdict is None:
        return _figure(rounds)
    compared = f", {verdict.comparison}" if verdict.comparison else ""
    how = "pass" if verdict.reached else f"**{str(verdict).lower()}**"
    return f"{_figure(rounds)}{compared} ({how}: {verdict.target})"


def _figure(rounds: Sequence[float]) -> str:
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
