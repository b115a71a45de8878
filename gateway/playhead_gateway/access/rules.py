"""The access file: the API keys, tenants, token issuer, origins and secrets of a deployment, in TOML.

Reading it is pure but for the secrets that it refers to. What is wrong is said with its place, never with its value.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from playhead.errors import Misconfigured
from playhead.options import RateLimit
from playhead.secrets import resolve
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from playhead_gateway.access.cookies import is_loopback
from playhead_gateway.access.keys import HASH, KEY_ID
from playhead_gateway.principal import Scope
from playhead_gateway.quotas import Quotas

__all__ = ["Algorithm", "Claims", "Issuer", "Key", "Rules", "Tenant", "read_rules"]

KEYS_MAX = 10_000
SECRET_CHARS_MIN = 32
LEEWAY_SECONDS_MAX = 60

Algorithm = Literal["EdDSA", "ES256", "RS256"]
"""Signatures by a private key that the issuer alone has. What needs a shared secret, or none, is not on the list."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:@/|+-]{0,127}")
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:]+\](?::[0-9]{1,5})?")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is up to 128 letters, digits, spaces and `._:@/|+-`")
    return value


def _hash(value: str) -> str:
    if not HASH.fullmatch(value):
        raise ValueError(
            "a hash is `sha256:` and 64 hex digits, as `playhead keys new` prints it; never the key itself"
        )
    return value


def _key_id(value: str) -> str:
    if not KEY_ID.fullmatch(value):
        raise ValueError("an id is the 16 characters between `phk_` and the next `_` of a key")
    return value


def _origin(value: str) -> str:
    if not ORIGIN.fullmatch(value):
        raise ValueError("an origin is exactly `https://host` or `https://host:port`, in small letters; `*` is none")
    return value


def _source(value: str) -> str:
    parts = urlsplit(value)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    if not (is_safe and parts.hostname) and not value.startswith("file:/"):
        raise ValueError("keys are at an https:// URL, or in a file, as file:/path")
    return value


def _rate(value: str) -> str:
    try:
        if RateLimit.parse(value).per != "tool":
            raise ValueError("whom a rate is for is said by where it stands")
    except Misconfigured as error:
        raise ValueError(str(error)) from error
    return value


Name = Annotated[str, AfterValidator(_name)]
Rate = Annotated[str, AfterValidator(_rate)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Patterns = Annotated[tuple[str, ...], Field(max_length=1000)]


class _Part(BaseModel):
    """A table of the file. A misspelt entry is refused: a limit must not be lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _KeyQuotas(_Part):
    requests: Rate | None = None
    messages: Rate | None = None
    streams: Count | None = None


class _Quotas(_KeyQuotas):
    """The log knows whose tenant's a session is, and not which key began it."""

    sessions: Count | None = None
    runs: Count | None = None


class _Granting(_Part):
    agents: Patterns | None = None
    pools: Patterns | None = None


class _Tenant(_Granting):
    limits: _Quotas = _Quotas()


class _Key(_Granting):
    limits: _KeyQuotas = _KeyQuotas()
    id: Annotated[str, AfterValidator(_key_id)]
    name: Name
    hash: Annotated[str, AfterValidator(_hash)]
    tenant: Name | None = None
    scopes: frozenset[Scope]
    expires_at: AwareDatetime | None = None


class Claims(_Part):
    """Which claims of a token say what. Without one for the tenant, who comes with a token has none."""

    name: str = "sub"
    tenant: str | None = None
    scopes: str = "scope"


class Issuer(_Part):
    """Whose tokens are good, and where the keys are that they are signed with."""

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    keys: Annotated[str, AfterValidator(_source)]
    algorithms: frozenset[Algorithm] = Field(frozenset({"EdDSA", "ES256", "RS256"}), min_length=1)
    leeway_seconds: int = Field(30, ge=0, le=LEEWAY_SECONDS_MAX)
    type: str | None = None
    """What `typ` in a token's header must be, such as `at+jwt`; any unless set."""
    claims: Claims = Claims()


class _File(_Part):
    origins: frozenset[Annotated[str, AfterValidator(_origin)]] = frozenset()
    secrets: tuple[str, ...] = ()
    cookie_seconds: int = Field(12 * 3600, ge=60, le=30 * 86_400)
    stream_seconds: int = Field(3600, ge=10, le=30 * 86_400)
    keys: Annotated[tuple[_Key, ...], Field(max_length=KEYS_MAX)] = ()
    tenants: dict[Name, _Tenant] = {}
    jwt: Issuer | None = None

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        twice = [name for name, count in Counter(key.id for key in self.keys).items() if count > 1]
        if twice:
            raise ValueError(f"two keys have the id {twice[0]}")
        return self


@dataclass(frozen=True, slots=True)
class Tenant:
    """What is granted to a tenant; agents and pools are patterns, `None` is any."""

    agents: tuple[str, ...] | None = None
    pools: tuple[str, ...] | None = None
    quotas: Quotas = field(default_factory=Quotas)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, as far as it is kept. Where it names agents or pools of its own, these count and its tenant's not."""

    id: str
    name: str
    hash: str = field(repr=False)
    tenant: str | None
    scopes: frozenset[Scope]
    expires_at: float
    granted: Tenant


@dataclass(frozen=True, slots=True)
class Rules:
    """The access file, read. `stream_seconds` is how long a key's streams go on until it is asked for again."""

    keys: Mapping[str, Key]
    tenants: Mapping[str, Tenant]
    issuer: Issuer | None
    origins: frozenset[str]
    secrets: tuple[bytes, ...] = field(repr=False)
    cookie_seconds: int
    stream_seconds: int


def read_rules(text: str, environment: Mapping[str, str]) -> Rules:
    """Read an access file and the secrets that it names. Raises `Misconfigured`."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"the access file is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Misconfigured(f"the access file, {place}: {first['msg']}") from error
    return Rules(
        {key.id: _key(key) for key in file.keys},
        {name: _granted(tenant) for name, tenant in file.tenants.items()},
        file.jwt,
        file.origins,
        _secrets(file.secrets, environment),
        file.cookie_seconds,
        file.stream_seconds,
    )


def _key(key: _Key) -> Key:
    return Key(key.id, key.name, key.hash, key.tenant, key.scopes, _seconds(key.expires_at), _granted(key))


def _granted(table: _Tenant | _Key) -> Tenant:
    limits = table.limits
    requests, messages = (
        None if text is None else RateLimit.parse(text) for text in (limits.requests, limits.messages)
    )
    sessions, runs = (limits.sessions, limits.runs) if isinstance(limits, _Quotas) else (None, None)
    return Tenant(table.agents, table.pools, Quotas(requests, messages, limits.streams, sessions, runs))


def _seconds(when: datetime | None) -> float:
    return inf if when is None else when.timestamp()


def _secrets(references: tuple[str, ...], environment: Mapping[str, str]) -> tuple[bytes, ...]:
    values = resolve({f"secret-{place}": one for place, one in enumerate(references, 1)}, environment)
    for name, value in values.items():
        if len(value) < SECRET_CHARS_MIN:
            raise Misconfigured(
                f"the access file, {name}: what tickets and cookies are signed with has at least {SECRET_CHARS_MIN} "
                "characters (`openssl rand -hex 32` makes one)"
            )
    return tuple(value.encode() for value in values.values())
