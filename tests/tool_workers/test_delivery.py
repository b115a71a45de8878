"""How calls come to a worker and when their messages are done with: duplicates, poison, crowding, rebalances."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest
from playhead import ToolContext, tool
from playhead.adapters.memory import MemoryQueue
from playhead.commands import DeadLetter, Heartbeat, ReportResult, ReportStarted, StopTool
from playhead.ids import CallId

from tests.tool_workers.workshop import QUICK, WearyQueue, Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


class Gate:
    """A tool that counts its runs and holds each until the gate opens."""

    def __init__(self, **options: int) -> None:
        self.open = asyncio.Event()
        self.entered: Counter[str] = Counter()
        self.inside = 0
        self.inside_max = 0
        self.changed = asyncio.Condition()

        @tool(**options)  # pyright: ignore[reportArgumentType, reportCallIssue] - a test's shorthand
        async def gate(who: str = "") -> str:
            """Wait at the gate."""
            async with self.changed:
                self.entered[who] += 1
                self.inside += 1
                self.inside_max = max(self.inside, self.inside_max)
                self.changed.notify_all()
            try:
                await self.open.wait()
            finally:
                self.inside -= 1
            return who

        self.tool = gate

    async def until(self, entered: int) -> None:
        """Wait until the gate was entered so often."""
        async with self.changed:
            await within(self.changed.wait_for(lambda: self.entered.total() >= entered))


async def test_calls_of_one_partition_run_together_and_finish_in_any_order() -> None:
    gate, shop = Gate(), Workshop()
    shop.topics = replace(shop.topics, pool_partitions=1)
    async with shop.worker(gate.tool, echo):
        held = await shop.ask("gate")
        await gate.until(1)
        assert (await shop.run("echo", text="past it")).status == "ok"
        gate.open.set()
        assert (await shop.result(held)).status == "ok"


async def test_a_worker_runs_no_more_calls_than_it_has_slots_and_those_that_wait_are_silent() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, concurrency=2):
        calls = [await shop.ask("gate", who=str(number)) for number in range(5)]
        await gate.until(2)
        # Two heartbeats of a running call later, the three that wait have said nothing.
        told = await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("Heartbeat") >= 4)
        assert len({one.call_id for one in told if isinstance(one, Heartbeat | ReportStarted)}) == 2
        gate.open.set()
        for call in calls:
            assert (await shop.result(call)).status == "ok"
    assert gate.inside_max == 2


async def test_a_tool_has_its_own_limit_and_does_not_keep_others_from_running() -> None:
    gate, shop = Gate(concurrency=1), Workshop()
    async with shop.worker(gate.tool, echo, concurrency=2):
        calls = [await shop.ask("gate") for _ in range(3)]
        await gate.until(1)
        assert (await shop.run("echo")).status == "ok"
        gate.open.set()
        for call in calls:
            assert (await shop.result(call)).status == "ok"
    assert gate.inside_max == 1


async def test_a_call_that_waits_for_its_next_try_leaves_its_slot_to_others_and_is_heard_of() -> None:
    waited = asyncio.Event()

    @tool(retries=1)
    async def flaky(ctx: ToolContext) -> str:
        """Work the second time."""
        if ctx.try_number == 1:
            raise ConnectionError("not yet")
        waited.set()
        return "at last"

    long_wait = replace(QUICK, retry=replace(QUICK.retry, first_seconds=0.6, max_seconds=0.6))
    shop = Workshop()
    async with shop.worker(flaky, echo, concurrency=1, limits=long_wait):
        call = await shop.ask("flaky")
        await shop.reports(call, lambda seen: "ReportRetry" in kinds(seen))
        assert (await shop.run("echo")).status == "ok"
        assert not waited.is_set()
        reports = await shop.reports(call, lambda seen: "ReportResult" in kinds(seen))
    assert "Heartbeat" in kinds(reports)[kinds(reports).index("ReportRetry") :]


async def test_a_full_worker_takes_no_more_and_goes_on_when_there_is_room() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, concurrency=1, limits=replace(QUICK, backlog_max=0)):
        first = await shop.ask("gate")
        await gate.until(1)
        # Calls of unknown tools need no slot: these are only not answered because nobody takes them.
        others = [await shop.ask("unknown") for _ in range(3)]
        told = await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("Heartbeat") >= 3)
        assert "ReportResult" not in kinds(told)
        gate.open.set()
        assert (await shop.result(first)).status == "ok"
        for call in others:
            assert (await shop.result(call)).status == "error"


async def test_a_call_that_comes_again_while_it_runs_is_run_once_and_done_with_as_a_whole() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, echo):
        call = await shop.ask("gate")
        await gate.until(1)
        await shop.send(call)
        await shop.run("echo")
        gate.open.set()
        reports = await shop.settled(call, "echo")
        assert kinds(reports) == ["ReportStarted", "ReportResult"]
    async with shop.worker(gate.tool, echo, name="second"):
        await shop.run("echo")
    assert gate.entered.total() == 1


async def test_a_call_that_comes_again_when_it_is_over_has_its_result_said_again() -> None:
    gate, shop = Gate(), Workshop()
    gate.open.set()
    async with shop.worker(gate.tool, echo):
        call = await shop.ask("gate")
        first = await shop.result(call)
        await shop.send(call)
        reports = await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") == 2)
    assert reports[-1] == first
    assert gate.entered.total() == 1


async def test_only_so_many_results_are_remembered() -> None:
    gate, shop = Gate(), Workshop()
    gate.open.set()
    async with shop.worker(gate.tool, limits=replace(QUICK, finished_max=1)):
        first = await shop.ask("gate", who="first")
        await shop.result(first)
        await shop.run("gate", who="second")
        await shop.send(first)
        await gate.until(3)
    assert gate.entered == {"first": 2, "second": 1}


async def test_a_call_of_a_tool_that_the_pool_does_not_have_is_an_error() -> None:
    shop = Workshop()
    async with shop.worker(echo):
        result = await shop.run("ehco")
    assert result.status == "error"
    assert json.loads(result.output) == {"type": "UnknownTool", "message": "pool default has no tool named ehco"}


@pytest.mark.parametrize("poison", ["bytes", "command"])
async def test_a_record_that_makes_no_sense_is_set_aside_and_stops_nothing(poison: str) -> None:
    shop = Workshop()
    topic = shop.topics.tools("default").name
    value = b"\x00 rubbish" if poison == "bytes" else shop.codec.encode(StopTool(CallId("call_x"), "wrong topic"))
    async with shop.worker(echo):
        await shop.queue.publish(topic, "call_x", value)
        (letter,) = await shop.read(shop.topics.deadletter.name, bool)
        assert isinstance(letter, DeadLetter)
        assert (letter.topic, letter.key, letter.value) == (topic, "call_x", value)
        assert letter.error
        assert (await shop.run("echo")).status == "ok"
    async with shop.worker(echo, name="second"):
        await shop.run("echo")
        assert len(await shop.read(shop.topics.deadletter.name, bool)) == 1
        assert f'dead_letters_total{{topic="{topic}"}} 1.0' in shop.telemetry.exposition().decode()


async def test_a_result_is_published_until_the_queue_takes_it() -> None:
    queue = WearyQueue(MemoryQueue())
    gate, shop = Gate(), Workshop(queue)
    async with shop.worker(gate.tool, echo, limits=replace(QUICK, heartbeat_seconds=60)):
        call = await shop.ask("gate")
        await shop.reports(call, lambda seen: kinds(seen) == ["ReportStarted"])
        queue.fail(shop.topics.results.name, 3)
        gate.open.set()
        assert kinds(await shop.settled(call, "echo")) == ["ReportStarted", "ReportResult"]


async def test_reports_keep_their_order_when_the_queue_takes_the_first_of_them_late() -> None:
    @tool
    async def talkative(ctx: ToolContext) -> str:
        """Show its work."""
        await ctx.emit("half")
        return "whole"

    queue = WearyQueue(MemoryQueue())
    shop = Workshop(queue)
    async with shop.worker(talkative, echo):
        queue.fail(shop.topics.results.name, 1)
        call = await shop.ask("talkative")
        assert kinds(await shop.settled(call, "echo")) == ["ReportStarted", "ReportChunk", "ReportResult"]


async def test_a_worker_that_loses_the_queue_joins_again_and_what_runs_is_run_once() -> None:
    queue = WearyQueue(MemoryQueue())
    gate, shop = Gate(), Workshop(queue)
    async with shop.worker(gate.tool, echo):
        call = await shop.ask("gate")
        await gate.until(1)
        queue.lose_members()
        assert (await shop.run("echo", text="again")).status == "ok"
        gate.open.set()
        reports = await shop.settled(call, "echo")
    assert queue.joined == 2
    assert gate.entered.total() == 1
    assert kinds(reports) == ["ReportStarted", "ReportResult"]
    async with shop.worker(gate.tool, echo, name="second"):
        await shop.run("echo")
    assert gate.entered.total() == 1


async def test_a_worker_that_lost_the_queue_does_not_begin_what_others_have_been_given_meanwhile() -> None:
    kept = MemoryQueue()
    queue = WearyQueue(kept)
    first, second, shop = Gate(), Gate(), Workshop(queue)
    others = Workshop(kept)
    second.open.set()
    shop.topics = replace(shop.topics, pool_partitions=1)
    async with shop.worker(first.tool, concurrency=1):
        await shop.ask("gate", who="running")
        await first.until(1)
        waiting = await shop.ask("gate", who="waiting")
        await shop.run("unknown")  # answered without a slot, so the one before it has come
        queue.shut = True
        queue.lose_members()
        others.topics = shop.topics
        async with others.worker(second.tool, name="second"):
            assert (await others.result(waiting)).status == "ok"
            first.open.set()
    assert first.entered == {"running": 1}


async def test_results_are_remembered_up_to_so_many_bytes_and_the_latest_always() -> None:
    gate, shop = Gate(), Workshop()
    gate.open.set()
    async with shop.worker(gate.tool, limits=replace(QUICK, finished_bytes_max=250)):
        calls = [await shop.ask("gate", who=str(number) * 100) for number in range(6)]
        for call in calls:
            await shop.result(call)
        last = await shop.ask("gate", who="last" * 25)
        await shop.result(last)
        await shop.send(last)
        await shop.reports(last, lambda seen: kinds(seen).count("ReportResult") == 2)
        assert gate.entered["last" * 25] == 1
        await shop.send(calls[0])
        await gate.until(8)


async def test_a_worker_waits_for_a_queue_that_cannot_be_reached_yet() -> None:
    queue = WearyQueue(MemoryQueue())
    shop = Workshop(queue)
    queue.fail(shop.topics.catalog.name, 2)
    async with shop.worker(echo):
        assert (await shop.run("echo")).status == "ok"


async def test_calls_that_wait_go_to_a_worker_that_joins_and_those_that_run_stay() -> None:
    first, second, shop = Gate(), Gate(), Workshop()
    async with shop.worker(first.tool, concurrency=1, limits=replace(QUICK, heartbeat_seconds=60)):
        calls = [await shop.ask("gate", who=str(number)) for number in range(16)]
        await first.until(1)
        async with shop.worker(second.tool, concurrency=16, name="second"):
            await second.until(1)
            first.open.set()
            second.open.set()
            results = [await shop.result(call) for call in calls]
    assert all(result.status == "ok" for result in results)
    ran = first.entered + second.entered
    # Only the one that ran when the partitions moved can have been run by both.
    assert set(ran) == {str(number) for number in range(16)}
    assert ran.total() - len(ran) <= 1
    assert set(first.entered) & set(second.entered) <= {next(iter(first.entered))}
    started = await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("ReportResult") >= 16)
    assert {one.worker for one in started if isinstance(one, ReportStarted)} == {"first", "second"}


async def test_a_worker_alone_in_its_pool_hears_nothing_of_another_pool() -> None:
    @tool(pool="billing")
    async def refund(order: str) -> str:
        """Give money back."""
        return order

    shop = Workshop()
    async with shop.worker(echo), shop.worker(refund, pool="billing", name="second"):
        call = await shop.send(shop.call("refund", {"order": "17"}), pool="billing")
        reports = await shop.reports(call, lambda seen: any(isinstance(one, ReportResult) for one in seen))
    assert [one.worker for one in reports if isinstance(one, ReportStarted)] == ["second"]
