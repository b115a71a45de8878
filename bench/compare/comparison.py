"""From figures to the comparison's table: a line a row, a column a system. Pure: it neither measures nor prints.

A cell is the median of the rounds, the least and the greatest, and how many times the reference's median that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.table import Figures

__all__ = ["ROWS", "Row", "render"]

NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured, and the system that the others are compared with, if any."""

    key: str
    title: str
    reference: str = ""


ROWS = (
    Row("delta_p50", "added latency of a delta at the client, p50 (ms)", "plain"),
    Row("delta_p99", "the same, p99 (ms)", "plain"),
    Row("first_event", "first event after POST, p50 (ms)", "plain"),
    Row("first_delta", "first delta after POST, over the model's time, p50 (ms)", "plain"),
    Row("tools", "two parallel tools: overhead over model + tool time, p50 (ms)", "plain"),
    Row("sessions", "200 sessions at once (sessions per second)", "plain"),
    Row("cpu", "CPU of the server per session (ms)", "plain"),
    Row("store_cpu", "CPU of a database beside it per session (ms)"),
    Row("burst", "2,000 deltas at once, one session (thousand deltas per second)", "memory"),
    Row("crash_ended", "kill -9 in the middle: runs that end (%)"),
    Row("crash_next", "kill -9: from serving again to the client's next event (s)"),
    Row("crash_missing", "kill -9: deltas missing at the client, of 300"),
    Row("crash_twice", "kill -9: deltas shown twice, of 300"),
)


def render(figures: Figures) -> str:
    """Write the table in Markdown: only rows of which something was measured."""
    lines: list[Sequence[str]] = [["what", *figures], ["---"] * (1 + len(figures))]
    for row in ROWS:
        cells = [_cell(measured.get(row.key), _reference(row, system, figures)) for system, measured in figures.items()]
        if any(cell != NOT_MEASURED for cell in cells):
            lines.append([row.title, *cells])
    return "\n".join(_aligned(lines))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]


def _reference(row: Row, system: str, figures: Mapping[str, Mapping[str, Sequence[float]]]) -> float | None:
    rounds = figures.get(row.reference, {}).get(row.key)
    return median(rounds) if rounds and system != row.reference else None


def _cell(rounds: Sequence[float] | None, reference: float | None) -> str:
    if not rounds:
        return NOT_MEASURED
    middle = _number(median(rounds))
    spread = "" if min(rounds) == max(rounds) else f" ({_number(min(rounds))}–{_number(max(rounds))})"
    return middle + spread + (f", {_number(median(rounds) / reference)} ×" if reference else "")


def _number(value: float) -> str:
    """Write three figures."""
    return f"{value:.2f}" if 0 < abs(value) < 10 else f"{value:.1f}" if 10 <= abs(value) < 100 else f"{value:.0f}"
