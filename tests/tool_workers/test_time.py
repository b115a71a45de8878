"""Soft and hard timeouts, results from outside, questions, and what comes late."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from playhead.commands import Report, ReportPending, ReportQuestion, ReportResult
from playhead.content import Pending, Question
from playhead.errors import Invalid
from playhead.events import Json
from playhead.tools import ToolContext, tool

from tests.tool_workers.workshop import Workshop, kinds


@tool
async def echo(text: str) -> str:
    """Say it again."""
    return text


# --- soft and hard ---


async def test_a_tool_that_is_asked_to_stop_gives_what_it_has():
    @tool(soft_timeout=0.05, timeout=5)
    async def count(ctx: ToolContext) -> list[int]:
        """Count for as long as there is time."""
        counted: list[int] = []
        while not ctx.cancelled:
            counted.append(len(counted))
            await asyncio.sleep(0.001)
        assert ctx.remaining() == 0
        return counted[:3]

    shop = Workshop()
    async with shop.worker(count):
        result = await shop.run("count")
    told = json.loads(result.output)
    assert result.status == "timeout" and told["type"] == "SoftTimeout" and told["partial"] == [0, 1, 2]
    assert "asked to stop after 0.05 s" in told["message"]


async def test_a_thread_is_asked_to_stop_too():
    @tool(soft_timeout=0.05, timeout=5)
    def count(ctx: ToolContext) -> str:
        """Wait to be asked."""
        while not ctx.cancelled:
            time.sleep(0.001)
        return "so far"

    shop = Workshop()
    async with shop.worker(count):
        assert json.loads((await shop.run("count")).output)["partial"] == "so far"


async def test_a_tool_that_ends_before_it_is_asked_to_has_an_ordinary_result():
    @tool(soft_timeout=5)
    async def quick() -> str:
        """Be quick."""
        return "done"

    shop = Workshop()
    async with shop.worker(quick):
        assert (await shop.run("quick")).status == "ok"


async def test_of_a_tool_that_does_not_stop_what_it_emitted_is_kept():
    @tool(soft_timeout=0.02, timeout=0.1)
    async def stubborn(ctx: ToolContext) -> None:
        """Never end."""
        await ctx.emit({"part": 1})
        await ctx.emit("two")
        await asyncio.Event().wait()

    shop = Workshop()
    async with shop.worker(stubborn):
        result = await shop.run("stubborn")
    told = json.loads(result.output)
    assert result.status == "timeout" and told["type"] == "Timeout" and told["partial"] == [{"part": 1}, "two"]


# --- late ---


async def test_a_thread_that_raises_at_last_is_reported_late_too():
    release = threading.Event()

    @tool(timeout=0.05)
    def slow() -> None:
        """Take long, and fail."""
        release.wait(5)
        raise ValueError("after all")

    shop = Workshop()
    async with shop.worker(slow):
        call = await shop.ask("slow")
        await shop.result(call)
        release.set()
        late = await shop.late(call)
    assert late.status == "error" and "after all" in late.output


async def test_what_an_earlier_try_brings_while_another_runs_is_nothing():
    release, second = threading.Event(), threading.Event()

    @tool(timeout=0.1, retries=1)
    def slow(ctx: ToolContext) -> str:
        """Take long the first time."""
        if ctx.try_number == 1:
            release.wait(5)
            return "first"
        release.set()
        second.wait(0.05)
        return "second"

    shop = Workshop()
    async with shop.worker(slow, echo):
        call = await shop.ask("slow")
        assert (await shop.result(call)).output == '"second"'
        reports = await shop.settled(call, "echo", text="after")
    assert [one.late for one in reports if isinstance(one, ReportResult)] == [False]


# --- pending ---


def has(kind: type[Report], times: int = 1) -> Callable[[Sequence[Report]], bool]:
    return lambda seen: sum(isinstance(one, kind) for one in seen) >= times


async def test_a_promise_frees_the_slot_and_the_result_comes_from_another_call():
    tickets: list[str] = []

    @tool(concurrency=1)
    async def order(item: str, ctx: ToolContext) -> Pending:
        """Order something that takes long."""
        tickets.append(ctx.ticket)
        return Pending(3600, "the bakery has it")

    @tool
    async def deliver(ticket: str, what: str, ctx: ToolContext) -> None:
        """Bring it."""
        await ctx.deliver(ticket, {"brought": what})

    shop = Workshop()
    async with shop.worker(order, deliver, concurrency=1):
        first, second = await shop.ask("order", item="bread"), await shop.ask("order", item="cake")
        (promise,) = [one for one in await shop.reports(first, has(ReportPending)) if isinstance(one, ReportPending)]
        await shop.reports(second, has(ReportPending))
        assert (promise.within_ms, promise.message) == (3_600_000, "the bakery has it")
        await shop.run("deliver", ticket=tickets[0], what="bread")
        result = await shop.result(first)
        assert (result.status, json.loads(result.output)) == ("ok", {"brought": "bread"})
        assert result.lease == first.lease and result.session == first.session
        assert not any(isinstance(one, ReportResult) for one in await shop.reports(second, lambda seen: True))


async def test_that_it_failed_can_be_delivered_too():
    @tool
    async def fail(ticket: str, ctx: ToolContext) -> None:
        """Say that it failed."""
        await ctx.deliver(ticket, error="the oven is broken")

    shop = Workshop()
    async with shop.worker(fail):
        other = shop.call("anything", {})
        await shop.run("fail", ticket=f"{other.session}.{other.call_id}.{other.lease}")
        result = await shop.result(other)
    assert result.status == "error" and "the oven is broken" in result.output


async def test_what_is_no_ticket_is_refused():
    refused: list[str] = []

    @tool
    async def deliver(ticket: str, ctx: ToolContext) -> None:
        """Bring it."""
        try:
            await ctx.deliver(ticket, 1)
        except Invalid as error:
            refused.append(error.advice)

    shop = Workshop()
    async with shop.worker(deliver):
        for ticket in ("", "x", "ses_a.call_b", "ses_a.call_b.", "call_b.ses_a.lease"):
            await shop.run("deliver", ticket=ticket)
    assert len(refused) == 5


async def test_a_promise_that_is_delivered_again_is_made_again_and_nothing_runs():
    runs: list[int] = []

    @tool
    async def order() -> Pending:
        """Order."""
        runs.append(1)
        return Pending(60)

    shop = Workshop()
    async with shop.worker(order):
        call = await shop.ask("order")
        await shop.reports(call, has(ReportPending))
        await shop.send(call)
        await shop.reports(call, has(ReportPending, 2))
    assert runs == [1]


@pytest.mark.parametrize("seconds", [0, -1, 10**9])
async def test_a_promise_for_no_time_or_for_ever_is_an_error(seconds: float):
    @tool
    async def order() -> Pending:
        """Order."""
        return Pending(seconds)

    shop = Workshop()
    async with shop.worker(order):
        assert (await shop.run("order")).status == "error"


# --- questions ---


async def test_a_question_is_put_and_the_call_made_again_with_the_answer():
    @tool(effect="write")
    async def remove(path: str, ctx: ToolContext) -> str | Question:
        """Remove a file."""
        if ctx.answer is None:
            return Question(f"Really remove {path}?", schema={"type": "boolean"}, state={"seen": 1})
        assert ctx.answer.state == {"seen": 1}
        return f"removed {path}" if ctx.answer.content is True else "kept"

    shop = Workshop()
    async with shop.worker(remove):
        call = await shop.send(shop.call("remove", {"path": "/a"}, "write"))
        (question,) = [one for one in await shop.reports(call, has(ReportQuestion)) if isinstance(one, ReportQuestion)]
        assert json.loads(question.content) == "Really remove /a?"
        assert json.loads(question.schema or "") == {"type": "boolean"}
        answer = Json(json.dumps({"content": True, "state": json.loads(question.state or "")}))
        await shop.send(replace(call, answer=answer))
        assert (await shop.result(call)).output == '"removed /a"'


async def test_a_call_with_another_answer_asks_another_question():
    @tool
    async def ask(ctx: ToolContext) -> Question:
        """Never be content."""
        return Question("And now?", state=0 if ctx.answer is None else 1)

    shop = Workshop()
    async with shop.worker(ask):
        call = await shop.ask("ask")
        await shop.reports(call, has(ReportQuestion))
        await shop.send(replace(call, answer=Json('{"content":1,"state":0}')))
        seen = await shop.reports(call, has(ReportQuestion, 2))
    ids = [one.question_id for one in seen if isinstance(one, ReportQuestion)]
    assert len(set(ids)) == 2 and "ReportResult" not in kinds(seen)
