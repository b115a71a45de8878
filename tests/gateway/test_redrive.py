"""Calls that are run again from their dead letters: gateway, orchestrator and worker, on the memory adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from playhead import Agent, ToolContext, tool
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.commands import DeadLetter
from playhead.events import Stamped, ToolResult, ToolResultLate
from playhead.ids import SessionId
from playhead.queue import Message
from playhead.tools import Tool
from playhead_orchestrator.service import Orchestrator

from tests.gateway.support import NOW, World, client_of, until_ready
from tests.orchestrator.stage import Actor, Stage, answer, names, only
from tests.tool_workers.workshop import Workshop

PATIENCE_SECONDS = 20.0
URL = "/v1/deadletters"


class Deployment:
    """All three services over one queue and one log; workers come and go."""

    def __init__(self, client: httpx2.AsyncClient, stage: Stage, orchestrator: Orchestrator) -> None:
        self.client = client
        self.stage = stage
        self.orchestrator = orchestrator
        self.shop = Workshop(stage.queue, partitions=stage.topics.pool_partitions)

    async def announce(self, *tools: Tool[..., Any]) -> None:
        """Let everybody know of tools, by a worker that is gone again."""
        async with self.shop.worker(*tools):
            pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            for one in tools:
                while (await self.client.get(f"/v1/tools/{one.name}")).status_code == 404:  # noqa: ASYNC110
                    await asyncio.sleep(0)

    async def call(self, name: str) -> SessionId:
        """Call a tool by hand, in a session of its own."""
        called = await self.client.post(f"/v1/tools/{name}/calls", json={})
        assert called.status_code == 202, called.text
        return SessionId(called.json()["id"])

    async def letter(self) -> dict[str, Any]:
        """Wait for the one letter that there is."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (letters := (await self.client.get(URL)).json()["letters"]):  # noqa: ASYNC110
                await asyncio.sleep(0)
        (letter,) = letters
        return letter

    async def retry(self, letter: dict[str, Any]) -> None:
        answered = await self.client.post(f"{URL}/{letter['id']}/retry")
        assert answered.status_code == 202, answered.text


@asynccontextmanager
async def deployment() -> AsyncGenerator[Deployment]:
    agent = Agent("support", model="stage:x", instructions="", tools=[])
    stage = Stage(Actor([answer("hello")]), [agent])
    assert isinstance(stage.log, MemorySessionLog)
    assert isinstance(stage.queue, MemoryQueue)
    async with stage.orchestrator() as orchestrator, client_of(World(stage.log, stage.queue).parts()) as client:
        await until_ready(client)
        yield Deployment(client, stage, orchestrator)


async def set_aside(play: Deployment, error: str) -> None:
    """Do as a worker does that cannot handle the call which it is given."""
    queue, codec, topics = play.stage.queue, play.stage.codec, play.stage.topics
    topic = topics.tools("default").name
    async with asyncio.timeout(PATIENCE_SECONDS), queue.join(topic, topic) as member:
        while True:
            match await member.receive():
                case (Message() as message, *_):
                    place = (message.topic, message.partition, message.offset, message.key)
                    letter = DeadLetter(*place, message.value, error, NOW)
                    await queue.publish(topics.deadletter.name, message.topic, codec.encode(letter))
                    member.acknowledge(message)
                    return
                case _:
                    pass


def late(events: Sequence[Stamped]) -> list[tuple[str, str]]:
    found = [one.event for one in only(events, ToolResultLate)]
    return [(one.status, one.output) for one in found if isinstance(one, ToolResultLate)]


def results(events: Sequence[Stamped]) -> list[tuple[str, str]]:
    found = [one.event for one in only(events, ToolResult)]
    return [(one.status, one.output) for one in found if isinstance(one, ToolResult)]


async def test_a_call_that_failed_and_is_run_again_brings_a_late_result_to_its_session() -> None:
    """protocol:P73 protocol:P79"""
    keys = list[str]()

    @tool(effect="write")
    async def mended(ctx: ToolContext) -> str:
        """Work the second time."""
        keys.append(ctx.idempotency_key)
        if len(keys) == 1:
            raise ConnectionError("down")
        return "up"

    async with deployment() as play:
        await play.announce(mended)
        async with play.shop.worker(mended):
            session = await play.call("mended")
            before = await play.stage.until(session, "run_failed")
            letter = await play.letter()
            await play.retry(letter)
            after = await play.stage.until(session, "run_failed", "tool_result_late")
    assert (letter["session"], letter["tool"], letter["error"]) == (session, "mended", "ConnectionError: down")
    assert [status for status, _ in results(before)] == ["error"]
    assert results(after) == results(before)
    assert late(after) == [("ok", '"up"')]
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_a_call_that_fails_again_is_a_letter_again_and_can_be_run_a_third_time() -> None:
    """protocol:P79"""
    runs = list[int]()

    @tool
    async def stubborn() -> str:
        """Work the third time."""
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError("down")
        return "up"

    async with deployment() as play:
        await play.announce(stubborn)
        async with play.shop.worker(stubborn):
            session = await play.call("stubborn")
            await play.retry(await play.letter())
            await play.stage.until(session, "run_failed", "tool_result_late")
            await play.shop.letters(2)
            newest = (await play.client.get(URL, params={"state": "new"})).json()["letters"]
            await play.retry(newest[0])
            events = await play.stage.until(session, "tool_result_late", "tool_result_late")
    assert len(newest) == 1
    assert [status for status, _ in late(events)] == ["error", "ok"]


async def test_a_call_that_is_run_again_while_its_session_waits_for_it_goes_on() -> None:
    """protocol:P79"""

    @tool
    async def weather() -> str:
        """Tell the sky."""
        return "clear"

    async with deployment() as play:
        await play.announce(weather)
        session = await play.call("weather")
        await set_aside(play, "no worker here can read this")
        assert (await play.client.get(f"/v1/sessions/{session}")).json()["status"] == "running"
        await play.retry(await play.letter())
        async with play.shop.worker(weather):
            events = await play.stage.until(session, "tool_result", "run_completed")
    assert results(events) == [("ok", '"clear"')]
    assert "tool_result_late" not in names(events)


async def test_what_was_too_large_to_be_kept_whole_is_known_as_that_whoever_set_it_aside() -> None:
    """protocol:P78"""

    @tool
    async def idle() -> None:
        """Do nothing."""

    async with deployment() as play, play.shop.worker(idle):
        for topic in (play.stage.topics.requests.name, play.stage.topics.tools("default").name):
            await play.stage.queue.publish(topic, "key", bytes(900_000))
        await play.shop.letters(2)
        found = (await play.client.get(URL)).json()["letters"]
    assert {one["topic"] for one in found} == {"agent.requests", "agent.tools.default"}
    assert [one["obstacle"] for one in found] == ["it was too large to be kept whole"] * 2
    assert [one["bytes"] for one in found] == [800_000] * 2
