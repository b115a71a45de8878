"""Tries of a call: how many, how far apart, and what happens when they do not help: breakers and fallbacks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from playhead import ToolContext, ToolFailed, tool
from playhead.commands import AnnounceBreaker, Command, ReportResult, ReportRetry, RunTool
from playhead.options import Breaker
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.retry import Backoff

from tests.tool_workers.workshop import PATIENCE_SECONDS, QUICK, Workshop, claims, kinds


class Fixed(Workshop):
    """A workshop in which chance always falls the same way."""

    def __init__(self, byte: int) -> None:
        super().__init__()
        self._byte = byte

    def parts(self) -> WorkerParts:
        return replace(super().parts(), entropy=lambda: bytes([self._byte]) * 16)


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


@pytest.mark.parametrize(
    ("byte", "delays"), [(0, [10, 20, 40, 50]), (255, [20, 40, 80, 100])], ids=["shortest", "longest"]
)
async def test_the_waits_between_tries_double_up_to_a_limit_and_no_try_comes_before_its_time(
    byte: int, delays: list[int]
) -> None:
    began = list[float]()

    @tool(retries=4, timeout=0.001)
    async def broken() -> None:
        """Never work."""
        began.append(time.monotonic())
        await asyncio.Event().wait()

    shop = Fixed(byte)
    async with shop.worker(broken, echo, limits=replace(QUICK, retry=Backoff(0.02, 0.1))):
        call = await shop.ask("broken")
        reports = await shop.settled(call, "echo")
    retries = [one for one in reports if isinstance(one, ReportRetry)]
    assert [one.delay_ms for one in retries] == delays
    assert len(began) == 5, "the first, and as many as are allowed"
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert all(gap * 1_000 >= delay - 1 for gap, delay in zip(gaps, delays, strict=True))


async def test_only_errors_that_are_declared_to_be_worth_it_are_retried() -> None:
    tries = list[str]()

    @tool(retries=3, retry_on=(ConnectionError, TimeoutError))
    async def choosy(kind: str) -> str:
        """Fail in one way or another."""
        tries.append(kind)
        raise ConnectionResetError("lost") if kind == "connection" else ValueError("a bug")

    shop = Workshop()
    async with shop.worker(choosy):
        assert (await shop.run("choosy", kind="connection")).status == "error"
        assert (await shop.run("choosy", kind="value")).status == "error"
    assert tries == ["connection"] * 4 + ["value"]


async def test_an_error_that_is_not_retried_still_counts_against_the_tool_and_calls_for_its_fallback() -> None:
    @tool(retries=3, retry_on=ConnectionError, breaker=2, fallback="instead")
    async def buggy() -> str:
        """Fail otherwise."""
        raise KeyError("a bug")

    shop = Workshop()
    async with shop.worker(buggy):
        assert [(await shop.run("buggy")).status for _ in range(2)] == ["fallback", "fallback"]
        announced = await shop.read(
            shop.topics.catalog.name, lambda seen: any(isinstance(one, AnnounceBreaker) for one in seen)
        )
    assert isinstance(announced[-1], AnnounceBreaker)
    assert announced[-1].state == "open"


# --- the breaker ---


def _is(state: str) -> Callable[[Sequence[Command]], bool]:
    return lambda seen: any(isinstance(one, AnnounceBreaker) and one.state == state for one in seen)


async def _probe(shop: Workshop, fragile: Fragile) -> RunTool:
    """Call until a call is tried again: the probe. Give it while it runs."""
    while True:
        call = await shop.ask("fragile")
        async with asyncio.TaskGroup() as group:
            waiting = {group.create_task(shop.result(call)), group.create_task(fragile.entered.wait())}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_SECONDS)
            for task in waiting:
                task.cancel()
        if fragile.entered.is_set():
            return call


class Fragile:
    """A tool that fails until it is mended, behind a breaker."""

    def __init__(self, **options: object) -> None:
        self.runs = 0
        self.works = False
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

        @tool(**{"breaker": Breaker(2, 0.2), **options})  # pyright: ignore[reportArgumentType, reportCallIssue] - a test's shorthand
        async def fragile() -> str:
            """Fail while it is broken."""
            self.runs += 1
            self.entered.set()
            if self.hold is not None:
                await self.hold.wait()
            if not self.works:
                raise ConnectionError("down")
            return "up"

        self.tool = fragile

    async def open(self, shop: Workshop) -> None:
        """Fail until the breaker is open."""
        for _ in range(2):
            await shop.run("fragile")


async def test_an_open_breaker_refuses_calls_without_a_start_and_without_a_try() -> None:
    fragile, shop = Fragile(breaker=Breaker(2, 60)), Workshop()
    async with shop.worker(fragile.tool, echo):
        await fragile.open(shop)
        call = await shop.ask("fragile")
        reports = await shop.settled(call, "echo")
        counted = shop.telemetry.exposition().decode()
        told = await shop.read(shop.topics.catalog.name, lambda seen: "AnnounceBreaker" in kinds(seen))
    assert kinds(reports) == ["ReportResult"]
    assert isinstance(reports[0], ReportResult)
    assert reports[0].status == "error"
    assert json.loads(reports[0].output)["type"] == "CircuitOpen"
    assert fragile.runs == 2
    assert 'playhead_tool_breaker{pool="default",tool="fragile"} 2.0' in counted
    (said,) = [one for one in told if isinstance(one, AnnounceBreaker)]
    assert (said.pool, said.tool, said.worker, said.state) == ("default", "fragile", "first", "open")
    assert said.until - said.at == 60_000_000


async def test_one_probe_goes_when_the_time_is_over_and_closes_the_breaker_if_it_works() -> None:
    fragile, shop = Fragile(), Workshop()
    async with shop.worker(fragile.tool, echo):
        await fragile.open(shop)
        fragile.works, fragile.hold = True, asyncio.Event()
        fragile.entered.clear()

        probe = await _probe(shop, fragile)
        refused = await shop.run("fragile")
        assert json.loads(refused.output)["type"] == "CircuitOpen", "one is on its way, and others wait for its end"
        assert fragile.runs == 3
        await shop.read(shop.topics.catalog.name, _is("half_open"))
        assert 'playhead_tool_breaker{pool="default",tool="fragile"} 1.0' in shop.telemetry.exposition().decode()
        fragile.hold.set()
        assert (await shop.result(probe)).status == "ok"
        assert (await shop.run("fragile")).status == "ok"
        await shop.read(shop.topics.catalog.name, _is("closed"))
        assert 'playhead_tool_breaker{pool="default",tool="fragile"} 0.0' in shop.telemetry.exposition().decode()


async def test_a_probe_that_fails_opens_the_breaker_again() -> None:
    fragile, shop = Fragile(), Workshop()
    async with shop.worker(fragile.tool):
        await fragile.open(shop)
        fragile.entered.clear()
        await shop.result(await _probe(shop, fragile))
        refused = await shop.run("fragile")
    assert json.loads(refused.output)["type"] == "CircuitOpen"
    assert fragile.runs == 3


async def test_a_once_call_is_not_refused_either_without_its_owners_grant() -> None:
    fragile = Fragile(effect="once", breaker=Breaker(1, 60))
    shop = Workshop()
    async with shop.worker(fragile.tool):
        for _ in range(2):
            call = await shop.send(shop.call("fragile", {}, "once"))
            asked = await shop.asked(call)
            assert not any(isinstance(one, ReportResult) for one in await shop.reports(call, bool))
            await shop.grant(call, asked.report_id)
            assert (await shop.result(call)).status == "error"
    assert fragile.runs == 1


async def test_an_open_breaker_is_seen_before_any_waiting() -> None:
    """Neither the tool's slots nor its rate: those may be what is stuck."""
    fragile, shop = Fragile(breaker=Breaker(2, 60), rate_limit="2/h", concurrency=1), Workshop()
    async with shop.worker(fragile.tool):
        await fragile.open(shop)
        assert json.loads((await shop.run("fragile")).output)["type"] == "CircuitOpen"


# --- fallbacks ---


async def test_a_value_stands_in_for_a_tool_that_does_not_work_and_nobody_is_left_a_letter() -> None:
    fragile, shop = Fragile(fallback={"rate": 1.1}, retries=1), Workshop()
    async with shop.worker(fragile.tool, echo):
        result = await shop.run("fragile")
        assert (result.status, json.loads(result.output)) == ("fallback", {"rate": 1.1})
        assert fragile.runs == 2
        assert "playhead_dead_letters_total{" not in shop.telemetry.exposition().decode()


async def test_a_function_stands_in_with_those_arguments_that_it_takes() -> None:
    seen = list[tuple[str, str]]()

    async def approximately(city: str, ctx: ToolContext) -> str:
        seen.append((city, ctx.idempotency_key))
        return f"mild, as ever, in {city}"

    @tool(fallback=approximately)
    async def weather(city: str, day: int) -> str:
        """Tell the weather."""
        raise ConnectionError("the service is down")

    shop = Workshop()
    async with shop.worker(weather):
        call = await shop.ask("weather", city="Bergen", day=1)
        result = await shop.result(call)
    assert (result.status, result.output) == ("fallback", '"mild, as ever, in Bergen"')
    assert seen == [("Bergen", call.idempotency_key)]


async def test_another_tool_stands_in() -> None:
    @tool
    def slow_but_sure(text: str = "") -> str:
        """Do it by hand."""
        return text.upper()

    @tool(fallback=slow_but_sure)
    async def fast(text: str = "") -> str:
        """Do it by machine."""
        raise ConnectionError("out of order")

    shop = Workshop()
    async with shop.worker(fast):
        result = await shop.run("fast", text="hi")
    assert (result.status, result.output) == ("fallback", '"HI"')


async def test_when_what_stands_in_fails_too_the_tools_own_failure_is_told() -> None:
    def worse(text: str = "") -> str:
        raise ValueError("worse")

    @tool(fallback=worse)
    async def bad(text: str = "") -> str:
        """Fail."""
        raise ConnectionError("bad")

    shop = Workshop()
    async with shop.worker(bad):
        result = await shop.run("bad")
        (letter,) = await shop.letters(1)
    assert result.status == "error"
    assert json.loads(result.output) == {"type": "ConnectionError", "message": "bad"}
    assert letter.error == "ConnectionError: bad"


async def test_nothing_stands_in_for_a_tool_that_answered_that_it_cannot_be_done() -> None:
    @tool(fallback="instead")
    async def final() -> str:
        """Answer."""
        raise ToolFailed("there is no such order")

    shop = Workshop()
    async with shop.worker(final):
        assert (await shop.run("final")).status == "error"


async def test_while_the_breaker_is_open_the_fallback_answers_and_a_function_is_watched_as_a_running_call_is() -> None:
    release = asyncio.Event()

    async def standing_in() -> str:
        await release.wait()
        return "instead"

    fragile, shop = Fragile(breaker=Breaker(2, 60), fallback=standing_in, concurrency=1), Workshop()
    release.set()
    async with shop.worker(fragile.tool):
        await fragile.open(shop)
        release.clear()
        call = await shop.ask("fragile")
        reports = await shop.reports(call, lambda seen: kinds(seen).count("Heartbeat") >= 2)
        release.set()
        assert (await shop.result(call)).status == "fallback"
    assert kinds(reports)[0] == "ReportStarted"
    assert not claims(reports)
    assert fragile.runs == 2
