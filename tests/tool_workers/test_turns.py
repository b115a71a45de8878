"""One call at a time for each key, in the order in which they came."""

from __future__ import annotations

import asyncio
import random

import pytest
from playhead_tool_workers.turns import Ticket, Turns

WAIT_SECONDS = 5


async def test_turns_are_taken_in_the_order_of_joining_not_of_waiting():
    turns, order = Turns(), list[int]()
    tickets = [turns.join("key") for _ in range(5)]

    async def take(number: int) -> None:
        await tickets[number].wait()
        order.append(number)
        tickets[number].leave()

    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        for number in reversed(range(5)):
            group.create_task(take(number))
    assert order == [0, 1, 2, 3, 4]
    assert len(turns) == 0


async def test_keys_do_not_wait_for_each_other():
    turns = Turns()
    turns.join("a")
    async with asyncio.timeout(WAIT_SECONDS), turns.taken("b"):
        assert len(turns) == 2
    assert len(turns) == 1


async def test_a_ticket_that_leaves_the_middle_of_the_line_is_passed_over_and_may_leave_twice():
    turns = Turns()
    first, second, third = (turns.join("key") for _ in range(3))
    second.leave()
    second.leave()
    assert not third.called.is_set()
    first.leave()
    async with asyncio.timeout(WAIT_SECONDS):
        await third.wait()
    # It has left already, and takes nobody's turn with it.
    first.leave()
    fourth = turns.join("key")
    assert not fourth.called.is_set()
    third.leave()
    fourth.leave()
    assert len(turns) == 0


async def test_who_left_has_no_turn():
    turns = Turns()
    turns.join("key")
    ticket = turns.join("key")
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        waiting = group.create_task(fails(ticket))
        await asyncio.sleep(0)
        ticket.leave()
    assert waiting.done()
    await fails(ticket)


async def fails(ticket: Ticket) -> None:
    with pytest.raises(RuntimeError, match="left"):
        await ticket.wait()


async def test_a_cancelled_wait_leaves_the_line_to_the_others():
    turns = Turns()
    first = turns.join("key")

    async def take() -> None:
        async with turns.taken("key"):
            raise AssertionError("it has no turn")

    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        waiting = group.create_task(take())
        await asyncio.sleep(0)
        last = turns.join("key")
        waiting.cancel()
        await asyncio.wait({waiting})
        first.leave()
        await last.wait()
        last.leave()
    assert len(turns) == 0


async def test_cancelled_in_the_moment_of_its_turn_the_turn_goes_on():
    turns = Turns()
    first = turns.join("key")

    async def take() -> None:
        async with turns.taken("key"):
            await asyncio.sleep(0)

    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        waiting, next_ = group.create_task(take()), group.create_task(take())
        await asyncio.sleep(0)
        first.leave()
        waiting.cancel()
        await next_
    assert len(turns) == 0


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_cancelled_no_two_have_the_turn_and_all_come_in_order(seed: int):
    chance, turns = random.Random(seed), Turns()
    having, had = dict[str, int](), dict[str, list[int]]()

    async def take(key: str, number: int) -> None:
        async with turns.taken(key):
            assert key not in having
            having[key] = number
            had.setdefault(key, []).append(number)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                del having[key]

    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        for number in range(100):
            tasks.append(group.create_task(take(chance.choice("abc"), number)))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
    assert all(numbers == sorted(numbers) for numbers in had.values())
    assert len(turns) == 0
