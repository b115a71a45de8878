"""What becomes of one call: its reports, its end, and what its tool may know and do."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from playhead import Image, Pending, ToolContext, ToolFailed, tool
from playhead.commands import (
    AnnounceTool,
    Heartbeat,
    ReportChunk,
    ReportProgress,
    ReportResult,
    ReportRetry,
    ReportStarted,
)
from playhead.errors import Misconfigured

from tests.tool_workers.workshop import PATIENCE_SECONDS, QUICK, SESSION, Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


async def test_each_tool_of_the_pool_is_announced_and_no_other() -> None:
    @tool(pool="elsewhere")
    async def foreign(text: str) -> str:
        """Belongs to another team."""
        return text

    @tool(effect="write", timeout=2.5, retries=3)
    async def save(text: str) -> str:
        """Keep a text."""
        return text

    shop = Workshop()
    async with shop.worker(echo, save, foreign):
        told = await shop.read(shop.topics.catalog.name, lambda seen: len(seen) == 2)
    first, second = told
    assert isinstance(first, AnnounceTool)
    assert isinstance(second, AnnounceTool)
    assert (first.pool, first.name, first.effect, first.timeout_ms, first.retries) == (
        "default",
        "echo",
        "read",
        60_000,
        0,
    )
    assert (second.name, second.effect, second.timeout_ms, second.retries) == ("save", "write", 2_500, 3)
    assert second.description == "Keep a text."
    assert json.loads(second.input_schema)["required"] == ["text"]
    assert second.schema_hash == save.schema_hash


async def test_a_worker_of_a_pool_without_tools_says_which_pools_there_are() -> None:
    with pytest.raises(Misconfigured, match="no tool is in pool 'billing'; the tools found are in: default"):
        async with Workshop().worker(echo, pool="billing"):
            pass


async def test_a_call_is_reported_started_and_then_its_result_with_its_lease() -> None:
    shop = Workshop()
    async with shop.worker(echo):
        call = await shop.ask("echo", text="hello")
        result = await shop.result(call)
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportResult"]
    started = reports[0]
    assert isinstance(started, ReportStarted)
    assert (started.session, started.lease, started.worker) == (SESSION, call.lease, "first")
    assert (result.status, result.output, result.lease) == ("ok", '"hello"', call.lease)
    assert result.report_id == f"result:{call.call_id}"


async def test_a_function_that_is_not_async_runs_in_a_thread_and_holds_nobody_up() -> None:
    release = threading.Event()

    @tool
    def slow() -> bool:
        """Wait, as blocking libraries do."""
        release.wait(PATIENCE_SECONDS)
        # A daemon, so that one that never returns does not keep the process alive.
        return threading.current_thread() is not threading.main_thread() and threading.current_thread().daemon

    shop = Workshop()
    async with shop.worker(slow, echo):
        call = await shop.ask("slow")
        assert (await shop.run("echo", text="meanwhile")).output == '"meanwhile"'
        release.set()
        assert (await shop.result(call)).output == "true"


async def test_an_async_function_under_a_plain_decorator_is_awaited_all_the_same() -> None:
    def plain(text: str) -> object:
        """Look like a plain function, as a decorator's wrapper does."""
        return echo(text)

    shop = Workshop()
    async with shop.worker(tool(plain)):
        assert (await shop.run("plain", text="hi")).output == '"hi"'


async def test_a_running_call_sends_heartbeats_with_its_lease() -> None:
    enough = asyncio.Event()

    @tool
    async def patient() -> str:
        """Wait until told."""
        await enough.wait()
        return "done"

    shop = Workshop()
    async with shop.worker(patient):
        call = await shop.ask("patient")
        reports = await shop.reports(call, lambda seen: kinds(seen).count("Heartbeat") == 3)
        enough.set()
        await shop.result(call)
    assert all(one.lease == call.lease and one.worker == "first" for one in reports if isinstance(one, Heartbeat))


async def test_a_tool_is_told_what_its_call_is() -> None:
    told: list[ToolContext] = []

    @tool(timeout=30)
    async def curious(ctx: ToolContext) -> float:
        """Look at its context."""
        told.append(ctx)
        return ctx.remaining()

    shop = Workshop()
    async with shop.worker(curious):
        call = await shop.ask("curious")
        result = await shop.result(call)
    (ctx,) = told
    assert (ctx.session_id, ctx.call_id, ctx.idempotency_key) == (SESSION, call.call_id, call.idempotency_key)
    assert (ctx.try_number, ctx.cancelled) == (1, False)
    assert timedelta(seconds=20) < ctx.deadline - datetime.now(UTC) <= timedelta(seconds=30)
    assert 20 < json.loads(result.output) <= 30


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({}, "text: Field required"),
        ({"text": 1}, "text: Input should be a valid string"),
        ({"text": "x", "tone": "y"}, "tone: Extra inputs are not permitted"),
    ],
)
async def test_wrong_arguments_are_told_to_the_model_and_the_tool_is_not_run(
    arguments: dict[str, object], advice: str
) -> None:
    ran: list[str] = []

    @tool(retries=3)
    async def strict(text: str) -> str:
        """Take a text only."""
        ran.append(text)
        return text

    shop = Workshop()
    async with shop.worker(strict, echo):
        call = await shop.ask("strict", **arguments)
        reports = await shop.settled(call, "echo")
    result = reports[-1]
    assert isinstance(result, ReportResult)
    assert result.status == "error"
    assert json.loads(result.output) == {"type": "InvalidArguments", "message": advice}
    assert "ReportRetry" not in kinds(reports)
    assert ran == []


async def test_progress_is_coalesced_and_does_not_go_back() -> None:
    shown = asyncio.Event()

    @tool
    async def busy(ctx: ToolContext) -> str:
        """Say much."""
        for done in (1, 2, 5, math.nan, 3):
            await ctx.progress(done, 10, f"at {done}")
        await shown.wait()
        for done in range(6, 11):
            await ctx.progress(done)
        await asyncio.sleep(0.2)
        return "done"

    shop = Workshop()
    async with shop.worker(busy):
        call = await shop.ask("busy")
        await shop.reports(
            call, lambda seen: any(isinstance(one, ReportProgress) and one.progress == 5 for one in seen)
        )
        shown.set()
        await shop.result(call)
        reports = await shop.reports(call, lambda seen: isinstance(seen[-1], ReportResult))
    progress = [one for one in reports if isinstance(one, ReportProgress)]
    steps = [one.progress for one in progress]
    assert steps == sorted(steps)
    assert 5 in steps
    assert steps[-1] == 10
    assert len(steps) <= 6
    assert all(one.lease == call.lease for one in progress)


async def test_parts_of_the_output_come_in_order_before_the_result() -> None:
    @tool
    async def talkative(ctx: ToolContext) -> str:
        """Show its work."""
        for number in range(3):
            await ctx.emit({"part": number})
        return "all"

    shop = Workshop()
    async with shop.worker(talkative, echo):
        call = await shop.ask("talkative")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportChunk", "ReportChunk", "ReportChunk", "ReportResult"]
    assert [json.loads(one.output)["part"] for one in reports if isinstance(one, ReportChunk)] == [0, 1, 2]
    ids = [one.report_id for one in reports if not isinstance(one, Heartbeat)]
    assert len(set(ids)) == len(ids)


async def test_a_thread_shows_progress_and_output_without_awaiting() -> None:
    @tool
    def working(ctx: ToolContext) -> str:
        """Work in a thread."""
        ctx.progress(1, 2)
        ctx.emit("half")
        return "whole"

    shop = Workshop()
    async with shop.worker(working, echo):
        call = await shop.ask("working")
        reports = await shop.settled(call, "echo")
    assert "ReportChunk" in kinds(reports)
    assert kinds(reports)[-1] == "ReportResult"


async def test_what_a_tool_says_of_a_call_that_is_over_is_not_published() -> None:
    kept: list[ToolContext] = []

    @tool
    async def indiscreet(ctx: ToolContext) -> str:
        """Keep its context."""
        kept.append(ctx)
        return "done"

    shop = Workshop()
    async with shop.worker(indiscreet, echo):
        call = await shop.ask("indiscreet")
        await shop.result(call)
        await kept[0].progress(1)
        await kept[0].emit("late")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportResult"]


async def test_calls_that_have_ended_leave_room_for_as_many_others() -> None:
    shop = Workshop()
    async with shop.worker(
        tool(timeout=0.5, name="echo")(echo.function), concurrency=1, limits=replace(QUICK, leaked_max=0)
    ):
        for _ in range(3):
            assert (await shop.run("echo")).status == "ok"


async def test_a_result_is_whatever_pydantic_can_dump() -> None:
    @tool
    async def odd() -> object:
        """Return things that JSON does not have."""
        return {"when": datetime(2026, 1, 2, tzinfo=UTC), "set": {1}, 3: [math.nan, math.inf]}

    shop = Workshop()
    async with shop.worker(odd):
        result = await shop.run("odd")
    assert json.loads(result.output) == {"when": "2026-01-02T00:00:00Z", "set": [1], "3": ["NaN", "Infinity"]}


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (object(), "UnserialisableResult", "cannot be turned into JSON"),
        ("\ud800", "UnserialisableResult", "cannot be turned into JSON"),
        ("x" * 300_000, "ResultTooLarge", "300002 bytes of JSON and a result has at most 262144"),
    ],
    ids=["object", "surrogate", "large"],
)
async def test_a_result_that_cannot_be_carried_is_an_error_that_says_so(value: object, kind: str, words: str) -> None:
    @tool(retries=2)
    async def awkward() -> object:
        """Return what cannot be carried."""
        return value

    shop = Workshop()
    async with shop.worker(awkward, echo):
        call = await shop.ask("awkward")
        reports = await shop.settled(call, "echo")
    result = reports[-1]
    assert isinstance(result, ReportResult)
    assert result.status == "error"
    told = json.loads(result.output)
    assert told["type"] == kind
    assert words in told["message"]
    assert "ReportRetry" not in kinds(reports)


@pytest.mark.parametrize(
    "value",
    [Image(cast("bytes", None)), Image(cast("bytes", "text")), Pending(60.0, cast("str", object()))],
    ids=["none", "text", "message"],
)
async def test_a_result_that_is_no_such_thing_ends_its_call_and_no_other(value: object) -> None:
    @tool
    async def careless() -> object:
        """Return what is not what it says."""
        return value

    shop = Workshop()
    async with shop.worker(careless, echo):
        result = await shop.run("careless")
        assert result.status == "error"
        assert (await shop.run("echo", text="still here")).status == "ok"


async def test_a_part_that_cannot_be_carried_fails_the_call() -> None:
    @tool
    async def awkward(ctx: ToolContext) -> str:
        """Show what cannot be shown."""
        await ctx.emit(object())
        return "never"

    shop = Workshop()
    async with shop.worker(awkward):
        result = await shop.run("awkward")
    assert result.status == "error"
    assert "cannot be turned into JSON" in result.output


async def test_a_failure_is_told_by_type_and_message_and_without_a_traceback() -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise ValueError("no such \ud800 thing" + "!" * 5_000)

    shop = Workshop()
    async with shop.worker(broken):
        result = await shop.run("broken")
    told = json.loads(result.output)
    assert result.status == "error"
    assert told["type"] == "ValueError"
    assert told["message"].startswith("no such ? thing!!!")
    assert len(told["message"]) < 2_100
    assert "Traceback" not in result.output


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration()])
@pytest.mark.parametrize("in_thread", [True, False], ids=["thread", "task"])
async def test_nothing_that_a_tool_raises_stops_the_worker(raised: BaseException, in_thread: bool) -> None:
    async def rude() -> str:
        """Raise what is not meant for tools."""
        raise raised

    def rude_in_thread() -> str:
        """Raise what is not meant for tools."""
        raise raised

    shop = Workshop()
    async with shop.worker(tool(name="rude")(rude_in_thread if in_thread else rude), echo):
        assert (await shop.run("rude")).status == "error"
        assert (await shop.run("echo", text="still here")).status == "ok"


async def test_what_the_metrics_count() -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise ToolFailed("no")

    shop = Workshop()
    async with shop.worker(echo, broken):
        await shop.run("echo")
        await shop.run("broken")
        await shop.run("nobody knows it")
        counted = shop.telemetry.exposition().decode()
    assert 'playhead_tool_calls_total{pool="default",status="ok",tool="echo"} 1.0' in counted
    assert 'playhead_tool_calls_total{pool="default",status="error",tool="broken"} 1.0' in counted
    assert 'playhead_tool_calls_total{pool="default",status="error",tool="unknown"} 1.0' in counted
    assert 'playhead_tool_calls_running{pool="default"} 0.0' in counted
    assert 'playhead_tool_queue_seconds_count{pool="default",tool="echo"} 1.0' in counted
    assert 'playhead_tool_run_seconds_count{pool="default",tool="echo"} 1.0' in counted


async def test_a_retried_call_keeps_its_key_counts_its_tries_and_tells_of_each_retry() -> None:
    tries: list[tuple[str, int]] = []

    @tool(effect="write", retries=2)
    async def flaky(ctx: ToolContext) -> str:
        """Work the third time."""
        tries.append((ctx.idempotency_key, ctx.try_number))
        if ctx.try_number < 3:
            raise ConnectionError("not yet")
        return "at last"

    shop = Workshop()
    async with shop.worker(flaky, echo):
        call = await shop.send(shop.call("flaky", {}, effect="write"))
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportRetry", "ReportRetry", "ReportResult"]
    assert tries == [(call.idempotency_key, number) for number in (1, 2, 3)]
    retries = [one for one in reports if isinstance(one, ReportRetry)]
    assert [one.try_ for one in retries] == [1, 2]
    assert all(5 <= one.delay_ms <= 50 for one in retries)
    assert (retries[0].error.code, retries[0].error.message) == ("error", "ConnectionError: not yet")
    assert isinstance(reports[-1], ReportResult)
    assert reports[-1].output == '"at last"'


async def test_after_the_last_try_the_failure_is_the_result() -> None:
    tries: list[int] = []

    @tool(retries=1)
    async def hopeless() -> str:
        """Never work."""
        tries.append(1)
        raise ConnectionError("still not")

    shop = Workshop()
    async with shop.worker(hopeless, echo):
        call = await shop.ask("hopeless")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportRetry", "ReportResult"]
    assert len(tries) == 2


async def test_a_tool_that_says_it_failed_is_not_tried_again() -> None:
    @tool(retries=5)
    async def final() -> str:
        """Fail for good."""
        raise ToolFailed("the bank declined; do not try again")

    shop = Workshop()
    async with shop.worker(final, echo):
        call = await shop.ask("final")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportResult"]
    assert isinstance(reports[-1], ReportResult)
    assert json.loads(reports[-1].output)["message"] == "the bank declined; do not try again"


async def test_a_try_that_takes_too_long_is_stopped_and_tried_again() -> None:
    stopped: list[bool] = []

    @tool(timeout=0.05, retries=1)
    async def slow(ctx: ToolContext) -> str:
        """Take for ever, the first time."""
        if ctx.try_number == 2:
            return "quick"
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(ctx.cancelled)
        return "never"

    shop = Workshop()
    async with shop.worker(slow, echo):
        call = await shop.ask("slow")
        reports = await shop.settled(call, "echo")
    assert kinds(reports) == ["ReportStarted", "ReportRetry", "ReportResult"]
    assert isinstance(reports[1], ReportRetry)
    assert reports[1].error.code == "timeout"
    assert stopped == [True]


async def test_a_call_whose_last_try_takes_too_long_ends_as_a_timeout() -> None:
    @tool(timeout=0.05)
    async def slow() -> str:
        """Take for ever."""
        await asyncio.Event().wait()
        return "never"

    shop = Workshop()
    async with shop.worker(slow):
        result = await shop.run("slow")
    assert result.status == "timeout"
    assert "slow had no result within 0.05 s" in result.output
    assert result.elapsed_ms >= 50


async def test_a_tool_that_ignores_its_cancellation_is_reported_without_it() -> None:
    release = asyncio.Event()

    @tool(timeout=0.05)
    async def stubborn() -> str:
        """Go on regardless."""
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    shop = Workshop()
    async with shop.worker(stubborn, echo):
        call = await shop.ask("stubborn")
        assert (await shop.result(call)).status == "timeout"
        release.set()
        late = await shop.late(call)
    assert (late.status, late.output) == ("ok", '"late"')


async def test_a_thread_that_takes_too_long_is_reported_at_once_and_told_to_stop() -> None:
    told = threading.Event()

    @tool(timeout=0.05)
    def stubborn(ctx: ToolContext) -> str:
        """Look now and then whether anybody waits."""
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        told.set()
        ctx.progress(1)
        ctx.emit("late")
        return "late"

    shop = Workshop()
    async with shop.worker(stubborn, echo):
        call = await shop.ask("stubborn")
        assert (await shop.result(call)).status == "timeout"
        await within(asyncio.to_thread(told.wait, PATIENCE_SECONDS))
        late = await shop.late(call)
        reports = await shop.settled(call, "echo")
    assert (late.status, late.output) == ("ok", '"late"')
    assert kinds(reports) == ["ReportStarted", "ReportResult", "ReportResult"], "and no progress, and no part of it"
