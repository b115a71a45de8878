"""Calls on their way: what is sent to a pool, and when silence about a call means that its worker is lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import orjson
from playhead.commands import Heartbeat, ReportStarted, RunTool
from playhead.ids import digest
from playhead.leases import lease_of
from playhead.session import OpenCall, Session

__all__ = ["Watch", "run_tool"]


@dataclass(slots=True)
class Watch:
    """How long nothing was heard of a call that a worker runs, as far as this owner could have heard."""

    call: OpenCall
    silent_seconds: float = 0.0

    def heard(self, report: Heartbeat | ReportStarted) -> None:
        """Note a word of a call. Of a `once` call only its own worker's counts: others may ask for it in vain."""
        if self.call.claim is None or report.worker == self.call.worker:
            self.silent_seconds = 0.0


def run_tool(session: Session, call: OpenCall, *, key: bytes, now: int, trace: str | None) -> RunTool:
    """Make the command that hands a call to its pool: but for `now` the same however often it is made."""
    arguments = orjson.dumps(orjson.loads(call.input), option=orjson.OPT_SORT_KEYS)
    return RunTool(
        session=session.id,
        run_id=call.run_id,
        call_id=call.call_id,
        name=call.name,
        input=call.input,
        effect=call.effect,
        pool=call.pool,
        lease=lease_of(key, call.call_id),
        idempotency_key=digest("idempotency", call.call_id, call.name, arguments),
        dispatched_at=now,
        trace=trace,
        tenant=_tenant(session),
        key=call.key,
        answer=call.answer,
        reconcile=call.is_lost,
    )


def _tenant(session: Session) -> str:
    """Tell whose a session is: as its gateway found out, or where that asks nobody who he is, as its metadata says."""
    if session.tenant is not None:
        return session.tenant
    metadata = orjson.loads(session.metadata)
    tenant = cast("dict[str, object]", metadata).get("tenant") if isinstance(metadata, dict) else None
    return tenant if isinstance(tenant, str) else ""
