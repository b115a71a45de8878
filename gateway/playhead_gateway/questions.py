"""What calls ask users, found in the log.

A session's state knows the id of an open question and no more, so what is asked is read from the log when somebody
wants to see it. A question never changes: what was found is kept while there is room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from playhead.codec import Codec
from playhead.errors import Undecodable
from playhead.events import QuestionAnswered, QuestionAsked
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.session import Session

from playhead_gateway.limits import Limits

__all__ = ["Found", "Questions"]


@dataclass(slots=True)
class Found:
    """A session's questions by id, and the answers that there are."""

    asked: dict[str, QuestionAsked] = field(default_factory=dict[str, QuestionAsked])
    answered: dict[str, QuestionAnswered] = field(default_factory=dict[str, QuestionAnswered])


class Questions:
    """Looks questions up."""

    def __init__(self, log: SessionLog, codec: Codec, limits: Limits) -> None:
        self._log = log
        self._codec = codec
        self._limits = limits
        self._kept: OrderedDict[tuple[SessionId, str], QuestionAsked] = OrderedDict()
        self._bytes = 0

    async def open(self, state: Session) -> Mapping[str, QuestionAsked]:
        """Give the questions that a session's calls wait for. Raises `Unavailable`, `CursorExpired`."""
        wanted = {call.question for call in state.open_calls if call.question is not None}
        found = {name: self._kept[state.id, name] for name in wanted if (state.id, name) in self._kept}
        if len(found) < len(wanted):
            asked = (await self.all(state.id)).asked
            found = {name: asked[name] for name in wanted if name in asked}
            for name, question in found.items():
                self._keep(state.id, name, question)
        return found

    async def all(self, session: SessionId) -> Found:
        """Read all questions of a session, and their answers. Raises `Unavailable`, `CursorExpired`."""
        found = Found()
        async with aclosing(self._log.read(session)) as pages:
            async for page in pages:
                for record in page.records:
                    try:
                        if self._codec.kind(record.value) not in (QuestionAsked, QuestionAnswered):
                            continue
                        event = self._codec.event(record.value).event
                    except Undecodable:
                        continue  # a newer version's event, or poison
                    if isinstance(event, QuestionAsked):
                        found.asked[event.question_id] = event
                    elif isinstance(event, QuestionAnswered):
                        found.answered[event.question_id] = event
        return found

    def _keep(self, session: SessionId, name: str, question: QuestionAsked) -> None:
        if (session, name) in self._kept:
            return
        self._kept[session, name] = question
        self._bytes += _size(question)
        while self._bytes > self._limits.questions_bytes_max or len(self._kept) > self._limits.recent_max:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _size(gone)


def _size(question: QuestionAsked) -> int:
    return len(question.content) + len(question.schema or "") + len(question.state or "")
