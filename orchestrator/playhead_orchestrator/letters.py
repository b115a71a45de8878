"""What came to nothing, put where operators find it."""

from __future__ import annotations

from playhead.commands import DeadLetter, RunTool
from playhead.queue import Message
from playhead.telemetry import logger

from playhead_orchestrator.parts import OrchestratorParts

__all__ = ["DeadLetters"]

VALUE_BYTES_MAX = 800_000
"""How much of a record is kept when it is set aside: what is around it must fit into a message too."""

TEXT_CHARS_MAX = 2_000
"""How much of a key, or of what was wrong, is kept with it."""

NOWHERE = -1
"""The partition and offset of what was not read from a topic."""

log = logger(__name__)


class DeadLetters:
    """Writes to the topic of dead letters."""

    def __init__(self, parts: OrchestratorParts) -> None:
        self._parts = parts

    async def bury(self, message: Message, error: str) -> None:
        """Set a record aside, whole if it fits."""
        parts, value = self._parts, message.value[:VALUE_BYTES_MAX]
        key, error = message.key[:TEXT_CHARS_MAX], error[:TEXT_CHARS_MAX]
        if len(value) < len(message.value):
            error = f"{error} (the first {len(value)} of {len(message.value)} bytes are kept)"
        letter = DeadLetter(message.topic, message.partition, message.offset, key, value, error, parts.clock())
        await parts.publish(parts.topics.deadletter.name, message.topic, letter)
        parts.telemetry.dead_letters.labels(message.topic).inc()
        log.error("set a record aside", topic=message.topic, offset=message.offset, error=error)

    async def bury_call(self, call: RunTool, error: str) -> None:
        """Leave a call that came to nothing to people, with all that it takes to run it again."""
        topic = self._parts.topics.tools(call.pool).name
        value = self._parts.codec.encode(call)
        await self.bury(Message(topic, NOWHERE, NOWHERE, call.key or call.call_id, value), error)
