"""What keys and tenants still may: requests at a rate, and so many sessions, runs and streams at once.

Each gateway counts for itself. Sessions and runs are counted by the directory, which all gateways see a moment late.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from playhead.ids import SessionId
from playhead.options import RateLimit

from playhead_gateway.catalog import Catalog
from playhead_gateway.principal import Principal
from playhead_gateway.problems import Problem
from playhead_gateway.quotas import Buckets, Quotas, rate_headers

__all__ = ["Allowances", "QuotasOf"]

BUCKETS_MAX = 20_000
BEGUN_SECONDS = 3.0
"""How long what was begun here is counted although the directory does not show it yet."""
BEGUN_MAX = 10_000
SOON = {"Retry-After": "1"}

QuotasOf = Callable[[str | None, str | None], Quotas]
"""Gives the quotas of a principal's key, or if that is None of a tenant."""


class Allowances:
    """One gateway's count."""

    def __init__(self, quotas_of: QuotasOf | None, catalog: Catalog, now: Callable[[], float] = time.monotonic) -> None:
        self._quotas_of = quotas_of
        self._catalog = catalog
        self._now = now
        self._buckets = Buckets(BUCKETS_MAX)
        self._begun: OrderedDict[SessionId, tuple[str, float]] = OrderedDict()

    def request(self, principal: Principal, *, writes: bool) -> Mapping[str, str]:
        """Count a request, and give the headers that say what is left. Raises `Problem`."""
        if self._quotas_of is None:
            return {}
        wanted: list[tuple[str, str, RateLimit]] = []
        for kind, whose, quotas in self._of(principal, self._quotas_of):
            if quotas.requests is not None:
                wanted.append((f"{kind}-requests", whose, quotas.requests))
            if quotas.messages is not None and writes:
                wanted.append((f"{kind}-messages", whose, quotas.messages))
        levels, empty = self._buckets.take(wanted, self._now())
        headers = rate_headers(levels, empty)
        if empty is not None:
            detail = f"there may be {empty.limit.count} in {empty.limit.seconds:g} s: {empty.name} of this credential"
            raise Problem(429, "rate-limited", detail, headers=headers, policy=empty.name)
        return headers

    def streams(self, principal: Principal) -> list[tuple[str, int]]:
        """Give by what name a stream of somebody is counted, and how many of that name there may be at once."""
        if self._quotas_of is None:
            return []
        found = self._of(principal, self._quotas_of)
        return [(f"{kind} {whose}", quotas.streams) for kind, whose, quotas in found if quotas.streams is not None]

    def begin(self, session: SessionId, tenant: str | None, *, is_new: bool, runs: bool) -> None:
        """Count a session that begins, or one in which a run does. Raises `Problem`."""
        quotas = None if self._quotas_of is None or tenant is None else self._quotas_of(None, tenant)
        if quotas is None or tenant is None:
            return
        begun = self._begun_of(tenant)
        count = self._catalog.count(tenant)
        line = self._catalog.listed(session)
        fresh = sum(1 for one in begun if self._catalog.listed(one) is None)
        if is_new and line is None and session not in begun and _is_over(quotas.sessions, count.open + fresh):
            detail = f"this tenant may have {quotas.sessions} sessions open: close some"
            raise Problem(429, "too-many-sessions", detail, headers=SOON)
        going = sum(1 for one in begun if (seen := self._catalog.listed(one)) is None or seen.status == "idle")
        is_going = session in begun or (line is not None and line.status in ("running", "waiting"))
        if runs and not is_going and _is_over(quotas.runs, count.running + going):
            detail = f"this tenant may have {quotas.runs} runs going at once: wait for one to end"
            raise Problem(429, "too-many-runs", detail, headers=SOON)
        if runs or is_new:
            self._begun[session] = (tenant, self._now() + BEGUN_SECONDS)
            self._begun.move_to_end(session)
            if len(self._begun) > BEGUN_MAX:
                self._begun.popitem(last=False)

    def _begun_of(self, tenant: str) -> set[SessionId]:
        now = self._now()
        while self._begun and next(iter(self._begun.values()))[1] <= now:
            self._begun.popitem(last=False)
        return {session for session, (whose, _) in self._begun.items() if whose == tenant}

    def _of(self, principal: Principal, quotas_of: QuotasOf) -> list[tuple[str, str, Quotas]]:
        found = [("key", principal.key, quotas_of(principal.key, principal.tenant))]
        if principal.tenant is not None:
            found.append(("tenant", principal.tenant, quotas_of(None, principal.tenant)))
        return found


def _is_over(most: int | None, count: int) -> bool:
    return most is not None and count >= most
