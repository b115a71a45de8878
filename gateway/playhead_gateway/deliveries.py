"""Results that come from outside: who may give one, and the report that is made of it.

Whoever has a call's ticket may, and nobody else: the ticket's lease is derived from a key that this gateway shares with
the orchestrators. Whether the call still waits is for its session to say.
"""

from __future__ import annotations

import re

from playhead.codec import Codec
from playhead.commands import ReportResult
from playhead.errors import Invalid
from playhead.events import Json
from playhead.ids import CallId, SessionId, parse_session_id
from playhead.leases import is_lease, read_ticket
from playhead.queue import Queue

from playhead_gateway.problems import Problem

__all__ = ["Deliveries"]

BEARER = re.compile(r"bearer +(\S+) *", re.I)


class Deliveries:
    """Checks tickets and publishes what comes with them. Without a key it takes nothing."""

    def __init__(self, queue: Queue, topic: str, codec: Codec, key: bytes | None) -> None:
        self._queue = queue
        self._topic = topic
        self._codec = codec
        self._key = key

    def admit(self, authorization: str | None, call_id: str) -> ReportResult:
        """Give the empty report that a ticket entitles to fill. Raises `Problem`, the same for whatever is wrong."""
        if self._key is None:
            detail = "this gateway cannot check tickets: give it the PLAYHEAD_LEASE_SECRET of the orchestrators"
            raise Problem(503, "deliveries-not-configured", detail)
        ticket = BEARER.fullmatch(authorization or "")
        found = None if ticket is None else _read(ticket[1])
        if found is None or found[1] != call_id or not is_lease(self._key, found[1], found[2]):
            detail = f"send Authorization: Bearer and the ticket that was given for {call_id[:40]}"
            raise Problem(401, "invalid-ticket", detail, headers={"WWW-Authenticate": "Bearer"})
        session, known, lease = found
        return ReportResult(f"delivered:{known}", session, known, lease, "ok", Json("null"), 0)

    async def deliver(self, report: ReportResult) -> None:
        """Publish a report; when this returns it is safe. Raises `TooLarge`, `Unavailable`."""
        await self._queue.publish(self._topic, report.session, self._codec.encode(report))


def _read(ticket: str) -> tuple[SessionId, CallId, str] | None:
    try:
        session, call_id, lease = read_ticket(ticket)
        return parse_session_id(session), call_id, lease
    except Invalid:
        return None
