"""`@tool`: what a declaration gives, and what it refuses."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, Literal

import pytest
from playhead import ToolContext, ToolFailed, tool
from playhead.errors import Invalid, Misconfigured
from playhead.tools import Tool, ToolOptions
from pydantic import BaseModel, Field


class Line(BaseModel):
    sku: str
    count: int = 1


@tool
async def order(
    lines: list[Line],
    express: bool = False,
    ctx: ToolContext | None = None,
    json: Annotated[int, Field(ge=1, description="from the hint")] = 2,
    model_config: Literal["a", "b"] = "a",
) -> str:
    """Order things.

    They come by post.

    Args:
        lines: What to order,
            and how many.
        json: from the docstring
        nobody: is not a parameter

    Returns:
        A number.
    """
    return f"{len(lines)} {express} {ctx} {json} {model_config}"


def test_the_bare_decorator_has_the_defaults_that_the_documentation_promises() -> None:
    assert (order.effect, order.pool, order.timeout_seconds, order.retries, order.concurrency) == (
        "read",
        "default",
        60.0,
        0,
        16,
    )


def test_a_declaration_keeps_what_it_is_given() -> None:
    @tool(effect="write", pool="billing", timeout=2, retries=3, concurrency=1, name="pay_out", description="Pays.")
    def pay(amount: int) -> int:
        return amount

    assert (pay.name, pay.description, pay.effect, pay.pool) == ("pay_out", "Pays.", "write", "billing")
    assert (pay.timeout_seconds, pay.retries, pay.concurrency) == (2.0, 3, 1)


async def test_a_tool_is_still_the_plain_function() -> None:
    assert await order([Line(sku="x")], json=3) == "1 False None 3 a"
    assert "express" in inspect.signature(order).parameters


def test_the_schema_comes_from_the_hints_and_the_docstring_and_hides_the_context() -> None:
    assert order.input_schema == {
        "$defs": {
            "Line": {
                "properties": {"sku": {"type": "string"}, "count": {"default": 1, "type": "integer"}},
                "required": ["sku"],
                "title": "Line",
                "type": "object",
            }
        },
        "additionalProperties": False,
        "properties": {
            "lines": {
                "description": "What to order, and how many.",
                "items": {"$ref": "#/$defs/Line"},
                "type": "array",
            },
            "express": {"default": False, "type": "boolean"},
            "json": {"default": 2, "description": "from the hint", "minimum": 1, "type": "integer"},
            "model_config": {"default": "a", "enum": ["a", "b"], "type": "string"},
        },
        "required": ["lines"],
        "type": "object",
    }
    assert order.description == "Order things.\n\nThey come by post."


def sphinx(city: str) -> str:
    """Tell the weather.

    :param city: The city.
    """
    return city


def numpy(city: str) -> str:
    """Tell the weather.

    Parameters
    ----------
    city : str
        The city.
    """
    return city


def google(city: str) -> str:
    """Tell the weather.

    Args:
        city: The city.
    """
    return city


@pytest.mark.parametrize("function", [sphinx, numpy, google])
def test_parameters_are_documented_in_the_style_that_the_author_likes(function: Callable[[str], str]) -> None:
    declared = tool(function)
    assert declared.description == "Tell the weather."
    assert declared.input_schema["properties"]["city"]["description"] == "The city."


def test_the_schema_hash_is_of_the_schema_alone() -> None:
    def first(city: str, days: int) -> str:
        """One."""
        return city

    def second(city: str, days: int) -> int:
        """Another."""
        return days

    def third(city: str) -> str:
        """A third."""
        return city

    assert (
        tool(
            first,
        ).schema_hash
        == tool(second).schema_hash
        != tool(third).schema_hash
    )


def test_arguments_are_checked_and_made_what_the_hints_say() -> None:
    parsed = order.arguments.parse('{"lines": [{"sku": "x"}]}')
    assert parsed == {"lines": [Line(sku="x")], "express": False, "json": 2, "model_config": "a"}
    with pytest.raises(Invalid) as refused:
        order.arguments.parse('{"lines": [{"count": 1}], "json": 0, "more": 1}')
    assert refused.value.advice == (
        "lines.0.sku: Field required; json: Input should be greater than or equal to 1; "
        "more: Extra inputs are not permitted"
    )


def test_each_parse_gives_arguments_of_its_own() -> None:
    @tool
    def gather(seen: list[int] = []) -> int:  # noqa: B006 - what authors do write
        """Gather."""
        return len(seen)

    first = gather.arguments.parse("{}")["seen"]
    assert isinstance(first, list)
    first.append(1)  # pyright: ignore[reportUnknownMemberType] - a list of whatever
    assert gather.arguments.parse("{}") == {"seen": []}


@pytest.mark.parametrize("text", ["", "nope", "[]", "null", "3", '{"lines": '])
def test_input_that_is_not_an_object_is_refused_with_advice(text: str) -> None:
    with pytest.raises(Invalid):
        order.arguments.parse(text)


def no_docstring(city: str) -> str:
    return city


def unhinted(city) -> str:  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType] - the point
    """Tell."""
    return str(city)  # pyright: ignore[reportUnknownArgumentType] - the point


def starred(*cities: str) -> str:
    """Tell."""
    return str(cities)


def double_starred(**cities: str) -> str:
    """Tell."""
    return str(cities)


def positional(city: str, /) -> str:
    """Tell."""
    return city


def unnameable(city: Nowhere) -> str:  # noqa: F821 # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType] - the point
    """Tell."""
    return str(city)  # pyright: ignore[reportUnknownArgumentType] - the point


def uncarriable(callback: Callable[[], int]) -> int:
    """Tell."""
    return callback()


def unknown_class(thing: Gizmo) -> str:
    """Tell."""
    return str(thing)


class Gizmo:
    """Nothing that JSON knows."""


def two_contexts(one: ToolContext, two: ToolContext) -> str:
    """Tell."""
    return f"{one}{two}"


async def generating(city: str) -> AsyncGenerator[str]:
    """Tell."""
    yield city


BAD: list[tuple[Any, str]] = [
    (no_docstring, "no_docstring needs a docstring"),
    (unhinted, "parameter city needs a type hint"),
    (starred, r"a model cannot fill \*cities"),
    (double_starred, r"a model cannot fill \*\*cities"),
    (positional, "city is positional-only; remove the `/`"),
    (unnameable, "'Nowhere', which does not exist when the tool is declared"),
    (uncarriable, "no JSON Schema for its type hints"),
    (unknown_class, "not something JSON can carry.*Gizmo"),
    (two_contexts, "only one parameter can be a ToolContext"),
    (generating, "generating yields; return the result"),
    (Gizmo, "@tool goes on a function"),
    (lambda: 1, "'<lambda>': a name has 1 to 64"),
]


@pytest.mark.parametrize(("function", "advice"), BAD)
def test_a_bad_declaration_says_what_to_change(function: Callable[..., object], advice: str) -> None:
    with pytest.raises(Misconfigured, match=advice):
        tool(function)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"effect": "delete"}, "effect is 'read', 'write' or 'once', not 'delete'"),
        ({"timeout": 0}, "more than 0"),
        ({"timeout": -1}, "more than 0"),
        ({"timeout": "2m"}, "timeout is in seconds"),
        ({"timeout": float("nan")}, "timeout is in seconds"),
        ({"timeout": True}, "timeout is in seconds"),
        ({"retries": -1}, "retries is a whole number from 0"),
        ({"retries": 1.5}, "retries is a whole number"),
        ({"concurrency": 0}, "concurrency is a whole number from 1"),
        ({"pool": "a b"}, "pool 'a b': a name has"),
        ({"name": "get.weather"}, "a name has 1 to 64"),
        ({"description": " "}, "needs a docstring"),
        ({"effects": "read"}, "@tool takes no 'effects'; it takes name, description, effect, pool, timeout"),
    ],
)
def test_bad_options_say_what_to_change(options: dict[str, Any], advice: str) -> None:
    with pytest.raises(Misconfigured, match=advice):
        tool(**options)(google)


def test_every_option_that_the_design_names_is_taken() -> None:
    named = {
        "effect", "pool", "timeout", "soft_timeout", "retries", "concurrency", "rate_limit", "cache", "fallback",
        "approval", "after", "exclusive", "sandbox", "secrets", "reconcile",
    }  # fmt: skip
    assert named <= ToolOptions.__annotations__.keys()


def test_tools_are_compared_by_identity_and_can_be_kept_in_sets() -> None:
    assert len({tool(google), tool(google)}) == 2
    assert isinstance(order, Tool)


def test_a_failure_says_its_message() -> None:
    assert str(ToolFailed("the bank declined")) == "the bank declined"
