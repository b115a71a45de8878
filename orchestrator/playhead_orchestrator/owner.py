"""One session's owner: takes inputs in order, makes their facts accepted, and then does what is pending.

The core decides, this appends. Nothing outside the log is done before the event that says so is known to be accepted,
and an owner that is superseded forgets the session at once. There is no recovery path: a new owner folds the log,
appends that it took over, and does what is pending, which is what every owner does after every append.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import orjson
from playhead.accept import Head, Record, genesis
from playhead.codec import RECORD_BYTES_MAX, Context
from playhead.commands import (
    CancelRun,
    CloseSession,
    ListSession,
    Report,
    ReportChunk,
    ReportProgress,
    ReportResult,
    ReportRetry,
    ReportStarted,
    Request,
    Say,
    StartSession,
)
from playhead.errors import Superseded, Undecodable
from playhead.events import (
    Event,
    Failure,
    Json,
    ModelCallStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    TextDelta,
    wire_name,
)
from playhead.log import APPEND_RECORDS_MAX
from playhead.queue import Message
from playhead.session import (
    Answered,
    Asked,
    Broke,
    Input,
    Reported,
    Session,
    Spoke,
    TakeOver,
    apply,
    decide,
    empty,
    fold,
    pending,
)
from playhead.telemetry import logger

from playhead_orchestrator.acting import Acts, Setting

__all__ = ["BATCH_MAX", "PIECES_WAITING_MAX", "Item", "SessionOwner"]

BATCH_MAX = 256
"""The most inputs that are answered by one append."""

PIECES_WAITING_MAX = 1024
"""How many of the model's pieces may wait for the log before the model's stream is read no further."""

log = logger(__name__)

Told = ReportStarted | ReportProgress | ReportChunk | ReportRetry | ReportResult
"""The reports that may become facts: all but heartbeats."""

Plan = list[tuple[tuple[Event, ...], str | None, str | None]]
"""What each input led to, with its cause and trace."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something for the owner to deal with, and the queue messages that are done with when it has.

    `None` asks for nothing but to look at the session: it was found to have work open.
    """

    given: Input | Request | Told | None
    message: Message | None = None


class SessionOwner:
    """Owns one session for as long as `run` runs."""

    def __init__(self, setting: Setting, acknowledge: Callable[[Sequence[Message]], None], *, fresh: bool) -> None:
        self._setting = setting
        self._parts = setting.parts
        self._acknowledge = acknowledge
        self._fresh = fresh
        self._mailbox: deque[Item] = deque()
        self._mail = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._pieces = 0
        self._state: Session | None = None
        self._head: Head = genesis(setting.session)
        self._said: list[str] = []
        self._listed: tuple[str, bool] | None = None
        self._acts: Acts | None = None
        self.busy_at = time.monotonic()
        self.was_fresh = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting and nothing is going on."""
        return not self._mailbox and self._state is not None and not pending(self._state)

    def abandon(self) -> list[Message]:
        """Give up all that waits; return the messages, which somebody must put somewhere safe."""
        messages = [item.message for item in self._mailbox if item.message is not None]
        self._mailbox.clear()
        return messages

    @property
    def waiting(self) -> int:
        """How many queue messages wait."""
        return sum(item.message is not None for item in self._mailbox)

    def put(self, item: Item) -> None:
        """Add an item. Never waits: who delivers bounds how many are under way."""
        self._mailbox.append(item)
        self._mail.set()

    def heard(self, report: Report) -> None:
        """Note that a worker is at a call."""
        if self._acts is not None:
            self._acts.heard(report.call_id)

    def look(self) -> None:
        """Look after calls that have fallen silent."""
        if self._acts is not None:
            self._acts.look(self._head)

    async def run(self) -> None:
        """Own the session until cancelled. Raises `Superseded`: what was not dealt with waits for the next `run`."""
        # What acts of an earlier life said is void; what came from the queue is not.
        self._mailbox = deque(item for item in self._mailbox if item.message is not None or item.given is None)
        self._pieces = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                acts = self._acts = Acts(self._setting, self._tell, tasks)
                try:
                    await self._work(acts)
                finally:
                    acts.close()
        except* Superseded as lost:
            raise lost.exceptions[0] from None
        finally:
            self._state = None
            self._acts = None
            self.was_fresh, self._fresh = self._fresh, False

    async def _work(self, acts: Acts) -> None:
        if not self._fresh:
            async with self._setting.loading:
                await self._load()
        while True:
            while not self._mailbox:
                self._mail.clear()
                await self._mail.wait()
            items = [self._mailbox.popleft() for _ in range(min(BATCH_MAX, len(self._mailbox)))]
            self.busy_at = time.monotonic()
            try:
                await self._advance(acts, items)
            except BaseException:
                # Nothing is lost with an owner: what it was dealing with is the next one's first.
                self._mailbox.extendleft(reversed(items))
                raise
            self._make_room(items)

    async def _load(self) -> None:
        state, head = empty(self._setting.session), genesis(self._setting.session)
        async with aclosing(self._parts.log.read(self._setting.session)) as pages:
            async for page in pages:
                for record in page.records:
                    try:
                        state = fold(state, self._parts.codec.event(record.value))
                    except Undecodable as error:
                        # In the chain, so part of the log, but a newer version's: what we do not know changes nothing.
                        log.warning("skipped an event", session=state.id, seq=record.seq, error=str(error))
                head = page.head
        self._state, self._head = state, head

    async def _advance(self, acts: Acts, items: Sequence[Item]) -> None:
        """Answer items: decide, append, and when that is accepted act."""
        state = self._state or empty(self._setting.session)
        now = self._parts.clock()
        plan: Plan = []
        if state.started and state.owner != self._parts.owner and (pending(state) or _wants_facts(items)):
            state = self._decide(state, TakeOver(self._parts.owner), now=now, plan=plan, item=None)
        for item in items:
            given = self._input(item)
            if given is not None:
                state = self._decide(state, given, now=now, plan=plan, item=item)
        await self._append(state.epoch, plan, now)
        self._fresh = False
        events = tuple(event for decided, _, _ in plan for event in decided)
        self._state = state
        acts.match(state, events)
        self._measure(events, state)
        await self._list(state)
        self._acknowledge([item.message for item in items if item.message is not None])

    def _decide(
        self,
        state: Session,
        given: Input,
        *,
        now: int,
        plan: Plan,
        item: Item | None,
    ) -> Session:
        events = self._fitting(state, given, decide(state, given, now), now)
        if not events:
            return state
        cause, trace = (None, None) if item is None else _cause_of(item.given)
        for event in events:
            state = apply(state, event, at=now, cause=cause)
            if isinstance(event, TextDelta):
                self._said.append(event.text)
            elif isinstance(event, ModelCallStarted):
                self._said.clear()
        plan.append((events, cause, trace))
        return state

    def _fitting(self, state: Session, given: Input, events: tuple[Event, ...], now: int) -> tuple[Event, ...]:
        """Turn an answer that no record can hold into a failure that one can."""
        if isinstance(given, Answered) and 2 * len(given.message) + len(given.text) > RECORD_BYTES_MAX:
            error = Failure("answer_too_large", f"the model's message has {len(given.message)} characters")
            return decide(state, Broke(given.run_id, given.step, given.attempt, error, retryable=False), now)
        return events

    def _input(self, item: Item) -> Input | None:
        match item.given:
            case StartSession() | Say() | CancelRun() | CloseSession() as request:
                said = "".join(self._said)
                blocks = Json(orjson.dumps([{"type": "text", "text": said}]).decode()) if said else None
                return Asked(request, self._parts.owner, self._setting.agents.snapshot(request), blocks)
            case ReportStarted() | ReportProgress() | ReportChunk() | ReportRetry() | ReportResult() as report:
                return Reported(report)
            case given:
                return given

    async def _append(self, epoch: int, plan: Plan, now: int) -> None:
        """Seal what was decided and append it, what one input led to never torn apart."""
        session, head, batch, size = self._setting.session, self._head, list[Record](), 0
        for events, cause, trace in plan:
            sealed = self._parts.codec.seal(head, events, Context(session, epoch, cause, now, trace))
            length = sum(len(record.value) for record in sealed)
            if batch and (len(batch) + len(sealed) > APPEND_RECORDS_MAX or size + length > RECORD_BYTES_MAX):
                await self._store(batch)
                batch, size = [], 0
            batch += sealed
            size += length
            head = Head(sealed[-1].seq, sealed[-1].hash, head.position + len(sealed))
        if batch:
            await self._store(batch)

    async def _store(self, batch: list[Record]) -> None:
        began = time.perf_counter()
        self._head = await self._parts.log.append(self._setting.session, self._head, batch)
        self._parts.telemetry.append_seconds.observe(time.perf_counter() - began)

    def _measure(self, events: tuple[Event, ...], state: Session) -> None:
        meter = self._parts.telemetry
        for kind, count in Counter(map(type, events)).items():
            meter.events_appended.labels(wire_name(kind)).inc(count)
            if kind in (RunCompleted, RunFailed, RunCancelled):
                meter.runs.labels(state.agent, wire_name(kind).removeprefix("run_")).inc(count)

    async def _list(self, state: Session) -> None:
        """Keep the directory's line true, before any input is acknowledged: so open work is never missed."""
        line = (state.status, bool(pending(state)))
        if not state.started or line == self._listed:
            return
        listing = ListSession(
            session=state.id,
            agent=state.agent or "",
            status=state.status,
            open=line[1],
            created_at=state.created_at,
            updated_at=state.updated_at,
            last_seq=self._head.seq,
            epoch=state.epoch,
            metadata=state.metadata,
        )
        await self._parts.queue.publish(self._parts.topics.sessions.name, state.id, self._parts.codec.encode(listing))
        self._listed = line

    async def _tell(self, given: Input) -> None:
        if isinstance(given, Spoke):
            while self._pieces > PIECES_WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            self._pieces += len(given.pieces)
        self.put(Item(given))

    def _make_room(self, items: Sequence[Item]) -> None:
        self._pieces -= sum(len(item.given.pieces) for item in items if isinstance(item.given, Spoke))
        self._room.set()


def _wants_facts(items: Sequence[Item]) -> bool:
    return any(item.given is not None for item in items)


def _cause_of(given: object) -> tuple[str | None, str | None]:
    """Give the id of the input (requests and reports have one) and the trace that it came with."""
    cause = getattr(given, "request_id", None) or getattr(given, "report_id", None)
    return cause, getattr(given, "trace", None)
