"""What a worker lets people see: slow tools, how long calls wait and run, how many run now, what came late."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from playhead import ToolContext, tool
from playhead.codec import RECORD_BYTES_MAX
from playhead.commands import Report, ReportResult, ReportStarted
from playhead.content import Question
from playhead.events import Json
from structlog.testing import capture_logs

from tests.tool_workers.test_delivery import Gate
from tests.tool_workers.workshop import QUICK, Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


async def test_a_tool_that_takes_long_is_warned_of_once_with_its_name_and_a_quick_one_is_not() -> None:
    gate, shop = Gate(), Workshop()
    with capture_logs() as logs:
        async with shop.worker(gate.tool, echo, limits=replace(QUICK, slow_seconds=0.05)):
            call = await shop.ask("gate")
            await gate.until(1)
            await shop.run("echo")
            await shop.reports(call, lambda seen: kinds(seen).count("Heartbeat") >= 3)
            gate.open.set()
            await shop.result(call)
    warned = [one for one in logs if one["event"] == "a tool is slow"]
    assert [(one["tool"], one["call"], one["log_level"]) for one in warned] == [("gate", call.call_id, "warning")]


async def test_how_long_a_call_waited_and_ran_and_how_many_run_is_measured() -> None:
    gate, shop = Gate(), Workshop()

    def value(name: str, **labels: str) -> float:
        found = shop.telemetry.registry.get_sample_value(name, labels)
        return 0.0 if found is None else found

    async with shop.worker(gate.tool, limits=QUICK):
        call = shop.call("gate", {})
        await shop.send(replace(call, dispatched_at=time.time_ns() // 1_000 - 3_000_000))
        await gate.until(1)
        assert value("playhead_tool_calls_running", pool="default") == 1
        assert 3 <= value("playhead_tool_queue_seconds_sum", pool="default", tool="gate") < 6
        gate.open.set()
        result = await shop.result(call)
        await shop.run("gate")
        assert value("playhead_tool_calls_running", pool="default") == 0
        assert value("playhead_tool_run_seconds_count", pool="default", tool="gate") == 2
        ran = value("playhead_tool_run_seconds_sum", pool="default", tool="gate")
        assert result.elapsed_ms / 1_000 <= ran < 5
        assert value("playhead_tool_calls_total", pool="default", tool="gate", status="ok") == 2


async def test_a_call_that_was_never_started_is_counted_and_its_time_is_not() -> None:
    shop = Workshop()
    async with shop.worker(echo):
        await shop.run("echo", strange=1)
        sample = shop.telemetry.registry.get_sample_value
        labels = {"pool": "default", "tool": "echo"}
        assert sample("playhead_tool_calls_total", {**labels, "status": "error"}) == 1
        assert not sample("playhead_tool_run_seconds_count", labels)


# --- late, and again ---


async def test_what_a_tool_returned_while_it_was_being_stopped_is_reported_late_and_after_the_end() -> None:
    @tool(timeout=0.05, effect="write")
    async def thorough() -> str:
        """Finish what was begun, and say so."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "it was done after all"
        return "never"

    shop = Workshop()
    async with shop.worker(thorough, echo):
        call = await shop.ask("thorough")
        late = await shop.late(call)
        reports = await shop.settled(call, "echo")
        counted = shop.telemetry.exposition().decode()
    results = [one for one in reports if isinstance(one, ReportResult)]
    assert [(one.status, one.late) for one in results] == [("timeout", False), ("ok", True)]
    assert late.output == '"it was done after all"'
    assert late.report_id != results[0].report_id
    assert 'playhead_tool_late_results_total{pool="default",tool="thorough"} 1.0' in counted


async def test_a_cancelled_call_that_worked_all_the_same_is_reported_late() -> None:
    entered = asyncio.Event()

    @tool(effect="write")
    async def thorough() -> str:
        """Finish what was begun, and say so."""
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "paid"
        return "never"

    shop = Workshop()
    async with shop.worker(thorough):
        call = await shop.ask("thorough")
        await within(entered.wait())
        await shop.stop(call)
        assert (await shop.result(call)).status == "cancelled"
        assert (await shop.late(call)).output == '"paid"'


async def test_a_late_result_of_an_earlier_try_is_told_when_no_later_one_worked_and_only_the_first() -> None:
    release = asyncio.Event()

    @tool(timeout=0.05, retries=1)
    async def stubborn(ctx: ToolContext) -> int:
        """Outlast its time, twice."""
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return ctx.try_number

    shop = Workshop()
    async with shop.worker(stubborn, echo, limits=replace(QUICK, cleanup_seconds=0.01)):
        call = await shop.ask("stubborn")
        assert (await shop.result(call)).status == "timeout"
        release.set()
        await shop.late(call)
        reports = await shop.settled(call, "echo")
    assert [one.late for one in reports if isinstance(one, ReportResult)] == [False, True]


async def test_an_answered_call_that_is_delivered_again_is_not_run_again() -> None:
    runs = list[object]()

    @tool(effect="write")
    async def confirm(ctx: ToolContext) -> object:
        """Ask, then do it."""
        runs.append(None if ctx.answer is None else ctx.answer.content)
        return Question("sure?") if ctx.answer is None else "done"

    shop = Workshop()
    async with shop.worker(confirm, echo):
        call = await shop.send(shop.call("confirm", {}, "write"))
        await shop.reports(call, lambda seen: "ReportQuestion" in kinds(seen))
        answered = replace(call, answer=Json(json.dumps({"content": True, "state": None})))
        for _ in range(2):
            await shop.send(answered)
            await shop.result(call)
        reports = await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") == 2)
        await shop.run("echo")
    assert runs == [None, True]
    assert reports[-1] == next(one for one in reports if isinstance(one, ReportResult))


async def test_a_question_that_is_too_large_is_an_error_and_hurts_nobody() -> None:
    @tool
    async def verbose() -> object:
        """Ask at length."""
        return Question("?" * 300_000, state="!" * 900_000)

    shop = Workshop()
    async with shop.worker(verbose, echo):
        result = await shop.run("verbose")
        assert (await shop.run("echo")).status == "ok"
    assert result.status == "error"
    assert json.loads(result.output)["type"] == "QuestionTooLarge"


async def test_an_output_that_grows_beyond_a_record_when_its_secrets_are_cut_out_is_an_error_and_hurts_nobody() -> None:
    name = "A_SECRET_OF_SOME_LENGTH_" * 2

    @tool(secrets={name: "env:KEY"})
    async def repetitive(ctx: ToolContext) -> str:
        """Say it again and again."""
        return ctx.secrets[name] * 60_000

    shop = Workshop(environment={"KEY": "abcd"})
    async with shop.worker(repetitive, echo):
        result = await shop.run("repetitive")
        assert (await shop.run("echo")).status == "ok"
    assert result.status == "error"
    assert json.loads(result.output)["type"] == "ResultTooLarge"


async def test_a_failed_call_too_large_for_a_letter_ends_all_the_same() -> None:
    @tool(timeout=0.02)
    async def slow(text: str) -> None:
        """Take for ever."""
        await asyncio.Event().wait()

    shop = Workshop()
    async with shop.worker(slow, echo):
        small = shop.call("slow", {"text": ""})
        room = RECORD_BYTES_MAX - len(shop.codec.encode(small)) - 20
        call = await shop.send(replace(small, input=Json(json.dumps({"text": "x" * room}))))
        result = await shop.result(call)
        assert (await shop.run("echo")).status == "ok"
        assert "playhead_dead_letters_total{" not in shop.telemetry.exposition().decode()
    assert result.status == "timeout"


async def test_a_delivery_that_cannot_be_carried_fails_where_it_is_made_and_the_promise_stands() -> None:
    @tool
    async def deliver(ticket: str, ctx: ToolContext) -> str:
        """Deliver too much."""
        await ctx.deliver(ticket, "x" * 300_000)
        return "never"

    shop = Workshop()
    async with shop.worker(deliver, echo):
        promised = shop.call("elsewhere", {})
        result = await shop.run("deliver", ticket=f"{promised.session}.{promised.call_id}.{promised.lease}")
        assert result.status == "error"
        assert "300002 bytes" in result.output
        await shop.run("echo")
        told = await shop.read(shop.topics.results.name, lambda seen: kinds(seen).count("ReportResult") >= 2)
    assert not any(getattr(one, "call_id", "") == promised.call_id for one in told)


# --- grants ---


class Till:
    """Counts payments."""

    def __init__(self, *reconciled: str) -> None:
        self.paid = list[str]()

        @tool(effect="once")
        async def pay(order: str) -> str:
            """Pay."""
            self.paid.append(order)
            return "paid"

        self.tool = pay


async def test_a_worker_that_was_suspended_while_it_asked_does_not_heed_a_grant_from_before() -> None:
    till, shop = Till(), Workshop()
    limits = replace(QUICK, ask_seconds=0.4, grant_seconds=0.5)
    async with shop.worker(till.tool, limits=limits):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once"))
        asked = await shop.asked(call)
        time.sleep(0.6)  # noqa: ASYNC251 - the whole process is suspended, with a grant on its way
        await asyncio.sleep(0.1)  # the grant is heard a little after the worker has looked at its clock
        await shop.grant(call, asked.report_id, asking=asked.asking)
        await shop.asked(call, times=3)  # it has asked anew and heard nothing since
        assert till.paid == []
        await shop.grant(call, asked.report_id)
        assert (await shop.result(call)).status == "ok"
    assert till.paid == ["17"]


def _worker(report: Report) -> str:
    return report.worker if isinstance(report, ReportStarted) else ""


async def test_of_two_workers_that_both_have_a_call_only_the_one_that_is_granted_runs_it() -> None:
    first, second, shop = Till(), Till(), Workshop(partitions=2)
    limits = replace(QUICK, ask_seconds=0.1)
    topic = shop.topics.tools("default").name
    async with (
        shop.worker(first.tool, echo, limits=limits),
        shop.worker(second.tool, echo, limits=limits, name="second"),
    ):
        call = shop.call("pay", {"order": "17"}, "once")
        for number in range(8):  # delivered by one partition and by the other
            await shop.queue.publish(topic, f"key {number}", shop.codec.encode(call))
        asked = await shop.reports(call, lambda seen: {"first", "second"} <= {_worker(one) for one in seen})
        claims = {_worker(one): one.report_id for one in asked if isinstance(one, ReportStarted)}
        await shop.grant(call, claims["second"])
        assert (await shop.result(call)).status == "ok"
    assert (first.paid, second.paid) == ([], ["17"])


@pytest.mark.parametrize("answer", ["its end", "a refusal"])
async def test_a_lost_call_that_cannot_be_looked_into_any_more_is_unknown_and_not_an_error(answer: str) -> None:
    till, shop = Till(), Workshop()
    async with shop.worker(till.tool, echo):
        wrong = {"order": 17} if answer == "its end" else {"order": "17"}
        name = "pay" if answer == "its end" else "withdrawn"
        result = await shop.result(await shop.send(shop.call(name, wrong, "once", reconcile=True)))
    assert result.status == "unknown"
    assert till.paid == []


async def test_a_call_that_is_looked_into_is_watched_as_a_running_one_is() -> None:
    release = asyncio.Event()

    async def look(order: str) -> str:
        await release.wait()
        return order

    @tool(effect="once", reconcile=look)
    async def pay(order: str) -> str:
        """Pay."""
        return order

    shop = Workshop()
    async with shop.worker(pay):
        call = await shop.send(shop.call("pay", {"order": "17"}, "once", reconcile=True))
        reports = await shop.reports(call, lambda seen: kinds(seen).count("Heartbeat") >= 2)
        release.set()
        assert (await shop.result(call)).status == "ok"
    assert "ReportStarted" not in kinds(reports)
