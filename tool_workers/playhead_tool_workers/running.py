"""The calls that a worker has: those that wait or run, the results of those that are over, and early stops.

A call may be delivered more than once: after a rebalance, or because its owner heard nothing of it. Here it is one
call, whose messages are all acknowledged when it is over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from playhead.commands import Grant, ReportPending, ReportQuestion, ReportResult, RunTool
from playhead.events import Json
from playhead.ids import CallId
from playhead.queue import Message

from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Try
from playhead_tool_workers.turns import Ticket

__all__ = ["Call", "Calls", "End", "is_another"]

End = ReportResult | ReportPending | ReportQuestion
"""What a worker says last of a call."""


@dataclass(slots=True, eq=False)
class Call:
    """A call that is not over yet."""

    command: RunTool
    messages: list[Message]
    """The deliveries of it that are still ours to acknowledge."""
    stop_reason: str | None = None
    began: bool = False
    """Whether it has been started or asked for: from then on it is not simply left to others."""
    then: list[Message] = field(default_factory=list["Message"])
    """What is to be done with it once it is over: it was answered, or is run again, before it was off this table."""
    is_over: bool = False
    """Whether it is reported that it ended without having worked: what comes of it now comes late."""
    late: Try | None = field(default=None, repr=False)
    """What came of it before its end was reported, and too late to be that."""
    turn: Ticket | None = None
    claim: str | None = None
    asked_at: list[float] = field(default_factory=list[float])
    """When it was asked for, each time, by the monotonic clock."""
    verdict: asyncio.Future[float | None] | None = field(default=None, repr=False)
    """While an answer is waited for: when that was asked which was granted, or `None` for a refusal."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    """All that is done for it; cancelled, it leaves no report behind."""
    work: asyncio.Task[object] | None = field(default=None, repr=False)
    """The running of the tool; cancelled, the call is reported cancelled."""

    def stop(self, reason: str) -> None:
        """Give the call up: its result will say so. One that was only asked for is not even mentioned again."""
        if self.verdict is not None and not (self.verdict.done() and self.verdict.result() is not None):
            self._decide(None)
        elif self.stop_reason is None:
            self.stop_reason = reason
            if self.work is not None:
                self.work.cancel()

    def heed(self, grant: Grant) -> None:
        """Take note of who may run it. An answer to nothing that was asked is none."""
        if grant.claim != self.claim:
            self._decide(None)
        elif 0 < grant.asking <= len(self.asked_at):
            self._decide(self.asked_at[grant.asking - 1])

    def _decide(self, asked_at: float | None) -> None:
        if self.verdict is not None and not self.verdict.done():
            self.verdict.set_result(asked_at)

    def drop(self) -> None:
        """Forget the call: somebody else will be given it."""
        if self.task is not None:
            self.task.cancel()


@dataclass(frozen=True, slots=True)
class _Finished:
    """How a call ended, and the command that it was then, without its arguments."""

    command: RunTool
    end: End


class Calls:
    """The table of calls, bounded in all that it remembers."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._active: dict[CallId, Call] = {}
        self._finished: OrderedDict[CallId, _Finished] = OrderedDict()
        self._finished_bytes = 0
        self._stopped: OrderedDict[CallId, str] = OrderedDict()

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._active.values()))

    def __len__(self) -> int:
        return len(self._active)

    def add(self, command: RunTool, message: Message) -> Call:
        """Take up a call that is neither active nor finished here."""
        call = Call(command, [message], self._stopped.pop(command.call_id, None))
        self._active[command.call_id] = call
        return call

    def active(self, call_id: CallId) -> Call | None:
        """Find a call that is not over."""
        return self._active.get(call_id)

    def finished(self, command: RunTool) -> End | None:
        """Find how a call ended here, if that is still remembered and it is not to be done anew."""
        known = self._finished.get(command.call_id)
        if known is None or is_another(command, known.command):
            return None
        self._finished.move_to_end(command.call_id)
        return known.end

    def remember(self, command: RunTool, end: End) -> None:
        """Keep an end for when its call is delivered again. The oldest make room."""
        known = self._finished.pop(command.call_id, None)
        if known is not None:
            self._finished_bytes -= _size(known.end)
        self._finished[command.call_id] = _Finished(replace(command, input=Json("")), end)
        self._finished_bytes += _size(end)
        while len(self._finished) > self._limits.finished_max or self._finished_bytes > self._limits.finished_bytes_max:
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= _size(oldest.end)

    def remove(self, call: Call) -> None:
        """Take a call off the table, unless another one of its id has taken its place."""
        if self._active.get(call.command.call_id) is call:
            del self._active[call.command.call_id]

    def stop(self, call_id: CallId, reason: str) -> None:
        """Stop a call, whether it runs, waits or has not come yet."""
        call = self._active.get(call_id)
        if call is not None:
            call.stop(reason)
        elif call_id not in self._finished:
            self._stopped[call_id] = reason
            if len(self._stopped) > self._limits.stopped_max:
                self._stopped.popitem(last=False)

    def grant(self, grant: Grant) -> None:
        """Take note of who may run a call: we, if the claim is ours."""
        call = self._active.get(grant.call_id)
        if call is not None:
            call.heed(grant)

    def drop_waiting(self) -> None:
        """Forget the calls that have not begun: they are delivered again, to somebody else."""
        for call in self:
            if not call.began:
                self.remove(call)
                call.drop()

    def let_go(self, partitions: frozenset[int] | None) -> None:
        """Give up the deliveries from partitions (from all, without any): what waits is dropped, what runs goes on."""
        for call in self:
            for kept in (call.messages, call.then):
                kept[:] = [one for one in kept if partitions is not None and one.partition not in partitions]
            if not call.messages and not call.began:
                self.remove(call)
                call.drop()


def is_another(command: RunTool, known: RunTool) -> bool:
    """Tell whether a command is more than one that was known delivered again: an answer came, or an operator.

    That it is to be looked into is no news where it runs, or where its end is known.
    """
    anew = command.redriven or command.answer is not None
    return anew and _occasion(command) != _occasion(known)


def _occasion(command: RunTool) -> tuple[object, ...]:
    """Give what differs between two commands about one call; it is delivered again as it was."""
    again = command.dispatched_at if command.redriven else None
    return (command.redriven, command.answer, again)


def _size(end: End) -> int:
    return len(end.output) if isinstance(end, ReportResult) else 0
