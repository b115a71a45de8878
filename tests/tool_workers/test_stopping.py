"""Ends that come from outside: a call that nobody waits for any more, and a worker that is told to stop."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

from playhead import ToolContext, tool
from playhead.commands import ReportResult
from playhead_tool_workers.service import Worker

from tests.tool_workers.test_delivery import Gate
from tests.tool_workers.workshop import PATIENCE_SECONDS, QUICK, WearyQueue, Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


async def test_a_running_call_that_nobody_waits_for_is_stopped_and_reported_cancelled() -> None:
    entered, seen = asyncio.Event(), list[bool]()

    @tool(retries=3)
    async def patient(ctx: ToolContext) -> str:
        """Wait for ever."""
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.cancelled)
        return "never"

    shop = Workshop()
    async with shop.worker(patient, echo):
        call = await shop.ask("patient")
        await within(entered.wait())
        await shop.stop(call, "the user went home")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportResult"]
    assert isinstance(reports[-1], ReportResult)
    assert reports[-1].status == "cancelled"
    assert json.loads(reports[-1].output) == {"type": "Cancelled", "message": "the user went home"}
    assert seen == [True]


async def test_a_running_thread_that_nobody_waits_for_is_reported_at_once_and_told() -> None:
    entered, told = threading.Event(), threading.Event()

    @tool
    def patient(ctx: ToolContext) -> str:
        """Look now and then whether anybody waits."""
        entered.set()
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        told.set()
        return "late"

    shop = Workshop()
    async with shop.worker(patient):
        call = await shop.ask("patient")
        await within(asyncio.to_thread(entered.wait, PATIENCE_SECONDS))
        await shop.stop(call)
        assert (await shop.result(call)).status == "cancelled"
        await within(asyncio.to_thread(told.wait, PATIENCE_SECONDS))


async def test_a_call_that_waits_for_its_turn_never_starts_once_it_is_stopped() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, concurrency=1):
        running = await shop.ask("gate", who="running")
        await gate.until(1)
        waiting = await shop.ask("gate", who="waiting")
        await shop.stop(waiting)
        assert (await shop.result(waiting)).status == "cancelled"
        gate.open.set()
        assert kinds(await shop.settled(waiting, "gate", who="later")) == ["ReportResult"]
        assert (await shop.result(running)).status == "ok"
    assert "waiting" not in gate.entered


async def test_a_call_that_waits_for_its_next_try_is_not_tried_again_once_it_is_stopped() -> None:
    tries = list[int]()

    @tool(retries=1)
    async def flaky() -> str:
        """Fail."""
        tries.append(1)
        raise ConnectionError("no")

    shop = Workshop()
    async with shop.worker(flaky, limits=replace(QUICK, retry=replace(QUICK.retry, first_seconds=60, max_seconds=60))):
        call = await shop.ask("flaky")
        await shop.reports(call, lambda seen: "ReportRetry" in kinds(seen))
        await shop.stop(call)
        assert (await shop.result(call)).status == "cancelled"
    assert len(tries) == 1


async def test_a_stop_that_comes_before_its_call_is_remembered() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, echo):
        call = shop.call("gate", {})
        other = await shop.ask("gate", who="other")
        await gate.until(1)
        await shop.stop(call)
        await shop.stop(other)  # heard after the first, so that once it has its effect both were heard
        await shop.result(other)
        await shop.send(call)
        assert (await shop.result(call)).status == "cancelled"
    assert gate.entered.total() == 1


async def test_rubbish_on_the_control_topic_stops_nothing() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool):
        call = await shop.ask("gate")
        await gate.until(1)
        await shop.queue.publish(shop.topics.control("default").name, "x", b"rubbish")
        await shop.stop(call)
        assert (await shop.result(call)).status == "cancelled"


async def test_a_stopping_worker_lets_running_calls_finish_and_leaves_waiting_ones_to_others() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, concurrency=1) as worker:
        running = await shop.ask("gate", who="running")
        await gate.until(1)
        waiting = await shop.ask("gate", who="waiting")
        assert worker.ready.is_set()
        asyncio.get_running_loop().call_later(0.05, gate.open.set)
    assert (await shop.result(running)).status == "ok"
    assert gate.entered == {"running": 1}
    async with shop.worker(gate.tool, name="second"):
        assert (await shop.result(waiting)).status == "ok"
    assert gate.entered == {"running": 1, "waiting": 1}


async def test_a_stopping_worker_takes_no_new_calls() -> None:
    gate, shop = Gate(), Workshop()
    stop = asyncio.Event()
    worker = Worker(shop.parts(), [gate.tool], "default", limits=QUICK)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(stop))
        await within(worker.ready.wait())
        await shop.ask("gate", who="running")
        await gate.until(1)
        stop.set()
        late = await shop.ask("gate", who="late")
        # Three heartbeats later the late call would have begun, if it were going to.
        await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("Heartbeat") >= 3)
        gate.open.set()
        await within(serving)
    assert gate.entered == {"running": 1}
    async with shop.worker(gate.tool, name="second"):
        assert (await shop.result(late)).status == "ok"


async def test_a_tool_that_ignored_one_cancellation_is_stopped_with_its_worker() -> None:
    ignored, stopped = asyncio.Event(), asyncio.Event()

    @tool(timeout=0.05)
    async def stubborn() -> str:
        """Give up the second time only."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ignored.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    shop = Workshop()
    async with shop.worker(stubborn):
        assert (await shop.run("stubborn")).status == "timeout"
        assert ignored.is_set()
        assert not stopped.is_set()
    assert stopped.is_set()


async def test_a_call_that_outlasts_the_grace_is_left_to_another_worker_without_a_word() -> None:
    gate, shop = Gate(), Workshop()
    async with shop.worker(gate.tool, echo, limits=replace(QUICK, grace_seconds=0.05)):
        call = await shop.ask("gate")
        await gate.until(1)
    gate.open.set()
    async with shop.worker(gate.tool, echo, name="second"):
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportStarted", "ReportResult"]
    assert gate.entered.total() == 2


async def test_a_worker_that_is_cancelled_leaves_its_calls_to_another_without_a_word() -> None:
    gate, shop = Gate(), Workshop()
    worker = Worker(shop.parts(), [gate.tool], "default", limits=QUICK)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(asyncio.Event()))
        await within(worker.ready.wait())
        call = await shop.ask("gate")
        await gate.until(1)
        serving.cancel()
    gate.open.set()
    async with shop.worker(gate.tool, echo, name="second"):
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportStarted", "ReportResult"]
    assert gate.entered.total() == 2


async def test_what_a_tool_says_after_its_worker_has_stopped_is_not_published() -> None:
    entered = threading.Event()
    release = threading.Event()
    done = threading.Event()

    @tool
    def stubborn(ctx: ToolContext) -> str:
        """Come back late, whatever is asked."""
        entered.set()
        release.wait(PATIENCE_SECONDS)
        ctx.progress(1)
        ctx.emit("late")
        done.set()
        return "late"

    shop = Workshop()
    async with shop.worker(stubborn, limits=replace(QUICK, grace_seconds=0.01)):
        call = await shop.ask("stubborn")
        await within(asyncio.to_thread(entered.wait, PATIENCE_SECONDS))
        await shop.reports(call, lambda seen: "ReportStarted" in kinds(seen))
    release.set()
    await within(asyncio.to_thread(done.wait, PATIENCE_SECONDS))
    async with shop.worker(echo, name="second"):
        assert kinds(await shop.reports(await shop.ask("echo"), lambda seen: "ReportResult" in kinds(seen)))
    told = await shop.read(shop.topics.results.name, lambda seen: "ReportResult" in kinds(seen))
    assert "ReportChunk" not in kinds(told)
    assert "ReportProgress" not in kinds(told)


async def test_stopped_threads_that_do_not_return_are_put_up_with_up_to_a_limit() -> None:
    release = threading.Event()

    @tool(timeout=0.1)
    def stuck(hold: bool) -> str:
        """Come back when it pleases."""
        if hold:
            release.wait(PATIENCE_SECONDS)
        return "back"

    shop = Workshop()
    async with shop.worker(stuck, concurrency=1, limits=replace(QUICK, leaked_max=1)):
        for _ in range(2):
            assert (await shop.run("stuck", hold=True)).status == "timeout"
        refused = await shop.run("stuck", hold=False)
        assert refused.status == "timeout"
        assert "too many earlier calls were stopped and have not returned" in refused.output
        release.set()
        again = await shop.run("stuck", hold=False)
        assert again.status == "ok"


async def test_a_worker_that_is_told_to_stop_before_it_reached_the_queue_stops() -> None:
    queue = WearyQueue(Workshop().queue)
    shop = Workshop(queue)
    queue.fail(shop.topics.catalog.name, 1_000_000)
    worker, stop = Worker(shop.parts(), [echo], "default", limits=QUICK), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(stop))
        asyncio.get_running_loop().call_later(0.03, stop.set)
        await within(serving)
    assert not worker.ready.is_set()
