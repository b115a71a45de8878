"""Calls of one key take turns; calls that may not be run are not; what is run is what was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from playhead import ToolContext, tool
from playhead.approvals import approval_digest
from playhead.canonical import canonical_json
from playhead.commands import ReportResult
from playhead.events import Json
from playhead.options import Limit

from tests.tool_workers.workshop import Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


# --- order ---


class Accounts:
    """A tool whose calls must not overlap for one account; it fails the first try of a call that says so."""

    def __init__(self) -> None:
        self.told = list[str]()
        self.inside = list[str]()
        self.overlaps = list[tuple[str, ...]]()
        self.open = asyncio.Event()
        self.changed = asyncio.Condition()

        @tool(effect="write", key="account", retries=1)
        async def book(account: str, what: str, flaky: bool = False, hold: bool = False, *, ctx: ToolContext) -> str:
            """Book."""
            if self.inside.count(account):
                self.overlaps.append((account, what))
            self.inside.append(account)
            async with self.changed:
                self.told.append(f"{account}{what}{ctx.try_number}")
                self.changed.notify_all()
            try:
                if hold:
                    await self.open.wait()
                await asyncio.sleep(0)
                if flaky and ctx.try_number == 1:
                    raise ConnectionError("again, please")
            finally:
                self.inside.remove(account)
            return what

        self.tool = book

    async def until(self, told: str) -> None:
        """Wait until a try has begun."""
        async with self.changed:
            await within(self.changed.wait_for(lambda: told in self.told))


async def test_calls_of_one_key_run_one_after_the_other_in_their_order_and_with_all_their_tries() -> None:
    accounts, shop = Accounts(), Workshop()
    async with shop.worker(accounts.tool):
        calls = [
            await shop.send(shop.call("book", {"account": "a", "what": str(n), "flaky": n % 2 == 0}, "write", key="a"))
            for n in range(6)
        ]
        for call in calls:
            assert (await shop.result(call)).status == "ok"
    assert accounts.told == ["a01", "a02", "a11", "a21", "a22", "a31", "a41", "a42", "a51"]
    assert accounts.overlaps == []


async def test_calls_of_other_keys_do_not_wait_and_a_waiting_one_has_no_slot() -> None:
    accounts, shop = Accounts(), Workshop()
    async with shop.worker(accounts.tool, echo, concurrency=2):
        held = await shop.send(shop.call("book", {"account": "a", "what": "0", "hold": True}, "write", key="a"))
        await accounts.until("a01")
        second = await shop.send(shop.call("book", {"account": "a", "what": "1"}, "write", key="a"))
        other = await shop.send(shop.call("book", {"account": "b", "what": "0"}, "write", key="b"))
        assert (await shop.result(other)).status == "ok"
        assert (await shop.run("echo")).status == "ok"
        assert "a11" not in accounts.told
        accounts.open.set()
        for call in (held, second):
            assert (await shop.result(call)).status == "ok"
    assert accounts.told == ["a01", "b01", "a11"]


async def test_a_call_that_is_stopped_while_it_waits_for_its_turn_ends_at_once_and_the_next_has_its_turn() -> None:
    accounts, shop = Accounts(), Workshop()
    async with shop.worker(accounts.tool):
        held = await shop.send(shop.call("book", {"account": "a", "what": "0", "hold": True}, "write", key="a"))
        await accounts.until("a01")
        stopped, last = [
            await shop.send(shop.call("book", {"account": "a", "what": what}, "write", key="a")) for what in "12"
        ]
        await shop.stop(stopped)
        assert (await shop.result(stopped)).status == "cancelled"
        assert accounts.told == ["a01"]
        accounts.open.set()
        for call in (held, last):
            assert (await shop.result(call)).status == "ok"
    assert accounts.told == ["a01", "a21"]


async def test_the_next_of_a_key_begins_only_when_the_end_of_the_one_before_is_told() -> None:
    accounts, shop = Accounts(), Workshop()
    async with shop.worker(accounts.tool):
        calls = [await shop.send(shop.call("book", {"account": "a", "what": what}, "write", key="a")) for what in "01"]
        await shop.result(calls[1])
        read = await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("ReportResult") == 2)
    order = [kind for kind in kinds(read) if kind in ("ReportStarted", "ReportResult")]
    assert order == ["ReportStarted", "ReportResult"] * 2


# --- what may not be run ---


class Guarded:
    """Tools that note what they were run with."""

    def __init__(self) -> None:
        self.ran = list[object]()

        @tool(effect="write", approval=True, limits={"amount": Limit(least=1, most=100), "note": Limit(deny=["DROP"])})
        async def pay(amount: float, note: str = "") -> str:
            """Pay."""
            self.ran.append((amount, note))
            return "paid"

        def large(arguments: Mapping[str, float]) -> bool:
            return arguments["amount"] > 10

        @tool(approval=large)
        async def lend(amount: float) -> str:
            """Lend."""
            self.ran.append(amount)
            return "lent"

        self.pay, self.lend = pay, lend


async def _run(shop: Workshop, name: str, given: str, approval: str | None = None) -> ReportResult:
    call = replace(shop.call(name, {}, "write"), input=Json(given), approval=approval)
    reports = await shop.settled(await shop.send(call), "echo")
    assert isinstance(reports[-1], ReportResult)
    assert (reports[-1].status == "denied") == (kinds(reports) == ["ReportResult"]), "what is denied never starts"
    return reports[-1]


async def test_a_tool_that_needs_approval_runs_only_with_that_of_exactly_these_arguments() -> None:
    guarded, shop = Guarded(), Workshop()
    approved = approval_digest("pay", '{"amount": 5}')
    async with shop.worker(guarded.pay, guarded.lend, echo):
        assert (await _run(shop, "pay", '{"amount": 5}')).status == "denied"
        for other in ('{"amount": 6}', '{"amount": 5, "note": "x"}', '{"amount": 5.5}'):
            assert (await _run(shop, "pay", other, approved)).status == "denied"
        assert (await _run(shop, "pay", '{"amount": 5}', approval_digest("lend", '{"amount": 5}'))).status == "denied"
        assert guarded.ran == []
        told = await _run(shop, "pay", '{"amount": 5}')
        assert json.loads(told.output)["type"] == "NotApproved"
        assert (await _run(shop, "pay", '{ "amount":5 }', approved)).status == "ok", "the same, written otherwise"
    assert guarded.ran == [(5, "")]


async def test_whether_approval_is_needed_may_depend_on_the_arguments() -> None:
    guarded, shop = Guarded(), Workshop()
    async with shop.worker(guarded.lend, echo):
        assert (await _run(shop, "lend", '{"amount": 10}')).status == "ok"
        assert (await _run(shop, "lend", '{"amount": 11}')).status == "denied"
        digest = approval_digest("lend", '{"amount": 11}')
        assert (await _run(shop, "lend", '{"amount": 11}', digest)).status == "ok"
    assert guarded.ran == [10, 11]


async def test_a_policy_that_fails_lets_nothing_through() -> None:
    ran = list[int]()

    def broken(arguments: Mapping[str, bool]) -> bool:
        return arguments["no such argument"]

    @tool(approval=broken)
    async def risky(amount: int) -> None:
        """Run."""
        ran.append(amount)

    shop = Workshop()
    async with shop.worker(risky, echo):
        assert (await shop.run("risky", amount=1)).status == "error"
    assert ran == []


async def test_arguments_beyond_their_limits_are_denied_even_with_approval_and_the_value_is_not_shown() -> None:
    guarded, shop = Guarded(), Workshop()
    async with shop.worker(guarded.pay, echo):
        for given in ('{"amount": 101}', '{"amount": 0.5}', '{"amount": 5, "note": "DROP 4711"}'):
            result = await _run(shop, "pay", given, approval_digest("pay", given))
            assert (result.status, json.loads(result.output)["type"]) == ("denied", "BeyondLimits")
            assert "4711" not in result.output
    assert guarded.ran == []


async def test_a_call_made_before_its_tool_became_one_that_may_start_only_once_is_not_run() -> None:
    ran = list[int]()

    @tool(effect="once")
    async def pay() -> None:
        """Pay."""
        ran.append(1)

    shop = Workshop()
    async with shop.worker(pay, echo):
        call = await shop.send(shop.call("pay", {}, effect="write"))
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportResult"]
    assert ran == []


@pytest.mark.parametrize("given", ['{"n": 1, "text": "ä \\u00e4 😀", "list": [1, 2.5, null, {"b": 1, "a": 2}]}'])
async def test_the_arguments_that_are_run_are_those_that_were_logged(given: str) -> None:
    @tool
    async def mirror(n: int, text: str, list: list[object]) -> str:  # noqa: A002 - any name will do
        """Give the canonical form of what came."""
        return approval_digest("x", json.dumps({"n": n, "text": text, "list": list}))

    shop = Workshop()
    async with shop.worker(mirror):
        call = await shop.send(replace(shop.call("mirror", {}), input=Json(given)))
        result = await shop.result(call)
    assert json.loads(result.output) == approval_digest("x", canonical_json(given).decode())
