"""Tickets: what a native `EventSource`, which can set no header, puts into its URL to watch one session.

A URL ends up in logs and histories. So a ticket is good for one session, for reading alone, and must be redeemed within
a minute; how long the stream then goes on is for the standing of who had it made.
"""

from __future__ import annotations

from dataclasses import dataclass

from playhead.errors import InvalidId
from playhead.ids import SessionId, parse_session_id

from playhead_gateway.access.signed import Secrets, sign, signed_claims
from playhead_gateway.access.standing import Standing, read_standing
from playhead_gateway.principal import Scope

__all__ = ["TICKET_SCOPES", "TICKET_SECONDS", "Ticket", "read_ticket", "ticket_text"]

TICKET_SECONDS = 60.0
TICKET_SCOPES: frozenset[Scope] = frozenset({"sessions:read"})


@dataclass(frozen=True, slots=True)
class Ticket:
    """A way into one session, to be used before `expires_at`."""

    session: SessionId
    standing: Standing
    expires_at: float


def ticket_text(ticket: Ticket, secrets: Secrets) -> str:
    """Sign a ticket."""
    claims = {**ticket.standing.claims(), "session": ticket.session, "expires": ticket.expires_at}
    return sign("ticket", claims, secrets)


def read_ticket(text: str, secrets: Secrets, now: float) -> Ticket | None:
    """Read a ticket that is ours and still good, or None."""
    claims = signed_claims("ticket", text, secrets)
    standing = None if claims is None else read_standing(claims)
    if claims is None or standing is None:
        return None
    expires = claims.get("expires")
    if not isinstance(expires, float | int) or not now < expires <= now + TICKET_SECONDS:
        return None
    try:
        return Ticket(parse_session_id(str(claims.get("session"))), standing, expires)
    except InvalidId:
        return None
