"""What inputs lead to before the log has it: facts decided, sealed on to each other, packed into appends. Pure.

What one input leads to is never torn apart, so it must fit into one append. An input that leads to more is replaced by
one that says so (an answer by a failure, a result by an error); where there is none to replace it, it is refused.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
from playhead.accept import Head, Record
from playhead.codec import RECORD_BYTES_MAX, Codec, Context
from playhead.commands import ReportResult
from playhead.errors import TooLarge
from playhead.events import Event, Failure, Json
from playhead.log import APPEND_RECORDS_MAX
from playhead.session import Answered, Asked, Broke, Input, Reported, Session, Spoke, apply, decide

__all__ = ["Draft"]


class Draft:
    """Facts that follow on a state and on the head that it was folded from, and the state that they lead to."""

    def __init__(self, codec: Codec, state: Session, head: Head, now: int) -> None:
        self.state = state
        self.events: list[Event] = []
        self.batches: list[list[Record]] = []
        self._codec = codec
        self._head = head
        self._now = now
        self._batch_bytes = 0

    @property
    def head(self) -> Head:
        """Where the log ends once all of it is appended."""
        return self._head

    def add(self, given: Input, cause: str | None = None, trace: str | None = None) -> tuple[Event, ...]:
        """Add what an input leads to. Raises `TooLarge`: the draft is then as it was."""
        try:
            return self._add(given, cause, trace)
        except TooLarge as error:
            instead = _instead(given, str(error))
            if instead is None:
                raise
            return self._add(instead, cause, trace)

    def _add(self, given: Input, cause: str | None, trace: str | None) -> tuple[Event, ...]:
        events = decide(self.state, given, self._now)
        if not events:
            return events
        state = self.state
        if not isinstance(given, Spoke):  # the state does not depend on deltas (see `playhead.session.fold`)
            for event in events:
                state = apply(state, event, at=self._now, cause=cause)
        records = self._codec.seal(self._head, events, Context(state.id, state.epoch, cause, self._now, trace))
        self._pack(records)
        self.state = state
        self.events += events
        return events

    def _pack(self, records: list[Record]) -> None:
        count, size = len(records), 0
        for record in records:
            size += len(record.value)
        if count > APPEND_RECORDS_MAX or size > RECORD_BYTES_MAX:
            raise TooLarge(
                f"{count} records of {size} bytes",
                f"an input leads to at most {APPEND_RECORDS_MAX} records of {RECORD_BYTES_MAX} bytes",
            )
        batches = self.batches
        if not batches or len(batches[-1]) + count > APPEND_RECORDS_MAX or self._batch_bytes + size > RECORD_BYTES_MAX:
            batches.append([])
            self._batch_bytes = 0
        batches[-1] += records
        self._batch_bytes += size
        last = records[-1]
        self._head = Head(last.seq, last.hash, self._head.position + count)


def _instead(given: Input, advice: str) -> Input | None:
    """Give a smaller input that tells what became of one that is too large."""
    match given:
        case Answered():
            return Broke(given.run_id, given.step, given.attempt, Failure("answer_too_large", advice), retryable=False)
        case Spoke(pieces):
            first = pieces[0]
            return Broke(first.run_id, first.step, first.attempt, Failure("answer_too_large", advice), retryable=False)
        case Asked(said=said) if said is not None:
            return replace(given, said=None)  # what was said is in the log anyway, piece by piece
        case Reported(ReportResult() as report):
            output = Json(orjson.dumps({"error": f"the result is too large: {advice}"}).decode())
            return Reported(replace(report, status="error", output=output))
        case _:
            return None
