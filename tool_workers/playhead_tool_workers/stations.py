"""What a worker has for each of its tools while it runs: slots, breaker, rate, secrets. Made from declarations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from playhead.commands import AnnounceBreaker
from playhead.secrets import SecretValues, resolve
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_tool_workers.breaker import Admitted, CircuitBreaker, Refused
from playhead_tool_workers.parts import WorkerParts
from playhead_tool_workers.rates import Rates

__all__ = ["BreakerWatch", "Station", "station"]

log = logger(__name__)

RATE_SLACK_SECONDS = 0.05
"""How much later than its moment a call may start: clocks and loops are no more exact."""

LEVELS = {"closed": 0, "half_open": 1, "open": 2}
"""The states of a breaker as numbers, for the metric."""


@dataclass(slots=True, eq=False)
class Station:
    """One tool's place in a worker."""

    tool: Tool[..., object]
    slots: asyncio.Semaphore
    secrets: SecretValues
    rates: Rates | None
    breaker: BreakerWatch | None

    @asynccontextmanager
    async def held(
        self, slots: asyncio.Semaphore, tenant: str, share: Callable[[], float]
    ) -> AsyncGenerator[None, None]:
        """Wait for a slot of the tool, for its rate, and for one of the worker's `slots`.

        The tool's own come first: a call that waits for those keeps no other tool from running.
        """
        async with self.slots:
            await self._enter(slots, tenant, share)
            try:
                yield
            finally:
                slots.release()

    def refusal(self) -> Refused | None:
        """Tell whether the breaker keeps calls from being tried, so that they need not wait for that."""
        return None if self.breaker is None else self.breaker.refusal()

    async def _enter(self, slots: asyncio.Semaphore, tenant: str, share: Callable[[], float]) -> None:
        if self.rates is None:
            await slots.acquire()
            return
        reservation = self.rates.reserve(tenant, time.monotonic(), share())
        try:
            while True:
                await asyncio.sleep(reservation.delay_seconds)
                await slots.acquire()
                now = time.monotonic()
                if now - reservation.starts_at <= RATE_SLACK_SECONDS:
                    return
                # Its moment passed while it waited for a slot. Those that did would all start together now.
                self.rates.give_back(reservation)
                reservation = self.rates.reserve(tenant, now, share())
                if reservation.delay_seconds <= 0:
                    return
                slots.release()
        except asyncio.CancelledError:
            self.rates.give_back(reservation)
            raise


def station(tool: Tool[..., object], parts: WorkerParts, announce: Announce, worker: str) -> Station:
    """Prepare a tool for work. Raises `Misconfigured` if a secret of it is not there."""
    secrets = resolve(tool.secrets, parts.environment)
    parts.redactor.register(secrets)
    rates = None if tool.rate_limit is None else Rates(tool.rate_limit)
    watch = None
    if tool.breaker is not None:
        breaker = CircuitBreaker(tool.breaker, probe_seconds=tool.timeout_seconds + PROBE_MARGIN_SECONDS)
        watch = BreakerWatch(parts, tool, worker, breaker, announce)
    return Station(tool, asyncio.Semaphore(tool.concurrency), secrets, rates, watch)


PROBE_MARGIN_SECONDS = 60.0
"""How much longer than a try a probe may take, with all that it waits for, before another goes."""

Announce = Callable[[AnnounceBreaker], None]
"""Has a change published, soon."""


@dataclass(slots=True, eq=False)
class BreakerWatch:
    """A breaker whose changes are seen: in the log, in a metric, and in the catalogue."""

    parts: WorkerParts
    tool: Tool[..., object]
    worker: str
    breaker: CircuitBreaker
    announce: Announce
    seen: Literal["closed", "open", "half_open"] = field(default="closed", init=False)

    def admit(self) -> Admitted | Refused:
        """Ask whether a try may go."""
        now = time.monotonic()
        admission = self.breaker.admit(now)
        if isinstance(admission, Admitted) and admission.probe:
            self._show(now)
        return admission

    def refusal(self) -> Refused | None:
        """Tell whether it is open. A probe may still be refused by `admit`."""
        seconds = self.breaker.opens_in(time.monotonic())
        return None if seconds is None else Refused(seconds)

    def settle(self, admitted: Admitted, verdict: Literal["succeeded", "failed", "withdrawn"]) -> None:
        """Say how a try went, and tell of the change if that made one."""
        now = time.monotonic()
        match verdict:
            case "succeeded":
                self.breaker.succeeded(admitted)
            case "failed":
                self.breaker.failed(admitted, now)
            case "withdrawn":
                self.breaker.withdrawn(admitted)
        self._show(now)

    def _show(self, now: float) -> None:
        state = self.breaker.state(now)
        if state == self.seen:
            return
        self.seen = state
        pool, name = self.tool.pool, self.tool.name
        self.parts.telemetry.tool_breaker.labels(pool, name).set(LEVELS[state])
        log.warning("a circuit breaker changed", pool=pool, tool=name, state=state)
        at = self.parts.clock()
        seconds = 0.0 if self.tool.breaker is None or state != "open" else self.tool.breaker.seconds
        until = at + round(seconds * 1_000_000)
        self.announce(AnnounceBreaker(pool, name, self.worker, state, until, at))
