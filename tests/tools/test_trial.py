"""`Tool.test`: one call without a worker, checked as a worker checks it."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from playhead.content import Answer, Image, Pending, Question
from playhead.errors import Invalid, Misconfigured
from playhead.options import Limit
from playhead.tools import ToolContext, ToolFailed, tool
from pydantic import BaseModel


class Quote(BaseModel):
    total: float


@tool(limits={"amount": Limit(most=100)}, secrets=["env:KEY"])
async def quote(amount: int, ctx: ToolContext) -> Quote:
    """Quote a price."""
    await ctx.progress(1, 2, "asking")
    await ctx.emit({"asked": ctx.secrets["KEY"]})
    if amount < 0:
        raise ToolFailed("nothing is less than nothing")
    return Quote(total=amount * 2)


async def test_it_gives_what_came_of_it_with_all_that_was_said_on_the_way():
    came = await quote.test(amount=3, secrets={"KEY": "value"})
    assert came.value == Quote(total=6)
    assert came.progress == ((1, 2, "asking"),) and came.chunks == ({"asked": "value"},)


async def test_what_the_tool_raises_is_raised():
    with pytest.raises(ToolFailed, match="less than nothing"):
        await quote.test(amount=-1, secrets={"KEY": "value"})


@pytest.mark.parametrize(
    ("amount", "problem"), [("many", "valid integer"), (None, "valid integer"), (101, "must be at most 100")]
)
async def test_arguments_that_a_worker_would_refuse_are_refused(amount: object, problem: str):
    with pytest.raises(Invalid, match=problem):
        await quote.test(amount=amount, secrets={"KEY": "value"})


async def test_an_argument_that_there_is_not_is_refused():
    with pytest.raises(Invalid, match="Extra inputs"):
        await quote.test(amount=1, other=2, secrets={"KEY": "value"})


async def test_a_secret_that_the_test_does_not_give_is_named():
    with pytest.raises(Misconfigured, match=r"test\(secrets=\{'KEY': …\}\)"):
        await quote.test(amount=1)


async def test_what_is_not_what_was_declared_is_refused():
    @tool
    async def lie() -> Quote:
        """Lie."""
        return "no quote"  # pyright: ignore[reportReturnType]

    with pytest.raises(Invalid):
        await lie.test()


async def test_a_function_that_is_not_async_runs_in_a_thread():
    @tool
    def wait(ctx: ToolContext) -> str:
        """Wait."""
        ctx.progress(1)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return "done"

    came = await wait.test()
    assert came.value == "done" and came.progress == ((1, None, None),)


async def test_resources_and_answers_are_what_the_test_gives():
    @tool
    async def ask(ctx: ToolContext) -> str | Question | Pending:
        """Ask."""
        if ctx.answer is None:
            return Question("Really?", state=1)
        return f"{ctx.answer.content} {ctx.answer.state} {ctx.resources}" if ctx.resources else Pending(3)

    assert (await ask.test()).value == Question("Really?", state=1)
    assert (await ask.test(answer=Answer("yes", 1), resources="pool")).value == "yes 1 pool"
    assert (await ask.test(answer=Answer("yes", 1))).value == Pending(3)


async def test_a_command_needs_the_sandbox_of_a_worker():
    @tool(sandbox=True)
    async def run(ctx: ToolContext) -> str:
        """Run."""
        return (await ctx.run(["true"])).stdout

    with pytest.raises(Misconfigured, match="sandbox of a worker only"):
        await run.test()


async def test_what_is_delivered_elsewhere_is_seen():
    @tool
    async def deliver(ctx: ToolContext) -> None:
        """Deliver."""
        await ctx.deliver("ticket", {"a": 1})

    assert (await deliver.test()).chunks == ({"delivered": "ticket", "output": {"a": 1}, "error": None},)


@pytest.mark.parametrize("bad", [object(), b"\xff", [1, object()], {"a": lambda: 1}])
async def test_a_result_that_json_cannot_carry_is_refused_as_a_worker_refuses_it(bad: object):
    @tool
    async def give() -> Any:
        """Give."""
        return bad

    with pytest.raises(Invalid, match="cannot be turned into JSON"):
        await give.test()


@pytest.mark.parametrize("good", [Image(b"\x89\xff"), ["look:", Image(b"\x89\xff")], Pending(60), float("nan"), {1, 2}])
async def test_what_a_worker_takes_is_given_as_it_is(good: object):
    @tool
    async def give() -> Any:
        """Give."""
        return good

    assert (await give.test()).value is good


async def test_arguments_that_no_model_could_give_are_refused():
    @tool
    async def on(day: date) -> str:
        """Do it on a day."""
        return day.isoformat()

    assert (await on.test(day="2026-01-31")).value == "2026-01-31"
    with pytest.raises(Invalid, match="a model gives arguments as JSON"):
        await on.test(day=date(2026, 1, 31))
