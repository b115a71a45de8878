"""One session's owner: takes inputs in order, makes their facts accepted, and then does what is pending.

The core decides, this appends. Nothing outside the log is done before the event that says so is known to be accepted,
and an owner that is superseded forgets the session at once. There is no recovery path: a new owner folds the log,
appends that it took over, and does what is pending, which is what every owner does after every append.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson
from playhead.accept import Head, genesis
from playhead.commands import (
    AnswerQuestion,
    CallTool,
    CancelRun,
    CloseSession,
    Heartbeat,
    ReportChunk,
    ReportPending,
    ReportProgress,
    ReportQuestion,
    ReportResult,
    ReportRetry,
    ReportStarted,
    Request,
    Say,
    StartSession,
)
from playhead.errors import Superseded, TooLarge, Unavailable
from playhead.events import (
    Event,
    Json,
    ModelCallStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    TextDelta,
    wire_name,
)
from playhead.ids import call_id
from playhead.queue import Message
from playhead.session import Asked, Input, Reported, Session, Spoke, TakeOver, empty, pending
from playhead.telemetry import logger

from playhead_orchestrator.acting import Acts, Setting
from playhead_orchestrator.draft import Draft
from playhead_orchestrator.listing import Listing
from playhead_orchestrator.reading import confirm, load
from playhead_orchestrator.speaking import plan_by_hand

__all__ = ["BATCH_MAX", "PIECES_WAITING_MAX", "Item", "SessionOwner", "SetAside"]

BATCH_MAX = 256
"""The most inputs that are answered by one append."""

PIECES_WAITING_MAX = 1024
"""How many of the model's pieces may wait for the log before the model's stream is read no further."""

log = logger(__name__)

Told = ReportStarted | ReportProgress | ReportChunk | ReportRetry | ReportResult | ReportPending | ReportQuestion
"""The reports that may become facts: all but heartbeats."""

SetAside = Callable[[Message, str], Coroutine[None, None, None]]
"""Puts a message that cannot be handled, and why, where operators find it."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something for the owner to deal with, and the queue message that is done with when it has."""

    given: Input | Request | Told
    message: Message | None = None


class SessionOwner:
    """Owns one session for as long as `run` runs."""

    def __init__(
        self,
        setting: Setting,
        acknowledge: Callable[[Sequence[Message]], None],
        set_aside: SetAside,
        *,
        fresh: bool,
    ) -> None:
        self._setting = setting
        self._parts = setting.parts
        self._acknowledge = acknowledge
        self._set_aside = set_aside
        self._fresh = fresh
        self._mailbox: deque[Item] = deque()
        self._mail = asyncio.Event()
        self._room = asyncio.Event()
        self._pieces = 0
        self._state: Session | None = None
        self._head: Head = genesis(setting.session)
        self._inherited = False
        self._in_doubt = False
        self._said: list[str] = []
        self._listing = Listing(setting.parts)
        self._acts: Acts | None = None
        self.busy_at = time.monotonic()
        self.was_fresh = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting or being dealt with, and nothing is going on."""
        return not self._mailbox and self._state is not None and not pending(self._state)

    @property
    def is_waiting(self) -> bool:
        """Whether all that goes on is that somebody outside is waited for."""
        return not self._mailbox and self._state is not None and self._state.status == "waiting"

    @property
    def state(self) -> Session | None:
        """What the session is as far as its log is known to go, once that has been read."""
        return self._state

    def abandon(self) -> list[Message]:
        """Give up all that waits; return the messages, which somebody must put somewhere safe."""
        messages = [item.message for item in self._mailbox if item.message is not None]
        self._mailbox.clear()
        return messages

    @property
    def waiting(self) -> int:
        """How many queue messages are not yet acknowledged."""
        return sum(item.message is not None for item in self._mailbox)

    def put(self, item: Item) -> None:
        """Add an item. Never waits: who delivers bounds how many are under way."""
        self._mailbox.append(item)
        self._mail.set()

    def heard(self, report: Heartbeat | ReportStarted) -> None:
        """Note that a worker is at a call."""
        if self._acts is not None:
            self._acts.heard(report)

    def listen_anew(self) -> None:
        """Forget how long calls have been silent: nothing could be heard."""
        if self._acts is not None:
            self._acts.listen_anew()

    def doubt(self) -> None:
        """Ask the log whether anybody has gone on with the session: it may have been another's meanwhile."""
        self._in_doubt = True
        self._mail.set()

    def look(self, seconds: float) -> None:
        """Look after calls that have fallen silent; `seconds` since the last look, in which they could be heard."""
        if self._acts is not None:
            self._acts.look(seconds)

    async def run(self) -> None:
        """Own the session until cancelled. What was not dealt with waits for the next `run`.

        Raises `Superseded`, `Unavailable`, `UnknownSession`; anything else is a bug that this session brought to light.
        """
        # What acts of an earlier life said is void; what came from the queue is not.
        self._mailbox = deque(item for item in self._mailbox if item.message is not None)
        self._pieces = 0
        self._listing.forget()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._acts = Acts(self._setting, self._tell, lambda: self._head, tasks)
                await self._work(self._acts, tasks)
        except ExceptionGroup as failures:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group that fails when it is cancelled tells only of the failure (before Python 3.13).
                raise asyncio.CancelledError from None
            raise _gravest(failures) from None
        finally:
            self._state = None
            self._acts = None
            self.was_fresh, self._fresh = self._fresh, False

    async def _work(self, acts: Acts, tasks: asyncio.TaskGroup) -> None:
        if not self._fresh:
            async with self._setting.loading:
                state, self._head = await load(self._parts.log, self._parts.codec, self._setting.session)
            self._state = state
            # Also our own work, if we lost it on the way: what an earlier life of ours had in flight died with it.
            self._inherited = state.started and (state.owner != self._parts.owner or bool(pending(state)))
        must_look = not self._fresh  # what the log left pending goes on without any input
        while True:
            while not (self._mailbox or self._in_doubt or must_look):
                self._mail.clear()
                await self._mail.wait()
            must_look = False
            items = list(islice(self._mailbox, BATCH_MAX))
            self.busy_at = time.monotonic()
            await self._advance(acts, tasks, items)
            # Not before: nothing is lost with an owner, what it was dealing with is the next one's first.
            for _ in items:
                self._mailbox.popleft()
            self._make_room(items)

    async def _advance(self, acts: Acts, tasks: asyncio.TaskGroup, items: Sequence[Item]) -> None:
        """Answer items: decide, append, and when that is accepted act."""
        reach = self._parts.reach
        await reach("owner.received")
        in_doubt, self._in_doubt = self._in_doubt, False  # whoever doubts while we ask or append asks again
        before = self._state or empty(self._setting.session)
        draft = Draft(self._parts.codec, before, self._head, self._parts.clock())
        takes_over = self._inherited and bool(items or pending(before))
        if takes_over:
            self._note(draft.add(TakeOver(self._parts.owner)))
        refused = self._answer(items, draft)
        state = draft.state
        listing = self._listing.due(state, draft.head)
        publishing: asyncio.Task[None] | None = None
        if listing is not None and listing.open:
            # With the append, since it may be said too early (then the next owner finds nothing to do) but not too
            # late. That work has ended may not be said too early.
            publishing = tasks.create_task(self._listing.say(state, listing))
        await self._record(draft, ask=in_doubt or any(item.message is not None for item in items))
        await reach("owner.appended")
        self._fresh = False
        self._inherited = self._inherited and not takes_over
        self._state = state
        acts.match(before, state, draft.events)
        for item in items:
            if isinstance(item.given, ReportStarted) and item.given.claim:
                acts.answer(item.given, state)
        self._measure(draft.events, state)
        if publishing is not None:
            await publishing
        elif listing is not None:
            await self._listing.say(state, listing)
        for message, error in refused:
            await self._set_aside(message, error)
        await reach("owner.acknowledging")
        self._acknowledge([item.message for item in items if item.message is not None])
        await reach("owner.acknowledged")

    async def _record(self, draft: Draft, *, ask: bool) -> None:
        """Append a draft. If it is empty and we `ask`, make sure instead that nobody has gone on with the session."""
        if not draft.batches and ask:
            # An owner that was passed over does not know what it is told of, and would let go of it as if it were over.
            async with self._setting.loading:
                await confirm(self._parts.log, self._setting.session, self._head)
        for batch in draft.batches:
            began = time.perf_counter()
            self._head = await self._parts.log.append(self._setting.session, self._head, batch)
            self._parts.telemetry.append_seconds.observe(time.perf_counter() - began)

    def _answer(self, items: Sequence[Item], draft: Draft) -> list[tuple[Message, str]]:
        """Add what items lead to; give the messages that lead to nothing that a log can hold."""
        refused: list[tuple[Message, str]] = []
        for item in items:
            cause, trace = _cause_of(item.given)
            try:
                self._note(draft.add(self._input(item), cause, trace))
            except TooLarge as error:
                if item.message is None:
                    raise
                refused.append((item.message, str(error)))
        return refused

    def _note(self, events: Iterable[Event]) -> None:
        """Remember what the attempt in flight has said."""
        for event in events:
            if isinstance(event, TextDelta):
                self._said.append(event.text)
            elif isinstance(event, ModelCallStarted):
                self._said.clear()

    def _input(self, item: Item) -> Input:
        match item.given:
            case CallTool() as request:
                identity = call_id(request.session, request.run_id, 0, 0)
                planned = plan_by_hand(identity, request, self._setting.catalogue)
                return Asked(request, self._parts.owner, planned=planned)
            case StartSession() | Say() | CancelRun() | CloseSession() | AnswerQuestion() as request:
                said = "".join(self._said)
                blocks = Json(orjson.dumps([{"type": "text", "text": said}]).decode()) if said else None
                return Asked(request, self._parts.owner, self._setting.agents.snapshot(request), blocks)
            case (
                ReportStarted()
                | ReportProgress()
                | ReportChunk()
                | ReportRetry()
                | ReportResult()
                | ReportPending()
                | ReportQuestion()
            ) as report:
                return Reported(report)
            case given:
                return given

    def _measure(self, events: Sequence[Event], state: Session) -> None:
        counts: dict[type[Event], int] = {}
        for event in events:
            kind = type(event)
            counts[kind] = counts.get(kind, 0) + 1
        meter = self._parts.telemetry
        for kind, count in counts.items():
            self._setting.counts(kind).inc(count)
            if kind in (RunCompleted, RunFailed, RunCancelled):
                # A client may name an agent that there is not: a label must not be of its choosing.
                agent = state.agent if self._setting.agents.named(state.agent) else "unknown"
                meter.runs.labels(agent, wire_name(kind).removeprefix("run_")).inc(count)

    async def _tell(self, given: Input) -> None:
        if isinstance(given, Spoke):
            while self._pieces > PIECES_WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            self._pieces += len(given.pieces)
        self.put(Item(given))

    def _make_room(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item.given, Spoke):
                self._pieces -= len(item.given.pieces)
        self._room.set()


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    """Choose what to say of failures that came together: a bug before what is only to be done again."""
    return min(failures.exceptions, key=lambda error: (isinstance(error, Unavailable), isinstance(error, Superseded)))


def _cause_of(given: object) -> tuple[str | None, str | None]:
    """Give the id of the input (requests and reports have one) and the trace that it came with."""
    if isinstance(given, Spoke):
        return None, None
    cause = getattr(given, "request_id", None) or getattr(given, "report_id", None)
    return cause, getattr(given, "trace", None)
