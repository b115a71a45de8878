"""What a worker is made of; built by the composition root and handed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from playhead.archive import Archive
from playhead.codec import Codec
from playhead.failpoints import Reach, nowhere
from playhead.queue import Queue, Topics
from playhead.redaction import Redactor
from playhead.telemetry import Telemetry

__all__ = ["WorkerParts"]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The ports of a worker. `clock` gives microseconds since the epoch, `entropy` 16 random bytes.

    `environment` is where secrets that tools name by `env:` are; the `redactor` keeps them out of what is said.
    """

    queue: Queue
    topics: Topics
    codec: Codec
    telemetry: Telemetry
    clock: Callable[[], int]
    entropy: Callable[[], bytes]
    redactor: Redactor = field(default_factory=Redactor)
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    reach: Reach = nowhere
    archive: Archive | None = None
