"""A session's line in the directory: what is said of it, and when it must be said anew."""

from __future__ import annotations

from playhead.accept import Head
from playhead.commands import ListSession
from playhead.session import Session, pending

from playhead_orchestrator.parts import OrchestratorParts

__all__ = ["Listing"]


class Listing:
    """Keeps one session's line true."""

    def __init__(self, parts: OrchestratorParts) -> None:
        self._parts = parts
        self._listed: tuple[str, bool] | None = None
        self._listed_state: Session | None = None

    def forget(self) -> None:
        """Forget what was said: whoever had the session meanwhile has said something else."""
        self._listed = self._listed_state = None

    def due(self, state: Session, head: Head) -> ListSession | None:
        """Give the line, if it is another than the last one."""
        if state is self._listed_state or not state.started:
            return None
        status, is_open = line = (state.status, bool(pending(state)))
        if line == self._listed:
            self._listed_state = state
            return None
        return ListSession(
            session=state.id,
            agent=state.agent or "",
            status=status,
            open=is_open,
            created_at=state.created_at,
            updated_at=state.updated_at,
            last_seq=head.seq,
            epoch=state.epoch,
            metadata=state.metadata,
            tenant=state.tenant,
        )

    async def say(self, state: Session, line: ListSession) -> None:
        """Publish a line. Before any input is acknowledged: so open work is never missed."""
        await self._parts.publish(self._parts.topics.sessions.name, state.id, line)
        self._listed, self._listed_state = (line.status, line.open), state
