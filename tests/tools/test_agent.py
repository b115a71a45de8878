"""`Agent`: what it takes, what it refuses, and when it is another version of itself."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from playhead import Agent, Budget, tool
from playhead.errors import Misconfigured


@tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return city


@tool(name="weather")
async def other_weather(city: str) -> str:
    """Tell other weather."""
    return city


def test_an_agent_holds_its_tools_and_the_names_of_others() -> None:
    agent = Agent("support", "anthropic:claude-sonnet-5-5", "Be kind.", [weather, "refund_order"])
    assert agent.tools == (weather, "refund_order")
    assert agent.tool_names == ("weather", "refund_order")
    assert agent.own_tools == (weather,)


def test_an_agent_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Agent("support").name = "other"  # pyright: ignore[reportAttributeAccessIssue] - the point


def test_the_same_definition_is_the_same_version() -> None:
    assert Agent("a", tools=[weather]).version == Agent("a", tools=[weather]).version
    assert Agent("a", version="7").version == "7"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "anthropic:x"},
        {"instructions": "Be brief."},
        {"tools": ["weather"]},
        {"tools": [other_weather]},
        {"max_tokens": 1},
        {"thinking_tokens": 1},
        {"budget": Budget(steps=1)},
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_another_definition_is_another_version(change: dict[str, Any]) -> None:
    agent = Agent("a", tools=[weather])
    assert replace(agent, version="", **change).version != agent.version


def test_what_people_read_does_not_change_the_version() -> None:
    assert Agent("a", description="x", default=True).version == Agent("a").version


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"name": "a b"}, "agent 'a b': a name has"),
        ({"name": ""}, "a name has 1 to 64"),
        ({"model": "claude"}, "a model is `provider:model`"),
        ({"model": ":x"}, "a model is `provider:model`"),
        ({"tools": "weather"}, "tools is a list"),
        ({"tools": [len]}, "is not a tool; decorate it with `@tool`"),
        ({"tools": ["a b"]}, "a name has 1 to 64"),
        ({"tools": [weather, other_weather]}, r"two tools are named 'weather' \(.*weather and .*other_weather\)"),
        ({"tools": [weather, "weather"]}, "a tool is listed twice"),
        ({"max_tokens": 0}, "max_tokens is at least 1"),
        ({"thinking_tokens": 0}, "thinking_tokens is at least 1"),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_a_bad_agent_says_what_to_change(arguments: dict[str, Any], advice: str) -> None:
    with pytest.raises(Misconfigured, match=advice):
        arguments.setdefault("name", "support")
        Agent(**arguments)
