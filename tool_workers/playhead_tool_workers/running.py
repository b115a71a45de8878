"""The calls that a worker has: those that wait or run, the results of those that are over, and early stops.

A call may be delivered more than once: after a rebalance, or because its owner heard nothing of it. Here it is one
call, whose messages are all acknowledged when it is over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from playhead.commands import ReportResult, RunTool
from playhead.ids import CallId
from playhead.queue import Message

from playhead_tool_workers.limits import WorkerLimits

__all__ = ["Call", "Calls"]


@dataclass(slots=True, eq=False)
class Call:
    """A call that is not over yet."""

    command: RunTool
    messages: list[Message]
    """The deliveries of it that are still ours to acknowledge."""
    stop_reason: str | None = None
    began: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    """All that is done for it; cancelled, it leaves no report behind."""
    work: asyncio.Task[object] | None = field(default=None, repr=False)
    """The running of the tool; cancelled, the call is reported cancelled."""

    def stop(self, reason: str) -> None:
        """Give the call up: its result will say so."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.work is not None:
                self.work.cancel()

    def drop(self) -> None:
        """Forget the call: somebody else will be given it."""
        if self.task is not None:
            self.task.cancel()


class Calls:
    """The table of calls, bounded in all that it remembers."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._active: dict[CallId, Call] = {}
        self._finished: OrderedDict[CallId, ReportResult] = OrderedDict()
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

    def finished(self, call_id: CallId) -> ReportResult | None:
        """Find the result of a call that is over, if it is still remembered."""
        result = self._finished.get(call_id)
        if result is not None:
            self._finished.move_to_end(call_id)
        return result

    def remember(self, result: ReportResult) -> None:
        """Keep a result for when its call is delivered again. The oldest make room."""
        self._finished[result.call_id] = result
        self._finished_bytes += len(result.output)
        while len(self._finished) > self._limits.finished_max or self._finished_bytes > self._limits.finished_bytes_max:
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= len(oldest.output)

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
