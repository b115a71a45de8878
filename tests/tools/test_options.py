"""Every option of `@tool`: what it becomes, what it refuses, and which exclude each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
from playhead.errors import Misconfigured
from playhead.lifespan import lifespan
from playhead.loading import load_app
from playhead.options import Breaker, Limit, RateLimit, Sandbox
from playhead.tools import Tool, ToolContext, tool


async def ship(order: str, boxes: int = 1, ctx: ToolContext | None = None) -> str:
    """Ship an order."""
    return order


async def other(order: str) -> str:
    """Do something else."""
    return order


def policy(arguments: dict[str, Any]) -> bool:
    return arguments["boxes"] > 2


def made(**options: Any) -> Tool[..., object]:
    return tool(**options)(ship)


def test_without_options_nothing_is_asked_of_anybody():
    plain = tool(ship)
    assert (plain.effect, plain.pool, plain.timeout_seconds, plain.retries, plain.concurrency) == (
        "read", "default", 60.0, 0, 16,
    )  # fmt: skip
    assert plain.fallback is plain.breaker is plain.rate_limit is plain.reconcile is plain.sandbox is None
    assert plain.approval is False and not plain.secrets and not plain.limits and not plain.after


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"effect": "once"}, "effect", "once"),
        ({"soft_timeout": 3}, "soft_timeout_seconds", 3.0),
        ({"retry_on": OSError}, "retry_on", (OSError,)),
        ({"retry_on": (OSError, ValueError)}, "retry_on", (OSError, ValueError)),
        ({"rate_limit": "20/s"}, "rate_limit", RateLimit(20)),
        ({"rate_limit": "100/5min per tenant"}, "rate_limit", RateLimit(100, 300, per="tenant")),
        ({"rate_limit": RateLimit(2, 60)}, "rate_limit", RateLimit(2, 60)),
        ({"breaker": 3}, "breaker", Breaker(3)),
        ({"breaker": Breaker(3, 5)}, "breaker", Breaker(3, 5)),
        ({"cache": 60}, "cache_seconds", 60.0),
        ({"approval": True}, "approval_policy", "always"),
        ({"approval": policy}, "approval_policy", "depends"),
        ({"after": "pay"}, "after", ("pay",)),
        ({"after": tool(other)}, "after", ("other",)),
        ({"after": ["pay", tool(other)]}, "after", ("pay", "other")),
        ({"exclusive": True}, "exclusive", True),
        ({"key": "order"}, "key", "order"),
        ({"limits": {"boxes": Limit(most=3)}}, "limits", {"boxes": Limit(most=3)}),
        ({"sandbox": True}, "sandbox", Sandbox()),
        ({"sandbox": False}, "sandbox", None),
        ({"sandbox": Sandbox(network=True)}, "sandbox", Sandbox(network=True)),
        ({"secrets": ["env:KEY", "file:/run/secrets/cert"]}, "secrets",
         {"KEY": "env:KEY", "cert": "file:/run/secrets/cert"}),
        ({"secrets": {"A": "env:B"}}, "secrets", {"A": "env:B"}),
    ],
)  # fmt: skip
def test_an_option_becomes_what_it_says(options: dict[str, Any], field: str, value: object):
    assert getattr(made(**options), field) == value


def yields(order: str) -> Generator[str]:
    yield order


async def yields_later(order: str) -> AsyncGenerator[str]:
    yield order


async def approves_later(arguments: dict[str, Any]) -> bool:
    return bool(arguments)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"effect": "delete"}, "'read', 'write' or 'once'"),
        ({"soft_timeout": 60}, "soft_timeout comes before timeout"),
        ({"soft_timeout": -1}, "more than 0"),
        ({"retry_on": "OSError"}, "exception class"),
        ({"retry_on": (OSError, 3)}, "exception class"),
        ({"rate_limit": "many"}, "tool ship: a rate limit reads like"),
        ({"rate_limit": 5}, "a text like '20/s'"),
        ({"rate_limit": "0/s"}, "at least 1 call"),
        ({"breaker": 0}, "breaker is a whole number from 1"),
        ({"breaker": True}, "breaker is a whole number"),
        ({"cache": 60, "effect": "write"}, "cache is for effect 'read'"),
        ({"cache": 60, "effect": "once"}, "cache is for effect 'read'"),
        ({"retries": 1, "effect": "once"}, "no retries"),
        ({"reconcile": other}, "reconcile is for effect 'once'"),
        ({"reconcile": 3, "effect": "once"}, "reconcile is a function"),
        ({"approval": "yes"}, "True, False or a function"),
        ({"after": 3}, "a list of tools or their names"),
        ({"after": ["a b"]}, "a name has 1 to 64"),
        ({"exclusive": "yes"}, "exclusive is True or False"),
        ({"key": "weight"}, r"key names one of its arguments \(order, boxes\)"),
        ({"key": "ctx"}, "key names one of its arguments"),
        ({"limits": {"weight": Limit(most=1)}}, "limits names one of its arguments"),
        ({"limits": {"boxes": 3}}, "from an argument's name to a Limit"),
        ({"limits": [Limit()]}, "from an argument's name to a Limit"),
        ({"sandbox": "bubblewrap"}, "sandbox is True or a Sandbox"),
        ({"fallback": object()}, "a value that JSON can carry"),
        ({"fallback": float("nan")}, "a value that JSON can carry"),
        ({"fallback": yields}, "fallback yields; return the result"),
        ({"reconcile": yields_later, "effect": "once"}, "reconcile yields; return the result"),
        ({"approval": approves_later}, "leave the `async` away"),
        ({"secrets": 5}, "a list or a dict of references"),
        ({"secrets": None}, "a list or a dict of references"),
        ({"secrets": ["env:KEY", "file:/run/KEY"]}, "two of its secrets have one name"),
    ],
)
def test_a_bad_option_says_what_to_change(options: dict[str, Any], advice: str):
    with pytest.raises(Misconfigured, match=advice):
        made(**options)


@pytest.mark.parametrize("secrets", ["env:KEY", ["hunter2"], {"KEY": "hunter2"}, [""], {"KEY": None}, {3: "env:A"}])
def test_a_secret_that_is_no_reference_is_refused_and_not_shown(secrets: object):
    with pytest.raises(Misconfigured) as refused:
        made(secrets=secrets)
    assert "hunter2" not in str(refused.value) and "reference" in str(refused.value)


@pytest.mark.parametrize("value", [None, 0, "sorry", {"a": [1]}])
def test_a_fallback_may_be_any_value_also_none(value: object):
    fallback = made(fallback=value).fallback
    assert fallback is not None and fallback.value == value and fallback.function is None


def test_a_fallback_may_be_a_function_or_a_tool_that_takes_some_of_the_arguments():
    for given in (other, tool(other)):
        fallback = made(fallback=given).fallback
        assert fallback is not None and fallback.function is not None and fallback.function.function is other


def test_a_companion_that_takes_what_the_tool_does_not_is_refused():
    async def strange(order: str, weight: int) -> str:
        return order

    for options in ({"fallback": strange}, {"reconcile": strange, "effect": "once"}):
        with pytest.raises(Misconfigured, match="takes weight, which the tool does not"):
            made(**options)


def test_a_policy_is_asked_with_the_arguments():
    depends = made(approval=policy)
    assert not depends.needs_approval({"boxes": 2}) and depends.needs_approval({"boxes": 3})
    assert made(approval=True).needs_approval({}) and not made().needs_approval({})


@pytest.mark.parametrize(
    "bad",
    [
        lambda: RateLimit(0), lambda: RateLimit(1, 0), lambda: Breaker(0), lambda: Breaker(1, 0),
        lambda: Limit(deny=["("]), lambda: Sandbox(memory_mb=0), lambda: Sandbox(read="/etc"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_where_they_are_made(bad: Any):
    with pytest.raises(Misconfigured):
        bad()


def test_a_single_pattern_is_one_and_not_its_letters():
    assert Limit(deny="^/etc").deny == ("^/etc",)


# --- lifespans ---


APP = '''
from playhead import Agent, lifespan, tool

@tool
async def look() -> str:
    """Look."""
    return ""

@lifespan()
async def shared():
    yield {"a": 1}

@lifespan(pool="billing")
async def billing():
    yield 2
'''


def test_an_app_has_the_lifespans_of_its_pools(tmp_path: Path):
    (tmp_path / "app_with_lifespans.py").write_text(APP)
    app = load_app(str(tmp_path / "app_with_lifespans.py"))
    assert sorted(one.pool for one in app.lifespans) == ["billing", "default"]


def test_two_lifespans_of_one_pool_are_refused(tmp_path: Path):
    (tmp_path / "app_with_two.py").write_text(APP.replace('pool="billing"', ""))
    with pytest.raises(Misconfigured, match="pool 'default' has two lifespans"):
        load_app(str(tmp_path / "app_with_two.py"))


async def test_a_lifespan_is_opened_and_closed():
    told: list[str] = []

    @lifespan(pool="billing")
    async def billing() -> AsyncGenerator[int]:
        told.append("open")
        yield 3
        told.append("closed")

    async with billing.open() as resources:
        assert resources == 3 and told == ["open"]
    assert told == ["open", "closed"]


def test_what_is_no_generator_or_has_no_parentheses_is_refused():
    async def plain() -> int:
        return 1

    with pytest.raises(Misconfigured, match="that yields, once"):
        lifespan()(plain)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Misconfigured, match="with parentheses"):
        lifespan(plain)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Misconfigured, match="a name has"):
        lifespan(pool="a b")


def test_a_lifespan_takes_nothing_that_nobody_gives_it():
    async def needy(url: str, size: int = 3, *rest: int) -> AsyncGenerator[int]:
        yield size

    async def content(size: int = 3, *rest: int, **more: int) -> AsyncGenerator[int]:
        yield size

    with pytest.raises(Misconfigured, match="nobody gives needy its url"):
        lifespan()(needy)  # pyright: ignore[reportArgumentType]
    assert lifespan()(content).pool == "default"
