"""What a tool declares to return, and what of what it returns is taken for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playhead.content import File, Image, Pending, Question
from playhead.errors import Invalid
from playhead.returns import describe_returns
from playhead.tools import tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict


class Forecast(BaseModel):
    city: str
    degrees: float = Field(ge=-90, le=60)


class Order(TypedDict):
    id: str
    total: float


@dataclass
class Point:
    x: int
    y: int


def model() -> Forecast: ...
def typed() -> Order: ...
def data() -> list[Point]: ...
def text() -> str: ...
def pending() -> str | Pending: ...
def question() -> Forecast | Question | None: ...


def test_the_schema_is_that_of_the_annotation() -> None:
    returns = describe_returns(model)
    assert returns is not None
    assert returns.schema["properties"]["degrees"] == {"maximum": 60.0, "minimum": -90.0, "title": "Degrees",
                                                       "type": "number"}  # fmt: skip
    assert tool(description="d")(model).output_schema == returns.schema


def test_a_union_declares_only_what_is_a_value() -> None:
    returns = describe_returns(pending)
    assert returns is not None and returns.schema == {"type": "string"}
    returns = describe_returns(question)
    assert returns is not None and {"type": "null"} in returns.schema["anyOf"]


def nothing() -> None: ...
def anything() -> Any: ...
def thing() -> object: ...
def unsaid(): ...  # pyright: ignore[reportUnknownParameterType]
def picture() -> Image: ...
def pictures() -> list[str | Image | File]: ...
def later() -> Pending: ...


@pytest.mark.parametrize("function", [nothing, anything, thing, unsaid, picture, pictures, later])
def test_what_says_nothing_checkable_declares_nothing(function: Callable[..., object]) -> None:
    assert describe_returns(function) is None


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (model, Forecast(city="Oslo", degrees=3)),
        (model, {"city": "Oslo", "degrees": 3}),
        (typed, {"id": "1", "total": 2.5}),
        (data, [Point(1, 2)]),
        (text, "hello"),
        (pending, Pending(3)),
        (question, Question("really?")),
        (question, None),
    ],
)
def test_what_was_declared_passes(function: Callable[..., object], value: object) -> None:
    returns = describe_returns(function)
    assert returns is not None
    returns.check(value)


@pytest.mark.parametrize(
    ("function", "value", "problem"),
    [
        (model, {"city": "Oslo", "degrees": 300}, "degrees: Input should be less than or equal to 60"),
        (model, "sunny", "the result: "),
        (typed, {"id": "1"}, "total: Field required"),
        (data, [Point(1, 2), {"x": "a", "y": 1}], "1.x: "),
        (text, 3, "valid string"),
        (question, "no", "the result|Forecast"),
    ],
)
def test_what_was_not_declared_is_refused_with_what_is_wrong(
    function: Callable[..., object], value: object, problem: str
) -> None:
    returns = describe_returns(function)
    assert returns is not None
    with pytest.raises(Invalid, match=problem):
        returns.check(value)


def test_a_problem_does_not_repeat_the_value() -> None:
    returns = describe_returns(model)
    assert returns is not None
    with pytest.raises(Invalid) as refused:
        returns.check({"city": "Oslo", "degrees": "hunter2"})
    assert "hunter2" not in str(refused.value)


class Strange:
    pass


def strange() -> Strange: ...


def test_a_class_that_pydantic_does_not_know_declares_nothing() -> None:
    assert describe_returns(strange) is None
