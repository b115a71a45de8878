"""Clocks that are wrong: what people are told of the time may be too, but nothing waits for it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from playhead import Agent
from playhead_orchestrator.model import ModelFailed, ModelRequest, Said
from playhead_orchestrator.parts import OrchestratorParts

from tests.orchestrator.stage import Actor, Stage, answer, names

DAY = 86_400_000_000
BUSY = ModelFailed("overloaded", "try later", retryable=True, retry_after_seconds=1.0)


@dataclass
class Clock:
    """A clock that can be set. Microseconds."""

    skew: int = 0

    def __call__(self) -> int:
        return time.time_ns() // 1000 + self.skew


@dataclass
class Machine(Stage):
    """A stage whose orchestrators read that clock."""

    actor: Actor
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        super().__init__(self.actor, [Agent("helper", "stage:any")])

    def parts(self, owner: str) -> OrchestratorParts:
        return replace(super().parts(owner), clock=self.clock)


async def breaks(_: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
    raise BUSY
    yield ()


async def test_a_clock_that_is_set_back_while_a_retry_is_waited_for_does_not_make_it_wait_longer() -> None:
    machine = Machine(Actor([breaks, answer("hello")]))
    async with machine.orchestrator():
        session = await machine.start("hi")
        await machine.until(session, "model_call_failed")
        machine.clock.skew -= DAY
        assert names(await machine.until(session, "run_completed"))[-1] == "run_completed"


async def test_an_owner_whose_clock_is_behind_that_of_the_owner_before_it_waits_no_longer_than_was_meant() -> None:
    machine = Machine(Actor([breaks, answer("hello")]), Clock(DAY))
    async with machine.orchestrator("ahead"):
        session = await machine.start("hi")
        await machine.until(session, "model_call_failed")
    machine.clock.skew = 0
    async with machine.orchestrator("behind"):
        events = await machine.until(session, "run_completed")
    assert events[-1].stamp.epoch == 2
