"""Dead letters: which calls leave one, and how they are run again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from playhead import ToolFailed, tool
from playhead.commands import ReportResult
from playhead.options import Limit

from tests.tool_workers.workshop import Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


async def test_a_call_that_keeps_failing_leaves_a_letter_with_all_that_it_takes_to_run_it_again() -> None:
    @tool(retries=1)
    async def broken(text: str) -> None:
        """Fail."""
        raise ConnectionError("down")

    shop = Workshop()
    async with shop.worker(broken):
        call = await shop.ask("broken", text="hello")
        result = await shop.result(call)
        (letter,) = await shop.letters(1)
        assert f'dead_letters_total{{topic="{letter.topic}"}} 1.0' in shop.telemetry.exposition().decode()
    assert result.status == "error"
    assert shop.codec.command(letter.value) == call
    assert (letter.topic, letter.key, letter.error) == (
        shop.topics.tools("default").name,
        call.call_id,
        "ConnectionError: down",
    )
    assert letter.partition == await shop.queue.partition_of(letter.topic, call.call_id)
    assert letter.offset >= 0


async def test_a_call_that_takes_too_long_leaves_a_letter_too() -> None:
    @tool(timeout=0.02)
    async def slow() -> None:
        """Take for ever."""
        await asyncio.Event().wait()

    shop = Workshop()
    async with shop.worker(slow):
        await shop.run("slow")
        (letter,) = await shop.letters(1)
    assert letter.error.startswith("Timeout: slow had no result")


async def test_calls_that_failed_for_a_reason_of_their_own_leave_no_letter() -> None:
    entered = asyncio.Event()

    @tool(limits={"how": Limit(deny=["denied"])})
    async def picky(how: str) -> None:
        """Refuse."""
        entered.set()
        if how == "cancel":
            await asyncio.Event().wait()
        raise ToolFailed("no")

    @tool
    async def broken() -> None:
        """Fail."""
        raise ConnectionError("down")

    shop = Workshop()
    async with shop.worker(picky, broken):
        await shop.run("picky", how="failed")
        await shop.run("picky", what="invalid")
        await shop.run("picky", how="denied")
        await shop.run("nobody knows it")
        entered.clear()
        call = await shop.ask("picky", how="cancel")
        await within(entered.wait())
        await shop.stop(call)
        await shop.result(call)
        last = await shop.ask("broken")
        (letter,) = await shop.letters(1)
    assert letter.key == last.call_id


async def test_a_redriven_call_runs_again_though_it_has_finished_here_and_its_report_is_another() -> None:
    works = list[bool]()

    @tool
    async def mended() -> str:
        """Work the second time."""
        works.append(True)
        if len(works) == 1:
            raise ConnectionError("down")
        return "up"

    shop = Workshop()
    async with shop.worker(mended, echo):
        call = await shop.ask("mended")
        first = await shop.result(call)
        await shop.letters(1)
        again = replace(call, redriven=True, dispatched_at=call.dispatched_at + 1)
        await shop.send(again)
        reports = await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") == 2)
        await shop.send(again)  # the same, delivered again
        reports = await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") == 3)
    results = [one for one in reports if isinstance(one, ReportResult)]
    assert [one.status for one in results] == ["error", "ok", "ok"]
    assert results[1] == results[2]
    assert results[1].report_id != first.report_id
    assert [one.late for one in results] == [False, True, True]
    assert len(works) == 2


async def test_a_call_that_is_redriven_before_it_is_off_the_table_is_run_again_all_the_same() -> None:
    runs, entered, release = list[int](), asyncio.Event(), asyncio.Event()

    @tool
    async def patient() -> int:
        """Wait."""
        runs.append(1)
        entered.set()
        await release.wait()
        return len(runs)

    shop = Workshop()
    async with shop.worker(patient, echo):
        call = await shop.ask("patient")
        await within(entered.wait())
        await shop.send(replace(call, redriven=True, dispatched_at=call.dispatched_at + 1))
        await shop.run("echo")
        release.set()
        await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") == 2)
    assert len(runs) == 2
