"""A call that must not start twice is asked for, and runs only for whom it is granted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from playhead.commands import ReportResult
from playhead.tools import ToolContext, ToolFailed, tool

from tests.tool_workers.workshop import QUICK, Workshop, claims, kinds, within

ASKING = replace(QUICK, ask_seconds=0.05, grant_seconds=5.0)

OLD = 60 * 1_000_000


@tool
async def echo(text: str) -> str:
    """Say it again."""
    return text


class Till:
    """Counts what was paid."""

    def __init__(self) -> None:
        self.paid: list[str] = []

        @tool(effect="once")
        async def pay(order: str, ctx: ToolContext) -> str:
            """Pay."""
            self.paid.append(f"{order} {ctx.idempotency_key}")
            return f"paid {order}"

        self.tool = pay


async def test_it_runs_when_its_own_claim_is_granted_and_not_before():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        asked = await shop.asked(call, times=3)
        assert till.paid == [], "it was asked three times, and nobody has answered"
        await shop.grant(call, asked.report_id)
        result = await shop.result(call)
    assert (result.status, result.output) == ("ok", '"paid 17"')
    assert till.paid == [f"17 {call.idempotency_key}"]


async def test_however_often_it_asks_the_question_is_one():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        first, third = await shop.asked(call), await shop.asked(call, times=3)
        assert (first.report_id, first.pool) == (third.report_id, "default")
        assert (first.asking, third.asking) == (1, 3)
        await shop.grant(call, first.report_id)
        await shop.result(call)


async def test_who_hears_that_another_was_granted_lets_go_and_says_nothing():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, echo, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        await shop.asked(call)
        await shop.grant(call, "somebody else's")
        reports = await shop.settled_without(call, "echo", text="after")
    assert till.paid == [] and set(kinds(reports)) == {"ReportStarted"}


async def test_who_asks_for_a_call_that_is_over_lets_go_and_says_nothing():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, echo, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        await shop.asked(call)
        await shop.stop(call)
        reports = await shop.settled_without(call, "echo", text="after")
    assert till.paid == [] and set(kinds(reports)) == {"ReportStarted"}


async def test_what_was_let_go_is_acknowledged():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, echo, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        await shop.asked(call)
        await shop.grant(call, "somebody else's")
        await shop.settled_without(call, "echo", text="after")
        asked = len(await shop.reports(call, lambda seen: True))
    async with shop.worker(till.tool, echo, limits=ASKING, name="second"):
        await shop.run("echo", text="again")
        assert len(await shop.reports(call, lambda seen: True)) == asked


async def test_of_two_workers_that_have_it_one_runs_it():
    till, shop = Till(), Workshop()
    async with (
        shop.worker(till.tool, limits=ASKING, name="first"),
        shop.worker(till.tool, limits=ASKING, name="second"),
    ):
        call = shop.call("pay", {"order": "17"}, "once")
        partitions = await shop.queue.partition_of(shop.topics.tools("default").name, call.call_id)
        assert partitions >= 0
        await shop.send(call)
        asked = await shop.asked(call)
        await shop.grant(call, asked.report_id)
        await shop.grant(call, asked.report_id)
        await shop.result(call)
    assert len(till.paid) == 1


async def test_a_stop_that_comes_with_the_grant_is_heeded():
    """Both are read in one go, before whoever waits for the grant can act on it."""
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        asked = await shop.asked(call)
        await shop.grant(call, asked.report_id)
        await shop.stop(call)
        result = await shop.result(call)
    assert (till.paid, result.status) == ([], "cancelled")


async def test_a_grant_that_is_too_old_is_asked_for_anew():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=replace(ASKING, ask_seconds=0.2, grant_seconds=0.0)):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        asked = await shop.asked(call)
        await shop.grant(call, asked.report_id)
        assert (await shop.asked(call, times=2)).report_id == asked.report_id
        assert till.paid == []
        await shop.stop(call)


async def test_a_grant_of_what_was_asked_too_long_ago_is_no_grant_however_new_the_last_question_is():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=replace(ASKING, ask_seconds=0.05, grant_seconds=0.3)):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        asked = await shop.asked(call, times=12)
        await shop.grant(call, asked.report_id, asking=1)
        await shop.asked(call, times=16)
        assert till.paid == []
        await shop.grant(call, asked.report_id)
        assert (await shop.result(call)).status == "ok"


async def test_a_once_tool_that_raises_is_not_tried_again():
    runs: list[int] = []

    @tool(effect="once")
    async def break_() -> str:
        """Break."""
        runs.append(1)
        raise ConnectionError("half way")

    shop = Workshop()
    async with shop.worker(break_, limits=ASKING):
        call = await shop.send(shop.call("break_", {}, "once"))
        await shop.grant(call, (await shop.asked(call)).report_id)
        result = await shop.result(call)
    assert result.status == "error" and "half way" in result.output and runs == [1]


async def test_arguments_that_are_wrong_are_refused_before_anything_is_asked():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": 17}, "once"))
        result = await shop.result(call)
        reports = await shop.reports(call, lambda seen: True)
    assert "InvalidArguments" in result.output and kinds(reports) == ["ReportResult"]


async def test_a_redriven_once_call_is_never_started():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        result = await shop.result(await shop.send(shop.call("pay", {"order": "17"}, "once", redriven=True)))
    assert result.status == "denied" and "never started again" in result.output and till.paid == []


async def test_a_worker_that_is_told_to_stop_while_it_asks_leaves_the_call_to_others():
    till, shop = Till(), Workshop()
    limits = replace(ASKING, grace_seconds=0.1)
    async with shop.worker(till.tool, limits=limits):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        await shop.asked(call)
    async with shop.worker(till.tool, limits=ASKING, name="second"):
        seen = await shop.reports(call, lambda seen: any(one.worker == "second" for one in claims(seen)))
        claim = next(one for one in claims(seen) if one.worker == "second")
        await shop.grant(call, claim.report_id)
        assert (await shop.result(call)).status == "ok"
    assert len(till.paid) == 1


# --- finding out ---


async def reconciled(outcome: object) -> ReportResult:
    asked: list[tuple[str, str]] = []

    async def look(order: str, ctx: ToolContext) -> str:
        asked.append((order, ctx.idempotency_key))
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    @tool(effect="once", reconcile=look)
    async def pay(order: str, amount: int) -> str:
        """Pay."""
        raise AssertionError("it was started again")

    shop = Workshop()
    async with shop.worker(pay, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17", "amount": 3}, "once", reconcile=True))
        result = await shop.result(call)
    assert asked and set(asked) == {("17", call.idempotency_key)}
    assert len(asked) == (ASKING.reconcile_tries if result.status == "unknown" else 1)
    return result


async def test_what_is_found_out_is_the_result():
    result = await reconciled("it was paid")
    assert (result.status, result.output) == ("ok", '"it was paid"')


async def test_that_it_did_not_happen_is_an_error_that_the_model_is_told():
    result = await reconciled(ToolFailed("it was not paid"))
    assert result.status == "error" and "it was not paid" in result.output


async def test_what_cannot_be_found_out_is_unknown():
    result = await reconciled(ConnectionError("the bank does not answer"))
    assert result.status == "unknown"


async def test_a_tool_that_cannot_find_out_any_more_leaves_it_unknown():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, limits=ASKING):
        result = await shop.result(await shop.send(shop.call("pay", {"order": "17"}, "once", reconcile=True)))
    assert result.status == "unknown" and till.paid == []


# --- old calls ---


async def test_an_old_call_of_any_effect_is_asked_for_first():
    shop = Workshop()
    async with shop.worker(echo, limits=ASKING):
        dispatched_at = time.time_ns() // 1000 - OLD
        call = await shop.send(shop.call("echo", {"text": "hello"}, dispatched_at=dispatched_at))
        asked = await shop.asked(call)
        await shop.grant(call, asked.report_id)
        assert (await shop.result(call)).status == "ok"
        reports = await shop.reports(call, lambda seen: True)
    assert all(report == asked for report in reports if kinds([report]) == ["ReportStarted"]), "it is said once"


async def test_an_old_call_that_was_cancelled_meanwhile_is_not_run():
    ran: list[int] = []

    @tool
    async def run() -> None:
        """Run."""
        ran.append(1)

    shop = Workshop()
    async with shop.worker(run, echo, limits=ASKING):
        dispatched_at = time.time_ns() // 1000 - OLD
        call = await shop.send(shop.call("run", {}, dispatched_at=dispatched_at))
        await shop.asked(call)
        await shop.stop(call)
        await shop.settled_without(call, "echo", text="after")
    assert ran == []


async def test_who_waits_for_a_grant_holds_up_no_other_tool():
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, echo, limits=ASKING):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        await shop.asked(call)
        async with asyncio.timeout(5):
            assert (await within(shop.run("echo", text="hello"))).status == "ok"
        await shop.grant(call, (await shop.asked(call)).report_id)
        await shop.result(call)
