"""Prints stored results as one table: `python -m bench.report bench/results/A.json B.json …`.

Results of different parts stand beside each other, and rounds of the same row are taken together: a row's references
are measured in the same part, so what is joined is what was measured in one run each. Exits as `bench.run` does. With
`--wide` the table has a line a row, as `docs/performance.md` shows it; with `--medians` too, as the README does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench.rows import ROWS
from bench.stage import Result
from bench.systems import system_names
from bench.table import Figures, render, verdicts, wide

__all__ = ["exit_code", "joined", "lines", "main", "ordered"]

PROBLEMS_SHOWN_MAX = 10
RAW = ("raw kafka", "raw sqlite")


def lines(result: Result) -> list[str]:
    """Say all that was measured: the table, what was missed, what the processes took, what a reader should know."""
    judged = verdicts(ROWS, result.figures)
    missed = [each for each in judged if not each.reached]
    titles = {row.key: row.title for row in ROWS}
    said = [render(ROWS, result.figures), "", f"{len(judged) - len(missed)} of {len(judged)} targets reached"]
    said += [f"  {each.system}: {titles[each.row]}: {each} (target {each.target})" for each in missed]
    said += ["", *_footprint(result), "", *result.notes]
    shown = result.problems[:PROBLEMS_SHOWN_MAX]
    said += [f"PROBLEM: {problem}" for problem in shown]
    if len(result.problems) > len(shown):
        said.append(f"PROBLEM: and {len(result.problems) - len(shown)} more")
    return said


def _footprint(result: Result) -> list[str]:
    return [
        f"{system}, {process}: " + ", ".join(f"{what} {median(rounds):.4g}" for what, rounds in took.items())
        for system, processes in result.footprint.items()
        for process, took in processes.items()
    ]


def exit_code(result: Result, *, lenient: bool) -> int:
    """Give 1 if a target was missed (unless lenient), or anything was not whole."""
    missed = [each for each in verdicts(ROWS, result.figures) if not each.reached]
    return 1 if result.problems or (missed and not lenient) else 0


def ordered(figures: Figures) -> dict[str, dict[str, list[float]]]:
    """Put the systems in our order."""
    return {
        name: {row: list(rounds) for row, rounds in figures[name].items()}
        for name in (*system_names(), *RAW)
        if name in figures
    }


def joined(stored: Sequence[Mapping[str, Any]]) -> Result:
    """Take stored results together."""
    whole = Result()
    for one in stored:
        for system, rows in one["figures"].items():
            for row, rounds in rows.items():
                for figure in rounds:
                    whole.add(system, row, figure)
        for system, processes in one["footprint"].items():
            for process, took in processes.items():
                for what, rounds in took.items():
                    for figure in rounds:
                        whole.took(system, process, what, figure)
        whole.problems += one["problems"]
        whole.notes += [f"{', '.join(one['plan']['parts'])}: {note}" for note in one["notes"]]
    whole.figures = ordered(whole.figures)
    return whole


def main() -> int:
    """Print; exit with 1 if a target was missed, or anything was not whole."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--wide", action="store_true", help="only the table, a line a row")
    parser.add_argument("--medians", action="store_true", help="with --wide: without the ranges of the rounds")
    arguments = parser.parse_args()
    result = joined([orjson.loads(path.read_bytes()) for path in arguments.files])
    print(wide(ROWS, result.figures, ranges=not arguments.medians) if arguments.wide else "\n".join(lines(result)))
    return exit_code(result, lenient=False)


if __name__ == "__main__":
    sys.exit(main())
