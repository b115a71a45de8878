"""What arguments are refused, and what the refusal says."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.guard import SEARCHED_CHARS_MAX, refusal
from playhead.options import Limit
from pydantic import BaseModel


def why(limit: Limit, value: object) -> str | None:
    return refusal({"it": limit}, {"other": "x", "it": value})


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False)), st.integers(-1_000, 1_000))
def test_a_number_is_within_its_bounds_or_refused(value: float | Decimal, bound: int):
    assert (why(Limit(least=bound), value) is None) == (value >= bound)
    assert (why(Limit(most=bound), value) is None) == (value <= bound)


@pytest.mark.parametrize("value", [True, "7", math.nan, Decimal("NaN"), Decimal("sNaN"), [1], 1j])
def test_what_is_not_a_number_has_no_place_where_one_is_bounded(value: object):
    assert why(Limit(least=0), value) == "argument it must be a number"


@given(st.one_of(st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.none()), st.sets(st.integers())))
def test_a_text_or_list_is_no_longer_than_its_length(value: str | list[int]):
    assert why(Limit(length=len(value)), value) is None
    assert len(value) == 0 or why(Limit(length=len(value) - 1), value) is not None


def test_what_has_no_length_has_that_of_its_text():
    assert why(Limit(length=4), Path("/tmp")) is None
    assert why(Limit(length=3), Path("/tmp")) == "argument it must be no longer than 3 characters"
    assert why(Limit(length=2), 12) is None
    assert why(Limit(length=2), 123) is not None


class Mail(BaseModel):
    to: str
    sent: date


@pytest.mark.parametrize(
    "value",
    [
        "bob@evil.example",
        ["a", {"cc": "bob@evil.example"}],
        Mail(to="bob@evil.example", sent=date(2026, 1, 1)),
        {"bob@evil.example": 1},
        Path("bob@evil.example"),
    ],
    ids=repr,
)
def test_a_denied_pattern_is_found_however_deep_and_the_value_is_not_repeated(value: object):
    said = why(Limit(deny=["nothing", r"evil\.\w+"]), value)
    assert said == r"argument it must not match 'evil\\.\\w+'"
    assert "bob" not in said


def test_a_date_is_searched_as_the_text_that_it_is_in_json():
    assert why(Limit(deny="^2026-"), date(2026, 1, 1)) is not None
    assert why(Limit(deny="^2026-"), date(2025, 1, 1)) is None


def test_what_is_too_long_to_be_searched_or_cannot_be_is_refused():
    assert why(Limit(deny="x"), "a" * SEARCHED_CHARS_MAX) is None
    assert why(Limit(deny="x"), "a" * (SEARCHED_CHARS_MAX + 1)) is not None
    assert why(Limit(deny="x"), ["a" * SEARCHED_CHARS_MAX]) is not None
    assert why(Limit(deny="x"), object()) == "argument it cannot be searched for what is denied"
    assert why(Limit(length=5), object()) == "argument it cannot be measured"


def test_an_argument_that_was_not_given_breaks_no_limit():
    limit = Limit(least=1, length=1, deny="null")
    assert refusal({"it": limit}, {}) is None
    assert refusal({"it": limit}, {"it": None}) is None
    assert refusal({}, {"it": "anything"}) is None


def test_all_limits_of_an_argument_hold_together():
    limit = Limit(least=10, most=100, length=2, deny="7")
    assert [why(limit, value) for value in (9, 101, 100, 17, 42)] == [
        "argument it must be at least 10",
        "argument it must be at most 100",
        "argument it must be no longer than 2 characters",
        "argument it must not match '7'",
        None,
    ]
