"""The calls that a worker has: those that wait or run, the results of those that are over, and early stops.

A call may be delivered more than once: after a rebalance, or because its owner heard nothing of it. Here it is one
call, whose messages are all acknowledged when it is over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from playhead.commands import ReportPending, ReportQuestion, ReportResult, RunTool
from playhead.ids import CallId
from playhead.queue import Message

from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.turns import Ticket

__all__ = ["Call", "Calls", "End"]

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
    is_over: bool = False
    """Whether its end is reported: what comes of it now comes late."""
    turn: Ticket | None = None
    claim: str | None = None
    verdict: asyncio.Future[bool] | None = field(default=None, repr=False)
    """Whether the claim is granted, while that is waited for."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    """All that is done for it; cancelled, it leaves no report behind."""
    work: asyncio.Task[object] | None = field(default=None, repr=False)
    """The running of the tool; cancelled, the call is reported cancelled."""

    def stop(self, reason: str) -> None:
        """Give the call up: its result will say so. One that was only asked for is not even mentioned again."""
        if self.verdict is not None:
            self.decide(granted=False)
        elif self.stop_reason is None:
            self.stop_reason = reason
            if self.work is not None:
                self.work.cancel()

    def decide(self, *, granted: bool) -> None:
        """Answer the question whether it may be run, if it was asked."""
        if self.verdict is not None and not self.verdict.done():
            self.verdict.set_result(granted)

    def drop(self) -> None:
        """Forget the call: somebody else will be given it."""
        if self.task is not None:
            self.task.cancel()


class Calls:
    """The table of calls, bounded in all that it remembers."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._active: dict[CallId, Call] = {}
        self._finished: OrderedDict[CallId, End] = OrderedDict()
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

    def finished(self, call_id: CallId) -> End | None:
        """Find how a call ended here, if that is still remembered."""
        result = self._finished.get(call_id)
        if result is not None:
            self._finished.move_to_end(call_id)
        return result

    def forget(self, call_id: CallId) -> None:
        """Forget how a call ended: it is to be run again."""
        known = self._finished.pop(call_id, None)
        if known is not None:
            self._finished_bytes -= _size(known)

    def remember(self, result: End) -> None:
        """Keep an end for when its call is delivered again. The oldest make room."""
        self.forget(result.call_id)
        self._finished[result.call_id] = result
        self._finished_bytes += _size(result)
        while len(self._finished) > self._limits.finished_max or self._finished_bytes > self._limits.finished_bytes_max:
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= _size(oldest)

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

    def grant(self, call_id: CallId, claim: str) -> None:
        """Take note of who may run a call: we, if the claim is ours."""
        call = self._active.get(call_id)
        if call is not None:
            call.decide(granted=call.claim == claim)

    def drop_waiting(self) -> None:
        """Forget the calls that have not begun: they are delivered again, to somebody else."""
        for call in self:
            if not call.began:
                self.remove(call)
                call.drop()

    def let_go(self, partitions: frozenset[int] | None) -> None:
        """Give up the deliveries from partitions (from all, without any): what waits is dropped, what runs goes on."""
        for call in self:
            call.messages = [
                message for message in call.messages if partitions is not None and message.partition not in partitions
            ]
            if not call.messages and not call.began:
                self.remove(call)
                call.drop()


def _size(end: End) -> int:
    return len(end.output) if isinstance(end, ReportResult) else 0
