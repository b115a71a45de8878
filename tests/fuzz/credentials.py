"""What a stranger says of who he is: headers, cookies, tickets, tokens of an issuer, and the issuer's own keys."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from playhead.errors import Unavailable
from playhead.ids import parse_session_id
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.cookies import Cookie, cookie_text
from playhead_gateway.access.jwks import KeySet
from playhead_gateway.access.standing import Standing
from playhead_gateway.access.tickets import Ticket, ticket_text
from playhead_gateway.problems import Problem
from starlette.requests import HTTPConnection

from tests.fuzz.target import Run, Target
from tests.gateway.access.support import (
    SECONDS,
    SECRETS,
    Signer,
    a_key,
    access_file,
    authenticator,
    issuer_table,
    key_table,
)

__all__ = ["TARGETS"]

SESSION = parse_session_id("ses_" + "s" * 26)
KEY = a_key(1)
SIGNER = Signer("EdDSA", "ed")
STANDING = Standing(KEY.id, "ci", None, frozenset({"sessions:read"}), SECONDS + 300)
TOKEN = SIGNER.token()
TICKET = ticket_text(Ticket(SESSION, STANDING, SECONDS + 30), SECRETS)
COOKIE = cookie_text(Cookie(STANDING, SECONDS + 30), SECRETS)

GOOD = (KEY.text, TOKEN.rpartition(".")[0], TICKET, COOKIE)
"""What opens the door. Of a token the signature is left out, whose last character has several spellings."""


def connection_of(data: bytes) -> HTTPConnection:
    """Make a request of lines: the query, and headers."""
    query, *lines = data.split(b"\n")
    pairs = [line.partition(b":") for line in lines]
    scope = {"type": "http", "method": "GET", "scheme": "https", "path": "/", "query_string": query, "server": None,
             "client": None,
             "headers": [(name.strip().lower(), value.strip()) for name, _, value in pairs]}  # fmt: skip
    return HTTPConnection(scope)


@contextmanager
def door() -> Generator[Run, None, None]:
    """Open to a credential that is in what was sent, and refuse all else with 401 or 403."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        keys = Path(folder) / "keys.json"
        keys.write_bytes(orjson.dumps({"keys": [SIGNER.public]}))
        path = access_file(Path(folder), key_table(KEY), issuer_table(f"file:{keys}"))
        asks: Authenticator = authenticator(path, check_seconds=1e9)

        def run(data: bytes) -> None:
            try:
                loop.run(asks(connection_of(data)))
            except Problem as problem:
                assert problem.status in (401, 403), problem.status
            else:
                # Percent signs and the case of hex digits are the query's affair.
                assert any(good.encode() in data for good in GOOD) or b"ticket=" in data, "who is that?"

        yield run


def door_seeds() -> list[bytes]:
    return [
        f"\nauthorization: Bearer {KEY.text}".encode(),
        f"\nauthorization: Bearer {TOKEN}".encode(),
        f"\nx-api-key: {KEY.text}".encode(),
        f"ticket={TICKET}\nhost: g".encode(),
        f"\ncookie: a=b; __Host-playhead={COOKIE}\nhost: gateway.example\norigin: https://gateway.example".encode(),
        f"\nhost: [::1]:80\ncookie: __Host-playhead={COOKIE}".encode(),
    ]


@contextmanager
def tokens() -> Generator[Run, None, None]:
    """Refuse a token that the issuer has not signed, whatever its header says; and take no claim on trust.

    The first line is the header, the second the claims; both are encoded as they are. Signed, they stand for somebody
    or are refused; unsigned, they are refused.
    """
    with door() as inner, tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        keys = Path(folder) / "keys.json"
        keys.write_bytes(orjson.dumps({"keys": [SIGNER.public]}))
        asks = authenticator(access_file(Path(folder), issuer_table(f"file:{keys}")), check_seconds=1e9)

        def run(data: bytes) -> None:
            header, _, claims = data.partition(b"\n")
            said = _plain(header) + b"." + _plain(claims)
            inner(b"\nauthorization: Bearer " + said + b"." + TOKEN.rpartition(".")[2].encode())
            signed = said + b"." + _plain(SIGNER.key.sign(said))
            try:
                who = loop.run(asks(connection_of(b"\nauthorization: Bearer " + signed)))
            except Problem as problem:
                assert problem.status == 401
            else:
                assert who.expires_at > SECONDS
                orjson.dumps({"name": who.name, "tenant": who.tenant})

        yield run


def token_seeds() -> list[bytes]:
    headers = [
        {"alg": "EdDSA", "kid": "ed", "typ": "JWT"},
        {"alg": "none"},
        {"alg": "EdDSA", "crit": ["b64"], "b64": False},
    ]
    claims = {
        "iss": "https://login.example",
        "aud": "playhead",
        "sub": "ada",
        "exp": SECONDS + 300,
        "nbf": 1,
        "scope": "a b",
    }
    several: dict[str, object] = {**claims, "aud": ["playhead", "x"], "scope": ["sessions:read"]}
    return [orjson.dumps(header) + b"\n" + orjson.dumps(one) for header in headers for one in (claims, several)]


@contextmanager
def key_sets() -> Generator[Run, None, None]:
    """Keep the keys of a set that can be used, or the ones from before."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        path, now = Path(folder) / "keys.json", 0.0

        def run(data: bytes) -> None:
            nonlocal now
            now += 1e6
            path.write_bytes(data)
            known = KeySet(f"file:{path}", frozenset({"EdDSA", "ES256", "RS256"}), lambda: now)
            for kid in ("ed", None):
                with suppress(Unavailable):
                    loop.run(known.key(kid))

        yield run


def key_set_seeds() -> list[bytes]:
    others = [Signer("ES256", "ec").public, Signer("RS256", "rsa").public]
    sets: list[object] = [
        {"keys": [SIGNER.public]},
        {"keys": [SIGNER.public, *others, {"kty": "oct", "k": "c2VjcmV0"}]},
    ]
    return [orjson.dumps(one) for one in sets]


def _plain(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


TARGETS = (
    Target("credentials", door, door_seeds, 1500, 8 * 1024),
    Target("tokens", tokens, token_seeds, 600, 8 * 1024),
    Target("issuer-keys", key_sets, key_set_seeds, 200, 64 * 1024),
)
