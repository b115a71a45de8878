"""What a role is handed of the store: its ports as they are, or with failpoints in them if a test named one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from playhead.archive import Archive
from playhead.failpoints import Faults, Reach, nowhere
from playhead.log import SessionLog
from playhead.queue import Queue, Topics

if TYPE_CHECKING:
    from playhead_orchestrator.model import Model

    from playhead_cli.opening import Store

__all__ = ["Ports", "ports_of"]


@dataclass(frozen=True, slots=True)
class Ports:
    """What one role does everything through that leaves something behind. `faults` is only there in tests."""

    log: SessionLog
    queue: Queue
    archive: Archive | None
    reach: Reach = nowhere
    faults: Faults | None = None

    def models(self, models: dict[str, Model]) -> dict[str, Model]:
        """Give the models of a process as the role asks them."""
        if self.faults is None:
            return models
        from playhead_orchestrator.adapters.failing import FailingModel  # noqa: PLC0415 - tests alone

        return {provider: FailingModel(model, self.faults) for provider, model in models.items()}


def ports_of(store: Store, archive: Archive | None, topics: Topics, *, role: str, faults: Faults | None) -> Ports:
    """Give a role its ports: `owner`, `worker` or `gateway`."""
    if faults is None:
        return Ports(store.log, store.queue, archive)
    from playhead.adapters.failing import FailingArchive, FailingLog, FailingQueue  # noqa: PLC0415 - tests alone

    return Ports(
        FailingLog(store.log, role, faults),
        FailingQueue(store.queue, topics, role, faults),
        None if archive is None else FailingArchive(archive, role, faults),
        faults.reach,
        faults,
    )
