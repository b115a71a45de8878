"""The one door: who asks, whether he may, and the record of it. Every route goes through it before it does anything.

What is forbidden looks like what is not there: the same answer, found out by the same look at the log.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from math import inf
from typing import Protocol

from playhead.commands import Access
from playhead.errors import CursorExpired, Undecodable, UnknownSession
from playhead.events import SessionStarted
from playhead.ids import BEGINNING, SessionId, parse_session_id
from playhead.log import SessionLog
from starlette.requests import HTTPConnection

from playhead_gateway.allowances import Allowances
from playhead_gateway.catalog import Catalog
from playhead_gateway.fanout import Fanout
from playhead_gateway.limits import Limits
from playhead_gateway.principal import LOCAL, Principal, Scope
from playhead_gateway.problems import Problem
from playhead_gateway.query import trace_of
from playhead_gateway.quotas import Quotas

__all__ = ["RATES", "Authenticate", "Entry", "Record", "Tenants", "expiry_of", "principal_of"]

RATES = "playhead.rates"
"""Where in a request's scope the headers are that say how much more may be asked."""

Record = Callable[[Access], Awaitable[None]]
"""Keeps an audit record; when it returns the record is safe."""


class Authenticate(Protocol):
    """Finds out who asks."""

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Give the principal of a request or a WebSocket's handshake. Raises `Problem` with 401."""
        ...

    def quotas(self, key: str | None, tenant: str | None) -> Quotas:
        """Give what may be taken with a principal's key, or if that is None by a tenant."""
        ...


def principal_of(connection: HTTPConnection) -> Principal:
    """Give who asks, once `Entry` has found it out."""
    principal = connection.scope.get("playhead.principal", LOCAL)
    assert isinstance(principal, Principal)
    return principal


def expiry_of(principal: Principal, now: int) -> float:
    """Give the time of the event loop at which a principal's credential is no longer good.

    `now` is in microseconds since the epoch, as his expiry is in seconds.
    """
    if principal.expires_at == inf:
        return inf
    return asyncio.get_running_loop().time() + principal.expires_at - now / 1_000_000


class Entry:
    """The door of one gateway. Without `authenticate` everybody is `LOCAL`, and nothing is asked or recorded."""

    def __init__(
        self,
        tenants: Tenants,
        authenticate: Authenticate | None,
        allowances: Allowances,
        record: Record,
        now: Callable[[], int],
    ) -> None:
        self._tenants = tenants
        self._allowances = allowances
        self._authenticate = authenticate
        self._record = record
        self._now = now

    async def admit(self, connection: HTTPConnection, scope: Scope, action: str) -> Principal:
        """Find out who asks and whether he may do this at all; and if the path names a session, with this one.

        Raises `Problem`, `UnknownSession`, `InvalidId`, `Unavailable`.
        """
        if self._authenticate is None:
            return LOCAL
        principal = await self._authenticate(connection)
        connection.scope["playhead.principal"] = principal
        connection.scope["playhead.action"] = action
        connection.scope[RATES] = self._allowances.request(principal, writes=scope != "sessions:read")
        named = connection.path_params.get("session")
        session = None if named is None else parse_session_id(str(named))
        if scope not in principal.scopes:
            await self._note(connection, session, f"without the scope {scope}")
            raise Problem(403, "missing-scope", f"this needs the scope {scope!r}", scope=scope)
        if scope == "admin" and not principal.sees_all:
            # What operators see is of all tenants.
            await self._note(connection, session, "of a tenant")
            raise Problem(403, "missing-scope", "this is for operators, who have no tenant", scope=scope)
        if session is not None:
            await self.enter(connection, session)
        elif principal.session is not None:
            await self._note(connection, None, "with a credential for one session")
            raise Problem(403, "missing-scope", f"this credential is for {principal.session} alone", scope=scope)
        return principal

    async def enter(self, connection: HTTPConnection, session: SessionId) -> None:
        """Let who was admitted to a session that the path does not name. Raises `UnknownSession`, `Unavailable`."""
        if self._authenticate is None:
            return
        principal = principal_of(connection)
        reason = await self._refusal(principal, session)
        await self._note(connection, session, reason)
        if reason is not None:
            raise UnknownSession(session)

    async def _refusal(self, principal: Principal, session: SessionId) -> str | None:
        try:
            tenant = await self._tenants.of(session)
        except UnknownSession:
            return "there is no such session"
        if principal.session not in (None, session):
            return "with a credential for another session"
        return None if principal.sees(tenant) else "of another tenant"

    async def _note(self, connection: HTTPConnection, session: SessionId | None, reason: str | None) -> None:
        principal = principal_of(connection)
        action, trace = str(connection.scope["playhead.action"]), trace_of(connection)
        allowed = reason is None
        await self._record(
            Access(self._now(), principal.name, principal.tenant, action, session, allowed, reason, trace)
        )


class Tenants:
    """Whose each session is: said once, by its first event. Remembered, bounded; what is forgotten is read again."""

    def __init__(self, log: SessionLog, fanout: Fanout, catalog: Catalog, limits: Limits) -> None:
        self._log = log
        self._fanout = fanout
        self._catalog = catalog
        self._limits = limits
        self._known: OrderedDict[SessionId, str | None] = OrderedDict()

    def note(self, session: SessionId, tenant: str | None) -> None:
        """Remember whose a session is that was just begun here, and whose log is still empty."""
        self._known[session] = tenant
        if len(self._known) > self._limits.recent_max:
            self._known.popitem(last=False)

    async def of(self, session: SessionId) -> str | None:
        """Tell whose a session is. Raises `UnknownSession`, `Unavailable`."""
        if session not in self._known:
            self.note(session, await self._look(session))
        return self._known[session]

    async def _look(self, session: SessionId) -> str | None:
        line = self._catalog.listed(session)
        if line is not None:
            return line.tenant
        found = await self._first(session)
        if found is None:
            # Begun a moment ago through another gateway: its first event is on its way.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.settle_seconds):
                    await self._fanout.beyond(session, BEGINNING)
            found = await self._first(session)
        if found is None:
            raise UnknownSession(session)
        return found.tenant

    async def _first(self, session: SessionId) -> SessionStarted | None:
        try:
            async with aclosing(self._log.read(session)) as pages:
                async for page in pages:
                    if page.records:
                        event = self._fanout.codec.event(page.records[0].value).event
                        return event if isinstance(event, SessionStarted) else None
        except (CursorExpired, Undecodable):
            return None
        return None
