"""What a worker is made of; built by the composition root and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playhead.codec import Codec
from playhead.queue import Queue, Topics
from playhead.telemetry import Telemetry

__all__ = ["WorkerParts"]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The ports of a worker. `clock` gives microseconds since the epoch, `entropy` 16 random bytes."""

    queue: Queue
    topics: Topics
    codec: Codec
    telemetry: Telemetry
    clock: Callable[[], int]
    entropy: Callable[[], bytes]
