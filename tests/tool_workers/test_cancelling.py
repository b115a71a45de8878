"""A worker that is cancelled ends, whatever fails at that moment.

A task group that fails when it is cancelled tells only of the failure, before Python 3.13.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playhead import tool
from playhead.adapters.memory import MemoryQueue
from playhead.errors import Unavailable
from playhead.queue import Delivery, Member, Message
from playhead_tool_workers.service import Worker

from tests.tool_workers.test_delivery import Gate
from tests.tool_workers.workshop import QUICK, Workshop, within


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


class SpitefulQueue(MemoryQueue):
    """A queue that fails at the moment at which who waits for it is cancelled; or who leaves it, `at_the_door`."""

    def __init__(self, *, at_the_door: bool = False) -> None:
        super().__init__()
        self.at_the_door = at_the_door

    @asynccontextmanager
    async def join(self, group: str, *topics: str) -> AsyncGenerator[Member]:
        async with super().join(group, *topics) as member:
            try:
                yield _SpitefulMember(member)
            except asyncio.CancelledError:
                if self.at_the_door:
                    raise Unavailable("the connection was lost while leaving") from None
                raise


class _SpitefulMember:
    def __init__(self, member: Member) -> None:
        self._member = member

    async def receive(self) -> Delivery:
        try:
            return await self._member.receive()
        except asyncio.CancelledError:
            raise Unavailable("the connection was lost just now") from None

    def acknowledge(self, *messages: Message) -> None:
        self._member.acknowledge(*messages)


@pytest.mark.parametrize("at_the_door", [False, True])
async def test_a_worker_whose_queue_is_lost_just_when_it_is_cancelled_does_not_join_again(at_the_door: bool) -> None:
    gate, shop = Gate(), Workshop(SpitefulQueue(at_the_door=at_the_door))
    worker = Worker(shop.parts(), [gate.tool], "default", limits=QUICK)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(asyncio.Event()))
        await within(worker.ready.wait())
        await shop.ask("gate")
        await gate.until(1)
        serving.cancel()
        await within(asyncio.wait({serving}))
    assert serving.cancelled()
    assert not worker.ready.is_set()


async def test_a_queue_that_is_lost_just_when_the_worker_is_told_to_stop_does_not_keep_it() -> None:
    shop, stop = Workshop(SpitefulQueue()), asyncio.Event()
    worker = Worker(shop.parts(), [echo], "default", limits=QUICK)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve(stop))
        await within(worker.ready.wait())
        assert (await shop.run("echo")).status == "ok"
        stop.set()
        await within(serving)
