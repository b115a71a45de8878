"""From a request to a `Principal`, or to a 401 that says what to send. What the principal may do is not known here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from playhead.ids import SessionId
from playhead.telemetry import logger
from starlette.requests import HTTPConnection

from playhead_gateway.access.asking import Asked, Credential, check_origin, credential_of
from playhead_gateway.access.cookies import Cookie, cookie_text, read_cookie
from playhead_gateway.access.file import AccessFile
from playhead_gateway.access.keys import PREFIX, find_key
from playhead_gateway.access.refusals import NotAllowedHere, Refused
from playhead_gateway.access.rules import Key, Rules, Tenant
from playhead_gateway.access.signed import Secrets
from playhead_gateway.access.standing import KEY_MARK, TOKEN_MARK, Standing, standing_of
from playhead_gateway.access.tickets import TICKET_SCOPES, TICKET_SECONDS, Ticket, read_ticket, ticket_text
from playhead_gateway.access.tokens import Tokens
from playhead_gateway.principal import Principal
from playhead_gateway.problems import Problem
from playhead_gateway.quotas import UNBOUNDED, Quotas

__all__ = ["Authenticator", "asked_of", "credential_way"]

WAY = "playhead.credential"
ANY = ("*",)

_log = logger("playhead.gateway")


class Authenticator:
    """Finds out who asks, by the rules of the access file. `clock` gives microseconds since the epoch."""

    def __init__(
        self, file: AccessFile, clock: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._clock = clock
        self._tokens = Tokens(monotonic)

    @property
    def rules(self) -> Rules:
        """The rules as they were when last looked at."""
        return self._file.rules

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Give the principal of a request or a WebSocket's handshake. Raises `Problem`, `Unavailable`."""
        asked = asked_of(connection)
        try:
            rules = await self._file.current()
            credential = credential_of(asked)
            principal = await self._principal(credential, rules)
            if credential.way == "cookie":
                check_origin(asked, rules.origins)
        except Refused as refused:
            if not refused.missing:
                _log.info("a credential was refused", reason=str(refused), path=connection.scope["path"])
            challenge = 'Bearer realm="playhead"' + ("" if refused.missing else ', error="invalid_token"')
            headers = {"WWW-Authenticate": challenge}
            raise Problem(401, "unauthenticated", str(refused), headers=headers) from None
        except NotAllowedHere as refused:
            raise Problem(403, "origin-not-allowed", str(refused)) from None
        connection.scope[WAY] = credential.way
        return principal

    def ticket(self, principal: Principal, session: SessionId) -> tuple[str, float]:
        """Sign a ticket for one session, and say until when it can be redeemed. Raises `Problem`."""
        expires_at = min(self._now + TICKET_SECONDS, principal.expires_at)
        return ticket_text(Ticket(session, standing_of(principal), expires_at), self._secrets), expires_at

    def cookie(self, principal: Principal) -> tuple[str, float]:
        """Sign a cookie, and say until when it is good: no longer than what it is made with. Raises `Problem`."""
        standing = standing_of(principal)
        key = None if standing.key is None else self.rules.keys.get(standing.key)
        # Not the principal's own end: its streams end now and then, so that its key is asked for again.
        until = principal.expires_at if key is None else key.expires_at
        expires_at = min(self._now + self.rules.cookie_seconds, until)
        return cookie_text(Cookie(standing, expires_at), self._secrets), expires_at

    def seconds_until(self, when: float) -> int:
        """Count the whole seconds until then."""
        return max(0, int(when - self._now))

    def quotas(self, key: str | None, tenant: str | None) -> Quotas:
        """Give what may be taken with a key, by a principal's `key`, or if that is None by all of a tenant together."""
        if key is not None:
            found = self.rules.keys.get(key.removeprefix(KEY_MARK)) if key.startswith(KEY_MARK) else None
            return UNBOUNDED if found is None else found.granted.quotas
        granted = self.rules.tenants.get(tenant or "")
        return UNBOUNDED if granted is None else granted.quotas

    @property
    def _now(self) -> float:
        return self._clock() / 1_000_000

    @property
    def _secrets(self) -> Secrets:
        if not self.rules.secrets:
            detail = "this gateway signs nothing: name a secret under `secrets` in its access file"
            raise Problem(503, "signing-not-configured", detail)
        return self.rules.secrets

    async def _principal(self, credential: Credential, rules: Rules) -> Principal:
        now, text = self._now, credential.text
        match credential.way:
            case "header" if text.startswith(PREFIX):
                key = find_key(text, rules.keys)
                if key is None:
                    raise Refused("the API key is not known, or was taken back")
                return _of_key(key, rules, now)
            case "header":
                if rules.issuer is None:
                    raise Refused("this is no API key, and tokens are not taken here")
                return _of_token(await self._tokens.standing(text, rules.issuer, now), rules)
            case "ticket":
                ticket = read_ticket(text, rules.secrets, now)
                if ticket is None:
                    raise Refused("the ticket is not good, or was not used in time: get a new one")
                principal = _of_standing(ticket.standing, rules, now)
                return replace(principal, session=ticket.session, scopes=principal.scopes & TICKET_SCOPES)
            case "cookie":
                cookie = read_cookie(text, rules.secrets, now)
                if cookie is None:
                    raise Refused("the cookie is not good, or has ended: get a new one")
                principal = _of_standing(cookie.standing, rules, now)
                return replace(principal, expires_at=min(principal.expires_at, cookie.expires_at))
        assert_never(credential.way)


def asked_of(connection: HTTPConnection) -> Asked:
    """Take from a request what says who asks."""
    headers, scope = connection.headers, connection.scope
    return Asked(
        method=scope.get("method", "WEBSOCKET") if scope["type"] == "http" else "WEBSOCKET",
        scheme=scope["scheme"],
        host=headers.get("host", ""),
        origin=headers.get("origin"),
        authorization=tuple(headers.getlist("authorization")),
        api_key=tuple(headers.getlist("x-api-key")),
        cookie="; ".join(headers.getlist("cookie")),
        ticket=tuple(connection.query_params.getlist("ticket")),
    )


def credential_way(connection: HTTPConnection) -> str | None:
    """Say how the credential came of a request that was admitted: `header`, `ticket` or `cookie`."""
    return connection.scope.get(WAY)


def _of_key(key: Key, rules: Rules, now: float) -> Principal:
    if now >= key.expires_at:
        raise Refused("the API key has expired")
    # A key can be taken back at any time, so what it opened ends now and then, and is asked for again.
    expires_at = min(key.expires_at, now + rules.stream_seconds)
    tenant = rules.tenants.get(key.tenant or "", Tenant())
    return Principal(
        key.name,
        key.tenant,
        key.scopes,
        f"{KEY_MARK}{key.id}",
        agents=_first(key.granted.agents, tenant.agents),
        pools=_first(key.granted.pools, tenant.pools),
        expires_at=expires_at,
    )


def _of_token(standing: Standing, rules: Rules) -> Principal:
    tenant = rules.tenants.get(standing.tenant or "", Tenant())
    return Principal(
        standing.name,
        standing.tenant,
        standing.scopes,
        f"{TOKEN_MARK}{standing.name}",
        agents=_first(tenant.agents),
        pools=_first(tenant.pools),
        expires_at=standing.until,
    )


def _of_standing(standing: Standing, rules: Rules, now: float) -> Principal:
    """Give whom a signed text stands for, by the rules as they are now. Raises `Refused`."""
    if standing.key is None:
        if rules.issuer is None or now >= standing.until:
            raise Refused("what this was made with has ended")
        return _of_token(standing, rules)
    key = rules.keys.get(standing.key)
    if key is None:
        raise Refused("the API key that this was made with was taken back")
    return _of_key(key, rules, now)


def _first(*patterns: tuple[str, ...] | None) -> tuple[str, ...]:
    """Give the first list that there is, and be it empty: that is none, not any."""
    return next((one for one in patterns if one is not None), ANY)
