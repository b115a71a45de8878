"""The tools of the built-in agent do what they say."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead import ToolFailed
from playhead_cli.example import VALUE_MAX, agent, calculate, clock, word_statistics


def test_a_clock_knows_cities_and_says_which_zone_it_took():
    assert clock("New York")["zone"] == "America/New_York"
    assert clock("asia/tokyo")["zone"] == "Asia/Tokyo"


def test_a_clock_does_not_guess():
    with pytest.raises(ToolFailed, match="Atlantis"):
        clock("Atlantis")


@pytest.mark.parametrize(
    ("expression", "value"), [("1 + 2 * 3", 7), ("(1+2)*3", 9), ("-2 ** 2", -4), ("7 // 2 % 2", 1), ("2 ** 10", 1024)]
)
def test_calculate_knows_arithmetic(expression: str, value: float):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "1 .__class__",
        "x",
        "1 +",
        "1/0",
        "9**9**9**9",
        "1e308 * 10 ** 400",
        "1e308 * 10",
        "(-8) ** 0.5",
        "True",
    ],
)
def test_calculate_refuses_what_is_not_arithmetic_or_has_no_value(expression: str):
    with pytest.raises(ToolFailed):
        calculate(expression)


@given(st.text("0123456789+-*/%(). e", max_size=30))
def test_calculate_answers_or_refuses_whatever_it_is_given(expression: str):
    with suppress(ToolFailed):
        assert abs(calculate(expression)) <= VALUE_MAX


def test_word_statistics_counts():
    assert word_statistics("The cat. The dog!") == {
        "words": 4,
        "characters": 17,
        "sentences": 2,
        "most_used": [("the", 2), ("cat", 1), ("dog", 1)],
    }


def test_the_example_is_the_default_agent():
    assert agent.default
    assert agent.tool_names == ("clock", "calculate", "word_statistics")
