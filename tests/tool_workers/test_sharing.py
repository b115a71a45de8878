"""What calls share in a worker and workers in a pool: rates, results kept for others, resources, the offer itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from playhead import ToolContext, tool
from playhead.adapters.archive import MemoryArchive
from playhead.adapters.memory import MemoryQueue
from playhead.commands import AnnounceTool, ReportResult
from playhead.content import Question
from playhead.errors import Misconfigured
from playhead.events import Json
from playhead.lifespan import lifespan
from playhead.tools import Tool
from playhead_tool_workers.service import Worker

from tests.tool_workers.workshop import QUICK, Workshop, kinds, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


# --- rates ---


class Paced:
    """A tool that notes when it starts."""

    def __init__(self, rate: str) -> None:
        self.starts = list[tuple[str, float]]()
        self.changed = asyncio.Condition()

        @tool(rate_limit=rate)
        async def paced(ctx: ToolContext) -> None:
            """Note the time."""
            async with self.changed:
                self.starts.append((ctx.tenant, time.monotonic()))
                self.changed.notify_all()

        self.tool = paced

    async def until(self, count: int) -> None:
        """Wait until it was started so often."""
        async with self.changed:
            await within(self.changed.wait_for(lambda: len(self.starts) >= count))


async def test_no_more_calls_start_in_a_time_than_the_rate_allows() -> None:
    paced, shop = Paced("2/s"), Workshop()
    async with shop.worker(paced.tool):
        for _ in range(5):
            await shop.ask("paced")
        await paced.until(5)
    times = [at for _, at in paced.starts]
    assert all(third - first >= 0.94 for first, third in zip(times, times[2:], strict=False))


async def test_a_call_that_waits_for_its_rate_keeps_no_other_tool_from_running() -> None:
    paced, shop = Paced("1/h"), Workshop()
    async with shop.worker(paced.tool, echo, concurrency=1):
        await shop.run("paced")
        waiting = await shop.ask("paced")
        assert (await shop.run("echo")).status == "ok"
        await shop.stop(waiting)
        assert (await shop.result(waiting)).status == "cancelled"
    assert len(paced.starts) == 1


async def test_calls_that_are_due_and_wait_for_a_slot_do_not_all_start_at_once_when_there_is_one() -> None:
    paced, shop, release = Paced("5/s"), Workshop(), asyncio.Event()
    entered = asyncio.Event()

    @tool
    async def hold() -> None:
        """Have the only slot."""
        entered.set()
        await release.wait()

    async with shop.worker(paced.tool, hold, concurrency=1):
        await shop.ask("hold")
        await within(entered.wait())
        for _ in range(8):
            await shop.ask("paced")
        # Six of them are due a second later, two of those for the second time
        asyncio.get_running_loop().call_later(1.3, release.set)
        await paced.until(8)
    times = [at for _, at in paced.starts]
    assert all(sixth - first >= 0.94 for first, sixth in zip(times, times[5:], strict=False))


async def test_each_tenant_has_a_rate_of_its_own() -> None:
    paced, shop = Paced("1/h per tenant"), Workshop()
    async with shop.worker(paced.tool):
        for tenant in ("a", "b", "a"):
            await shop.send(shop.call("paced", {}, tenant=tenant))
        await paced.until(2)
        await shop.send(shop.call("paced", {}, tenant="c"))
        await paced.until(3)
    assert [tenant for tenant, _ in paced.starts] == ["a", "b", "c"]


async def test_two_workers_have_half_of_the_rate_each() -> None:
    first, second, queue = Paced("4/h"), Paced("4/h"), MemoryQueue(grace_seconds=1.0)
    shop = Workshop(queue)
    async with shop.worker(first.tool, echo), shop.worker(second.tool, echo, name="second"):
        await within(_spread(shop))
        for _ in range(24):
            await shop.ask("paced")
        await first.until(2)
        await second.until(2)
        # Later calls have run their course at both, so nothing more is coming.
        await within(_spread(shop))
    assert (len(first.starts), len(second.starts)) == (2, 2)


async def _spread(shop: Workshop) -> None:
    """Call until both workers have answered: the pool is spread over them."""
    calls = [await shop.ask("echo", text=str(number)) for number in range(12)]
    workers = set[str]()
    for call in calls:
        for report in await shop.reports(call, lambda seen: kinds(seen).count("ReportResult") > 0):
            workers.add(getattr(report, "worker", "first"))
    if workers != {"first", "second"}:
        await _spread(shop)


# --- results kept ---


class Counting:
    """A tool whose result says how often it ran."""

    def __init__(self, **options: object) -> None:
        self.runs = 0

        @tool(**{"cache": 60, **options})  # pyright: ignore[reportArgumentType, reportCallIssue] - a test's shorthand
        async def count(what: str = "", where: str = "") -> int:
            """Count."""
            self.runs += 1
            return self.runs

        self.tool = count


async def test_the_same_question_is_answered_from_the_cache_and_the_answer_says_so() -> None:
    counting, shop = Counting(), Workshop()
    async with shop.worker(counting.tool, echo):
        first = await shop.run("count", what="sheep", where="here")
        call = await shop.send(replace(shop.call("count", {}), input=Json('{"where": "here",  "what": "sheep"}')))
        reports = await shop.settled(call, "echo")
        other = await shop.run("count", what="sheep", where="there")
        counted = shop.telemetry.exposition().decode()
    assert (first.output, first.cached) == ("1", False)
    (second,) = reports  # it did not start
    assert isinstance(second, ReportResult)
    assert (second.status, second.output, second.cached) == ("ok", "1", True)
    assert (other.output, other.cached) == ("2", False)
    assert 'playhead_tool_cache_hits_total{pool="default",tool="count"} 1.0' in counted


async def test_what_one_tenant_asked_is_not_told_to_another() -> None:
    counting, shop = Counting(), Workshop()
    async with shop.worker(counting.tool):
        outputs = list[str]()
        for tenant in ("a", "b", "a"):
            outputs.append((await shop.result(await shop.send(shop.call("count", {}, tenant=tenant)))).output)
    assert outputs == ["1", "2", "1"]


async def test_a_result_that_is_too_old_is_not_given_again() -> None:
    counting, shop = Counting(cache=0.001), Workshop()
    async with shop.worker(counting.tool):
        await shop.run("count")
        await asyncio.sleep(0.002)  # its age
        assert (await shop.run("count")).cached is False


async def test_failures_and_streams_are_not_kept() -> None:
    runs = list[str]()

    @tool(cache=60)
    async def fickle(how: str, ctx: ToolContext) -> str:
        """Fail, or stream."""
        runs.append(how)
        if how == "fail":
            raise ConnectionError("no")
        await ctx.emit("a part")
        return how

    shop = Workshop()
    async with shop.worker(fickle):
        for how in ("fail", "fail", "stream", "stream"):
            assert (await shop.run("fickle", how=how)).cached is False
    assert runs == ["fail", "fail", "stream", "stream"]


async def test_a_result_in_one_sessions_archive_is_not_given_to_another() -> None:
    runs = list[int]()

    @tool(cache=60)
    async def large() -> str:
        """Say much."""
        runs.append(1)
        return "x" * 2_000

    shop = Workshop(archive=MemoryArchive())
    async with shop.worker(large, limits=replace(QUICK, result_bytes_max=1_000)):
        for _ in range(2):
            result = await shop.run("large")
            assert json.loads(result.output)["type"] == "reference"
            assert result.cached is False
    assert len(runs) == 2


async def test_what_came_of_one_users_answer_is_not_told_to_the_next() -> None:
    @tool(cache=60)
    async def which(ctx: ToolContext) -> object:
        """Ask which."""
        return Question("which one?") if ctx.answer is None else f"you said {ctx.answer.content}"

    shop = Workshop()
    async with shop.worker(which, echo):
        for said in ("this", "that"):
            call = await shop.ask("which")
            await shop.reports(call, lambda seen: "ReportQuestion" in kinds(seen))
            await shop.send(replace(call, answer=Json(json.dumps({"content": said, "state": None}))))
            assert (await shop.result(call)).output == f'"you said {said}"'


# --- resources ---


async def test_what_the_lifespan_yields_is_there_from_before_the_first_call_until_after_the_last() -> None:
    told, entered, release = list[str](), asyncio.Event(), asyncio.Event()

    @lifespan()
    async def connections() -> AsyncGenerator[dict[str, int]]:
        told.append("opened")
        yield {"connections": 0}
        told.append("closed")

    @tool
    async def use(ctx: ToolContext) -> int:
        """Use what is shared."""
        ctx.resources["connections"] += 1
        return ctx.resources["connections"]

    @tool
    async def slow() -> None:
        """End after the worker was told to stop."""
        entered.set()
        await release.wait()
        told.append("the last call")

    shop = Workshop()
    async with shop.worker(use, slow, lifespan=connections):
        assert told == ["opened"]
        assert [(await shop.run("use")).output for _ in range(2)] == ["1", "2"]
        await shop.ask("slow")
        await within(entered.wait())
        asyncio.get_running_loop().call_later(0.05, release.set)
    assert told == ["opened", "the last call", "closed"]


async def test_a_lifespan_that_fails_keeps_the_worker_from_taking_calls_and_says_why() -> None:
    @lifespan()
    async def connections() -> AsyncGenerator[None]:
        raise ConnectionRefusedError("no database at all")
        yield

    shop = Workshop()
    worker = Worker(shop.parts(), [echo], "default", limits=QUICK, lifespan=connections)
    with pytest.raises(Misconfigured, match=r"lifespan of pool default failed.*ConnectionRefusedError: no database"):
        await within(worker.serve(asyncio.Event()))


# --- the offer ---


async def test_tools_that_change_are_announced_and_those_that_are_gone_are_withdrawn() -> None:
    def version(text: str, *, name: str = "changing") -> Tool[..., object]:
        async def changing() -> str:
            return text

        return tool(name=name, description=f"Say {text}.")(changing)

    shop = Workshop()
    leaving, staying = version("bye", name="leaving"), version("here", name="staying")
    async with shop.worker(version("one"), leaving, staying) as worker:
        before = await _catalog(shop, 3)
        assert (await shop.run("changing")).output == '"one"'
        await worker.offer([version("two"), staying, version("hello", name="arriving")])
        after = await _catalog(shop, 4)
        assert (await shop.run("changing")).output == '"two"'
        assert (await shop.run("arriving")).output == '"hello"'
        gone = await shop.run("leaving")
        assert json.loads(gone.output)["type"] == "UnknownTool"
    assert {name for name, one in after.items() if one.withdrawn} == {"leaving"}
    assert after["changing"].description == "Say two."
    assert after["staying"] == before["staying"], "it is not said again"


async def _catalog(shop: Workshop, count: int) -> dict[str, AnnounceTool]:
    read = await shop.read(shop.topics.catalog.name, lambda seen: len({getattr(o, "name", "") for o in seen}) >= count)
    return {one.name: one for one in read if isinstance(one, AnnounceTool)}


async def test_a_call_that_runs_goes_on_when_its_tool_is_withdrawn() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    @tool
    async def leaving() -> str:
        """Take a while."""
        entered.set()
        await release.wait()
        return "done"

    shop = Workshop()
    async with shop.worker(leaving, echo) as worker:
        call = await shop.ask("leaving")
        await within(entered.wait())
        await worker.offer([echo])
        release.set()
        assert (await shop.result(call)).status == "ok"
