"""The lease of a call, and the ticket that carries it outside: what a report or a delivery must show. Pure."""

from __future__ import annotations

import hmac
from hashlib import sha256

from playhead.errors import Invalid
from playhead.ids import CallId, SessionId

__all__ = ["is_lease", "lease_of", "read_ticket"]

TICKET_CHARS_SHOWN_MAX = 20
"""How much of what is no ticket is shown with the error: not enough to be a lease."""


def lease_of(key: bytes, call_id: CallId) -> str:
    """Derive the lease of a call: only its own pool is given it, and only with it a report is believed."""
    return hmac.new(key, call_id.encode(), sha256).hexdigest()[:32]


def is_lease(key: bytes, call_id: CallId, lease: str) -> bool:
    """Tell whether a lease is that of a call, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(lease.encode("utf-8", "replace"), lease_of(key, call_id).encode())


def read_ticket(ticket: str) -> tuple[SessionId, CallId, str]:
    """Take a ticket `<session>.<call>.<lease>` apart; whether its lease is right is another question.

    Raises `Invalid` for what is no ticket.
    """
    session, _, rest = ticket.partition(".")
    call_id, _, lease = rest.partition(".")
    if not session.startswith("ses_") or not call_id.startswith("call_") or not lease:
        raise Invalid(
            ticket[:TICKET_CHARS_SHOWN_MAX], "this is no ticket: hand on what `ToolContext.ticket` gave, unchanged"
        )
    return SessionId(session), CallId(call_id), lease
