"""Calls on their way: what is sent to a pool, and when silence about a call means that it must be sent again. Pure."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

import orjson
from playhead.commands import RunTool
from playhead.ids import CallId, SessionId, digest
from playhead.session import OpenCall

__all__ = ["DELIVERIES_MAX", "Watch", "lease_of", "run_tool"]

DELIVERIES_MAX = 6
"""How often a call is handed to its pool before it is given up."""


@dataclass(slots=True)
class Watch:
    """What this owner knows of a call beside the log. `heard_at` is `None` until a worker says that it has begun."""

    deliveries: int = 1
    heard_at: float | None = None

    def is_silent(self, now: float, silence_seconds: float) -> bool:
        """Tell whether a worker began with the call and then fell silent. A call that waits in its queue is not."""
        return self.heard_at is not None and now - self.heard_at > silence_seconds


def lease_of(key: bytes, call_id: CallId) -> str:
    """Derive the lease of a call: only its own pool is given it, and only with it a report is believed."""
    return hmac.new(key, call_id.encode(), sha256).hexdigest()[:32]


def run_tool(session: SessionId, call: OpenCall, *, key: bytes, now: int, trace: str | None) -> RunTool:
    """Make the command that hands a call to its pool: but for `now` the same however often it is made."""
    arguments = orjson.dumps(orjson.loads(call.input), option=orjson.OPT_SORT_KEYS)
    return RunTool(
        session=session,
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
    )
