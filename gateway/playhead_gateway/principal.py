"""Who asks, and what he may. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from typing import Literal, get_args

from playhead.ids import SessionId

__all__ = ["LOCAL", "SCOPES", "Principal", "Scope"]

Scope = Literal["sessions:read", "sessions:write", "approve", "audit", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whom a credential names.

    He sees the sessions of his `tenant`; without one, those that have none, and with the scope `admin` all. `session`
    is the only one that his credential is for, if it is for one alone. `agents` and `pools` are patterns of the names
    that he may use. `key` is what limits count him by. `expires_at` is in seconds since the epoch.
    """

    name: str
    tenant: str | None = None
    scopes: frozenset[Scope] = frozenset()
    key: str = ""
    session: SessionId | None = None
    agents: tuple[str, ...] = ("*",)
    pools: tuple[str, ...] = ("*",)
    expires_at: float = inf

    @property
    def sees_all(self) -> bool:
        """Whether no session is hidden from him."""
        return self.tenant is None and "admin" in self.scopes

    def sees(self, tenant: str | None) -> bool:
        """Tell whether he may know of a session of this tenant."""
        return self.sees_all or tenant == self.tenant

    def may_use_agent(self, name: str) -> bool:
        """Tell whether an agent is for him."""
        return any(fnmatchcase(name, pattern) for pattern in self.agents)

    def may_use_pool(self, name: str) -> bool:
        """Tell whether the tools of a pool are for him."""
        return any(fnmatchcase(name, pattern) for pattern in self.pools)


LOCAL = Principal("user", scopes=SCOPES)
"""Who asks where nobody is asked who he is."""
