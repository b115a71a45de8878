"""The agent that `playhead dev` serves without an APP: three small tools that really do what they say.

A copy of this file is a good beginning: `playhead dev my_copy.py`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TypedDict
from zoneinfo import ZoneInfo, available_timezones

from playhead import Agent, ToolFailed, tool

__all__ = ["agent", "calculate", "clock", "word_statistics"]

EXPRESSION_CHARACTERS_MAX = 200
POWER_MAX = 1_000
VALUE_MAX = 1e300
TEXT_CHARACTERS_MAX = 100_000


class Time(TypedDict):
    """What a clock shows."""

    zone: str
    time: str
    weekday: str


class Words(TypedDict):
    """What there is to count in a text."""

    words: int
    characters: int
    sentences: int
    most_used: list[tuple[str, int]]


@tool(timeout=5)
def clock(city: str) -> Time:
    """Tell what time it is in a city, such as Oslo, New York or Asia/Tokyo."""
    wanted = city.strip().replace(" ", "_").casefold()
    zones = [zone for zone in available_timezones() if wanted in {zone.casefold(), zone.casefold().rpartition("/")[2]}]
    if not zones:
        raise ToolFailed(f"no time zone is named after {city!r}: ask for a bigger city in the same zone")
    zone = min(zones, key=lambda name: (name.startswith("posix/"), len(name)))
    now = datetime.now(ZoneInfo(zone))
    return {"zone": zone, "time": now.strftime("%Y-%m-%d %H:%M"), "weekday": now.strftime("%A")}


@tool(timeout=5)
def calculate(expression: str) -> float:
    """Work out an arithmetic expression: numbers, + - * / // % **, and brackets."""
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise ToolFailed(f"an expression has at most {EXPRESSION_CHARACTERS_MAX} characters")
    try:
        value = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError) as error:
        raise ToolFailed(f"{expression!r} cannot be worked out: {error}") from error
    if not abs(value) <= VALUE_MAX:  # also true of what is not a number
        raise ToolFailed(f"the value of {expression!r} is too big")
    return value


@tool(timeout=5)
def word_statistics(text: str) -> Words:
    """Count the words, characters and sentences of a text, and its most used words."""
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ToolFailed(f"a text has at most {TEXT_CHARACTERS_MAX} characters")
    words = re.findall(r"\w+(?:['’-]\w+)*", text.lower())
    sentences = [part for part in re.split(r"[.!?…]+(?:\s|$)", text) if part.strip()]
    most = Counter(words).most_common(3)
    return {"words": len(words), "characters": len(text), "sentences": len(sentences), "most_used": most}


OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


def _value(node: ast.expr) -> float:
    # Only numbers and arithmetic: a name, a call or an attribute never gets further than the last line.
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_value(left), _value(right))
        case _:
            raise ToolFailed(f"{ast.unparse(node)!r} is not arithmetic: give numbers, + - * / // % ** and brackets")


def _power(base: float, exponent: float) -> float:
    # Big powers of whole numbers would take for ever and fill the memory; as floats they overflow instead.
    if abs(base) > POWER_MAX or abs(exponent) > POWER_MAX:
        return float(base) ** exponent
    result: float | complex = base**exponent
    if isinstance(result, complex):
        raise ToolFailed("the root of a negative number is not a real number")
    return result


agent = Agent(
    "example",
    instructions=(
        "You are the example agent of Playhead. Answer briefly. Use your tools for the time, for arithmetic and for "
        "counting words rather than guessing; call several at once where that helps."
    ),
    tools=[clock, calculate, word_statistics],
    description="Tells the time, calculates and counts words.",
    default=True,
)
