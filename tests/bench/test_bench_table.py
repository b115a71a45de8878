"""The benchmark's table: what a target is compared with, and what it says of it."""

from __future__ import annotations

import pytest

from bench.report import exit_code, joined, lines
from bench.rows import ROWS
from bench.stage import Result
from bench.systems import system_names
from bench.table import ITSELF, Figures, Row, Target, quantile, render, verdicts, wide


def test_a_target_is_judged_by_the_medians_of_the_rounds() -> None:
    figures: Figures = {
        "plain": {"delta_p50": [1.0, 9.0, 1.0], "sessions": [100.0], "first_event": [20.0]},
        "embedded": {"delta_p50": [1.7, 1.7, 9.0], "sessions": [99.0], "first_event": [23.5]},
        "raw kafka": {"delta_p50": [2.0]},
        "kafka": {"delta_p50": [3.1]},
    }
    judged = {(each.row, each.system): (each.comparison, each.reached) for each in verdicts(ROWS, figures)}
    assert judged == {
        ("delta_p50", "embedded"): ("1.70 ×", True),
        ("delta_p50", "kafka"): ("1.55 ×", False),
        ("sessions", "embedded"): ("0.99 ×", False),
        ("first_event", "embedded"): ("+3.50", False),
    }
    table = render(ROWS, figures)
    assert "1.70 (1.70–9.00)" in table
    assert table.count("MISSED") == 3
    first, *_ = wide(ROWS, {**figures, "lanes": {"delta_p50": [2.5]}}).splitlines()[2:]
    assert first.split(" | ")[1:] == [
        "plain 1.00 (1.00–9.00); raw kafka 2.00",
        "1.70 (1.70–9.00), 1.70 × (pass: ≤ 1.8 × plain)",
        "3.10, 1.55 × (**missed by 3%**: ≤ 1.5 × raw kafka); lanes 2.50 |",
    ]
    first, *_ = wide(ROWS, figures, ranges=False).splitlines()[2:]
    assert first.split(" | ")[1:3] == ["plain 1.00; raw kafka 2.00", "1.70, 1.70 × (pass: ≤ 1.8 × plain)"]


@pytest.mark.parametrize(
    ("target", "figure", "reference", "said"),
    [
        (Target("at most times", 1.5), 1.5, 1.0, "pass"),
        (Target("at most times", 1.5), 1.8, 1.0, "MISSED by 20%"),
        (Target("at least times", 4), 3.0, 1.0, "MISSED by 25%"),
        (Target("at most plus", 3), 6.5, 2.0, "MISSED by 30%"),
        (Target("at most", 0.3), 0.31, 0.0, "MISSED by 3%"),
        (Target("at most", 0.3), 0.29, 0.0, "pass"),
        (Target("at most", 1), 4.0, 0.0, "MISSED at 4.0 × the limit"),
        (Target("at most", 1), 1.99, 0.0, "MISSED by 99%"),
        (Target("at least", 100), 99.9, 0.0, "MISSED by 0%"),
        (Target("at least", 100), 100.0, 0.0, "pass"),
    ],
)
def test_a_row_that_misses_says_by_how_much(target: Target, figure: float, reference: float, said: str) -> None:
    row = Row("row", "title", {"system": target})
    figures = {"plain": {"row": [reference]}, "system": {"row": [figure]}}
    (verdict,) = verdicts([row], figures)
    assert str(verdict) == said
    assert verdict.reached == (said == "pass")


def test_a_target_may_be_relative_to_another_row_of_the_same_system() -> None:
    rows = [Row("few", "few", {}), Row("many", "many", {"a": Target("at most times", 2, ITSELF, "few", "at few")})]
    (verdict,) = verdicts(rows, {"a": {"few": [1.0], "many": [3.0]}, "plain": {"few": [9.0], "many": [9.0]}})
    assert (verdict.comparison, verdict.target, verdict.reached) == ("3.00 ×", "≤ 2 × at few", False)


def test_a_target_without_its_reference_is_not_judged_and_an_absolute_one_is() -> None:
    rows = [Row("a", "a", {"x": Target("at most times", 1)}), Row("b", "b", {"x": Target("at most", 1)})]
    assert [each.row for each in verdicts(rows, {"x": {"a": [1.0], "b": [1.0]}})] == ["b"]


def test_every_target_is_of_a_system_and_a_row_that_there_is() -> None:
    keys = {row.key for row in ROWS}
    for row in ROWS:
        for system, target in row.targets.items():
            assert system in system_names()
            assert target.reference in {*system_names(), "raw kafka", "raw sqlite", ITSELF}
            assert (target.row or row.key) in keys


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]


def test_results_of_several_runs_make_one_table_with_all_their_rounds() -> None:
    def stored(part: str, figures: Figures, problems: list[str]) -> dict[str, object]:
        took = {"embedded": {"dev": {"rss_mib": [1.0]}}}
        plan = {"parts": [part]}
        return {"plan": plan, "figures": figures, "footprint": took, "problems": problems, "notes": ["quiet"]}

    first = stored("live", {"embedded": {"live_10": [1.0], "live_1000": [1.2]}}, [])
    second = stored("live", {"embedded": {"live_10": [1.0], "live_1000": [9.0]}}, ["one run was not whole"])
    third = stored("stream", {"embedded": {"delta_p50": [1.0]}, "plain": {"delta_p50": [1.0]}}, [])
    whole = joined([first, second, third])
    assert list(whole.figures) == ["plain", "embedded"]
    assert whole.figures["embedded"]["live_1000"] == [1.2, 9.0]
    assert whole.footprint == {"embedded": {"dev": {"rss_mib": [1.0] * 3}}}
    assert whole.notes == ["live: quiet", "live: quiet", "stream: quiet"]
    said = "\n".join(lines(whole))
    assert "1 of 2 targets reached" in said
    assert "PROBLEM: one run was not whole" in said


@pytest.mark.parametrize(
    ("p50", "problems", "lenient", "code"),
    [(1.0, [], False, 0), (9.0, [], False, 1), (9.0, [], True, 0), (1.0, ["not whole"], True, 1)],
)
def test_a_missed_target_or_a_run_that_was_not_whole_is_exit_code_1(
    p50: float, problems: list[str], lenient: bool, code: int
) -> None:
    result = Result({"embedded": {"delta_p50": [p50]}, "plain": {"delta_p50": [1.0]}}, problems=problems)
    assert exit_code(result, lenient=lenient) == code
