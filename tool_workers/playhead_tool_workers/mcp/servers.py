"""What an operator says of MCP servers: how to reach them, what secrets they get, what of theirs is offered.

Values and their parsing. Secrets are named by reference, `env:NAME` or `file:PATH`, and resolved once, at the start.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Literal, cast
from urllib.parse import urlsplit

from playhead.errors import Misconfigured
from playhead.secrets import resolve

__all__ = ["Offer", "Server", "servers_of"]

NAMED = re.compile(r"([A-Za-z0-9_-]{1,40})=(?=\S)(.*)", re.DOTALL)
VARIABLE = re.compile(r"(?:([A-Za-z0-9_-]{1,40})\.)?([A-Za-z_][A-Za-z0-9_]*)=(\S+)")
HEADER = re.compile(r"(?:([A-Za-z0-9_-]{1,40})=)?((?:env|file):\S+)")

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

EFFECTS = ("read", "write", "once")


@dataclass(frozen=True, slots=True)
class Server:
    """A server: a command that speaks MCP on its standard streams, or a URL. Its name begins its tools' names."""

    name: str | None
    command: tuple[str, ...] = ()
    url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    authorization: str | None = field(default=None, repr=False)
    """The value of the `Authorization` header."""

    @property
    def label(self) -> str:
        """How it is called in messages: without arguments, paths and queries, which may carry secrets."""
        if self.url is None:
            program = PurePath(self.command[0]).name
            where = f"`{program} …`" if self.command[1:] else f"`{program}`"
        else:
            parts = urlsplit(self.url)
            where = f"{parts.scheme}://{parts.netloc}"
        return f"MCP server {where}" if self.name is None else f"MCP server {self.name} ({where})"

    @property
    def secrets(self) -> Mapping[str, str]:
        """What must not be seen anywhere, by name."""
        header = {} if self.authorization is None else {"authorization": self.authorization.rpartition(" ")[2]}
        return {**self.environment, **header}


@dataclass(frozen=True, slots=True)
class Offer:
    """What of the servers' tools is offered, and how. Raises `Misconfigured`.

    `allow` are globs of the servers' own names of tools; without any, all are offered. `effects` are globs of the names
    that agents see, each with the effect that wins over the server's hints; of several that match, the first.
    """

    pool: str = "mcp"
    allow: tuple[str, ...] = ()
    effects: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 60.0

    @classmethod
    def parse(cls, pool: str, *, allow: Sequence[str], effects: Sequence[str], timeout_seconds: float = 60.0) -> Offer:
        """Read globs and `GLOB=EFFECT`."""
        pairs: list[tuple[str, str]] = []
        for text in effects:
            pattern, _, effect = text.rpartition("=")
            if not pattern or effect not in EFFECTS:
                raise Misconfigured(
                    f"--mcp-effect {text!r}: write `TOOL=read`, `=write` or `=once`; TOOL may be a glob"
                )
            pairs.append((pattern, effect))
        return cls(pool, tuple(allow), tuple(pairs), timeout_seconds)

    def allows(self, own_name: str) -> bool:
        """Tell whether a tool is offered at all."""
        return not self.allow or any(fnmatchcase(own_name, pattern) for pattern in self.allow)

    def effect_of(self, name: str) -> Literal["read", "write", "once"] | None:
        """Give the effect that the operator says, if one is said."""
        said = (effect for pattern, effect in self.effects if fnmatchcase(name, pattern))
        return cast("Literal['read', 'write', 'once'] | None", next(said, None))


def servers_of(
    specs: Sequence[str], *, variables: Sequence[str], headers: Sequence[str], environment: Mapping[str, str]
) -> tuple[Server, ...]:
    """Read `[NAME=]COMMAND` and `[NAME=]URL`, and what each is given. Raises `Misconfigured`.

    `variables` are `[SERVER.]NAME=env:X`, `headers` `[SERVER=]file:Y`; the server is named where there are several.
    """
    servers = [_server(spec) for spec in specs]
    names = [server.name for server in servers if server.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise Misconfigured(f"two MCP servers are named {name!r}: give each its own NAME=…")
    for text in variables:
        found = VARIABLE.fullmatch(text)
        if found is None:
            raise Misconfigured("--mcp-env: write `NAME=env:VARIABLE` or `SERVER.NAME=file:PATH`")
        at = _which(servers, found[1], "--mcp-env")
        values = resolve({found[2]: found[3]}, environment)
        servers[at] = replace(servers[at], environment={**servers[at].environment, **values})
    for text in headers:
        found = HEADER.fullmatch(text)
        if found is None:
            raise Misconfigured("--mcp-auth: write `env:VARIABLE`, `file:PATH` or `SERVER=env:VARIABLE`")
        at = _which(servers, found[1], "--mcp-auth")
        value = resolve({"authorization": found[2]}, environment)["authorization"].strip()
        servers[at] = replace(servers[at], authorization=_header(value))
    for server in servers:
        _refuse_misplaced(server)
    return tuple(servers)


def _server(spec: str) -> Server:
    named = NAMED.fullmatch(spec.strip())
    name, what = (named[1], named[2].strip()) if named else (None, spec.strip())
    if what.lower().startswith(("https://", "http://")):
        parts = urlsplit(what)
        if "@" in parts.netloc:
            raise Misconfigured("--mcp: a URL carries no password; give it by --mcp-auth")
        if not parts.hostname:
            raise Misconfigured(f"--mcp {what!r} names no host")
        return Server(name, url=what)
    try:
        command = tuple(shlex.split(what))
    except ValueError as error:
        raise Misconfigured(f"--mcp {what!r} is not a command line: {error}") from error
    if not command:
        raise Misconfigured("--mcp is a command or a URL, perhaps with a name: `files=npx -y some-server /data`")
    return Server(name, command)


def _which(servers: Sequence[Server], name: str | None, flag: str) -> int:
    fitting = [at for at, server in enumerate(servers) if name is None or server.name == name]
    if len(fitting) == 1:
        return fitting[0]
    if name is None:
        raise Misconfigured(
            f"{flag}: there are {len(servers)} MCP servers; say which one, by the NAME= it has in --mcp"
        )
    known = ", ".join(server.name for server in servers if server.name) or "none"
    raise Misconfigured(f"{flag}: no --mcp is named {name!r}; named are: {known}")


def _header(value: str) -> str:
    return value if " " in value else f"Bearer {value}"


def _refuse_misplaced(server: Server) -> None:
    if server.url is not None and server.environment:
        raise Misconfigured(f"{server.label}: --mcp-env is for commands; a URL has --mcp-auth")
    if server.authorization is None:
        return
    if server.url is None:
        raise Misconfigured(f"{server.label}: --mcp-auth is for URLs; a command has --mcp-env")
    if not server.authorization.isprintable() or not server.authorization.isascii():
        raise Misconfigured(f"{server.label}: the value of --mcp-auth cannot be in a header")
    parts = urlsplit(server.url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise Misconfigured(f"{server.label}: --mcp-auth would be sent unencrypted; use https")
