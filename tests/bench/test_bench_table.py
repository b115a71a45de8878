"""The benchmark's table: what a target is compared with, and what it says of it."""

from __future__ import annotations

import pytest

from bench.rows import ROWS
from bench.systems import system_names
from bench.table import ITSELF, Figures, Row, Target, quantile, render, verdicts


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


@pytest.mark.parametrize(
    ("target", "figure", "reference", "said"),
    [
        (Target("at most times", 1.5), 1.5, 1.0, "pass"),
        (Target("at most times", 1.5), 1.8, 1.0, "MISSED by 20%"),
        (Target("at least times", 4), 3.0, 1.0, "MISSED by 25%"),
        (Target("at most plus", 3), 6.5, 2.0, "MISSED by 30%"),
        (Target("at most", 0.3), 0.31, 0.0, "MISSED by 3%"),
        (Target("at most", 0.3), 0.29, 0.0, "pass"),
        (Target("at most", 1), 4.0, 0.0, "MISSED 4 times"),
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
