"""Tokens of an issuer: only those that it signed, for us, now; with keys that come and go."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playhead.errors import Unavailable
from playhead_gateway.access.claims import standing_from
from playhead_gateway.access.jwks import JWKS_BYTES_MAX, KEEP_SECONDS, REFETCH_SECONDS, STALE_SECONDS
from playhead_gateway.access.refusals import Refused
from playhead_gateway.access.rules import Issuer, read_rules
from playhead_gateway.access.tokens import Tokens

from tests.gateway.access.issuer import KeyServer, key_server
from tests.gateway.access.support import AUDIENCE, ISSUER, SECONDS, Signer, issuer_table

ED, EC, RSA = Signer("EdDSA", "ed"), Signer("ES256", "ec"), Signer("RS256", "rsa")


class Clock:
    """A monotonic clock that a test turns on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys() -> AsyncGenerator[KeyServer, None]:
    async with key_server(ED, EC, RSA) as server:
        yield server


def issuer(url: str, more: str = "", claims: str = "") -> Issuer:
    found = read_rules(issuer_table(url, more, claims), {}).issuer
    assert found is not None
    return found


async def refusal(token: str, of: Issuer, clock: Clock) -> str:
    with pytest.raises(Refused) as refused:
        await Tokens(clock).standing(token, of, SECONDS)
    return str(refused.value)


@pytest.mark.parametrize("signer", [ED, EC, RSA], ids=lambda signer: signer.algorithm)
async def test_a_token_that_the_issuer_signed_says_who_sent_it(signer: Signer, keys: KeyServer, clock: Clock) -> None:
    token = signer.token(scope="openid sessions:read approve", org="acme", exp=SECONDS + 100)
    found = await Tokens(clock).standing(token, issuer(keys.url, claims='tenant = "org"'), SECONDS)
    assert (found.name, found.tenant, found.scopes) == ("ada", "acme", {"sessions:read", "approve"})
    assert found.until == SECONDS + 100 + 30


async def test_the_names_of_claims_are_the_operators(keys: KeyServer, clock: Clock) -> None:
    claims = 'name = "email"\nscopes = "https://playhead/roles"'
    token = ED.token(email="ada@x.example", **{"https://playhead/roles": ["audit", "sessions:read", 3, "else"]})
    found = await Tokens(clock).standing(token, issuer(keys.url, claims=claims), SECONDS)
    assert (found.name, found.tenant, found.scopes) == ("ada@x.example", None, {"audit", "sessions:read"})


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "else"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": ["else", "more"]}, "another audience"),
        ({"exp": None}, "no end"),
        ({"exp": SECONDS - 31}, "expired"),
        ({"exp": True}, "no time"),
        ({"exp": (SECONDS + 300) * 1000}, "no time"),
        ({"nbf": SECONDS + 31}, "not good yet"),
        ({"sub": None}, "sub"),
        ({"sub": "new\nline"}, "sub"),
        ({"org": None}, "org"),
        ({"org": ["acme"]}, "org"),
        ({"org": ""}, "org"),
    ],
)
async def test_a_token_that_is_not_for_here_and_now_is_refused(
    claims: dict[str, Any], reason: str, keys: KeyServer, clock: Clock
) -> None:
    of = issuer(keys.url, claims='tenant = "org"')
    assert (await Tokens(clock).standing(ED.token(org="acme"), of, SECONDS)).tenant == "acme"
    assert reason in await refusal(ED.token(**{"org": "acme", **claims}), of, clock)


def test_leeway_is_given_to_the_second_and_not_longer() -> None:
    of = issuer("https://login.example/jwks", "leeway_seconds = 10")
    claims = {"iss": ISSUER, "aud": [AUDIENCE, "else"], "sub": "ada", "exp": SECONDS, "nbf": SECONDS}
    assert standing_from(claims, of, SECONDS + 9.9).until == SECONDS + 10
    assert standing_from(claims, of, SECONDS - 10)
    for now in (SECONDS + 10, SECONDS - 10.1):
        with pytest.raises(Refused):
            standing_from(claims, of, now)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(place=st.integers(0, 10_000), other=st.sampled_from("ABCxyz019-_.=+/"))
def test_a_token_with_any_character_changed_is_refused(place: int, other: str, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(orjson.dumps({"keys": [ED.public]}))
    token = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": SECONDS + 9}, ED.key, "EdDSA", {"kid": "ed"}
    )
    place %= len(token)
    changed = token[:place] + other + token[place + 1 :]
    of = issuer(f"file:{path}")
    with suppress(Refused):
        asyncio.run(Tokens().standing(changed, of, SECONDS))
        assert _decoded(changed) == _decoded(token)  # the last character of a part has spellings of the same bytes


def _decoded(token: str) -> list[bytes | None]:
    def part(text: str) -> bytes | None:
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None

    return [part(text) for text in token.split(".")]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _part(value: dict[str, Any]) -> str:
    return _text(orjson.dumps(value))


async def test_a_token_without_a_signature_or_with_one_by_the_public_key_is_refused(
    keys: KeyServer, clock: Clock
) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": SECONDS + 300}
    nothing = jwt.encode(claims, "", "none", {"kid": "rsa"})
    public = RSA.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'kid': 'rsa'})}.{_part(claims)}"  # a good library refuses to make this one
    shared = f"{signed}.{_text(hmac.digest(public, signed.encode(), 'sha256'))}"
    for token in (nothing, shared):
        assert "not one that this issuer signed" in await refusal(token, issuer(keys.url), clock)


async def test_an_algorithm_that_is_not_on_the_list_or_not_the_keys_own_is_refused(
    keys: KeyServer, clock: Clock
) -> None:
    await refusal(RSA.token(), issuer(keys.url, 'algorithms = ["EdDSA", "ES256"]'), clock)
    await refusal(ED.token({"kid": "rsa"}), issuer(keys.url), clock)
    longer = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "exp": SECONDS + 9}, RSA.key, "RS512", {"kid": "rsa"})
    await refusal(longer, issuer(keys.url), clock)


async def test_where_a_token_says_that_its_keys_are_is_never_looked_at(keys: KeyServer, clock: Clock) -> None:
    """RFC 8725, 3.10"""
    mallory = Signer("EdDSA", "mallory")
    async with key_server(mallory) as elsewhere:
        for header in ("jku", "x5u"):
            await refusal(mallory.token({header: elsewhere.url}), issuer(keys.url), clock)
        await refusal(mallory.token({"jwk": mallory.public, "kid": "ed"}), issuer(keys.url), clock)
    assert elsewhere.asked == []


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"kid": 3}, {"kid": "k" * 300}])
async def test_a_header_that_cannot_be_followed_is_refused(
    header: dict[str, Any], keys: KeyServer, clock: Clock
) -> None:
    signed = f"{_part({'alg': 'EdDSA', 'kid': 'ed', **header})}.{ED.token().split('.')[1]}"
    await refusal(f"{signed}.{_text(ED.key.sign(signed.encode()))}", issuer(keys.url), clock)


async def test_the_type_is_asked_for_where_the_operator_wants_it(keys: KeyServer, clock: Clock) -> None:
    of = issuer(keys.url, 'type = "at+jwt"')
    assert "type" in await refusal(ED.token(), of, clock)
    assert await Tokens(clock).standing(ED.token({"typ": "AT+JWT"}), of, SECONDS)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "eyJ9.e30.x", "é" * 10, "x" * 9000])
async def test_what_is_no_token_is_merely_refused(token: str, keys: KeyServer, clock: Clock) -> None:
    await refusal(token, issuer(keys.url), clock)


async def test_a_new_key_is_found_and_one_that_is_left_out_is_forgotten(keys: KeyServer, clock: Clock) -> None:
    tokens, of = Tokens(clock), issuer(keys.url)
    await tokens.standing(ED.token(), of, SECONDS)
    later = Signer("EdDSA", "later")
    keys.signers = [later]
    clock.now += REFETCH_SECONDS
    await tokens.standing(later.token(), of, SECONDS)
    assert len(keys.asked) == 2
    with pytest.raises(Refused):
        await tokens.standing(ED.token(), of, SECONDS)


async def test_a_key_that_is_still_used_is_asked_for_again_after_a_while(keys: KeyServer, clock: Clock) -> None:
    tokens, of = Tokens(clock), issuer(keys.url)
    await tokens.standing(ED.token(), of, SECONDS)
    keys.signers = [EC]
    clock.now += KEEP_SECONDS - 1
    await tokens.standing(ED.token(), of, SECONDS)
    clock.now += 1
    with pytest.raises(Refused):
        await tokens.standing(ED.token(), of, SECONDS)


async def test_a_flood_of_unknown_keys_asks_the_issuer_once_in_a_while(keys: KeyServer, clock: Clock) -> None:
    tokens, of = Tokens(clock), issuer(keys.url)
    await tokens.standing(ED.token(), of, SECONDS)
    clock.now += REFETCH_SECONDS

    async def flood(number: int) -> None:
        with pytest.raises(Refused):
            await tokens.standing(ED.token({"kid": f"made up {number}"}), of, SECONDS)

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(flood(number))
    assert len(keys.asked) == 2


async def test_many_at_once_ask_the_issuer_once(keys: KeyServer, clock: Clock) -> None:
    tokens, of = Tokens(clock), issuer(keys.url)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(tokens.standing(ED.token(), of, SECONDS))
    assert len(keys.asked) == 1


async def test_an_issuer_that_is_away_is_no_fault_of_the_token_and_known_keys_go_on(
    keys: KeyServer, clock: Clock
) -> None:
    tokens, of = Tokens(clock), issuer(keys.url)
    keys.status = "503 Service Unavailable"
    with pytest.raises(Unavailable):
        await tokens.standing(ED.token(), of, SECONDS)
    keys.status = "200 OK"
    clock.now += REFETCH_SECONDS
    await tokens.standing(ED.token(), of, SECONDS)
    keys.status = "503 Service Unavailable"
    clock.now += KEEP_SECONDS
    await tokens.standing(ED.token(), of, SECONDS)
    clock.now += STALE_SECONDS
    with pytest.raises(Unavailable):
        await tokens.standing(ED.token(), of, SECONDS)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"keys": 3}', b"<html>", orjson.dumps({"keys": [ED.public]}) + b" " * JWKS_BYTES_MAX],
    ids=["nothing", "list", "empty", "number", "html", "too long"],
)
async def test_what_is_no_key_set_is_as_none(body: bytes, keys: KeyServer, clock: Clock) -> None:
    keys.body = body
    with pytest.raises(Unavailable):
        await Tokens(clock).standing(ED.token(), issuer(keys.url), SECONDS)


async def test_a_key_server_does_not_send_us_elsewhere(keys: KeyServer, clock: Clock) -> None:
    async with key_server(ED) as elsewhere:
        keys.status, keys.headers = "302 Found", f"Location: {elsewhere.url}\r\n"
        with pytest.raises(Unavailable):
            await Tokens(clock).standing(ED.token(), issuer(keys.url), SECONDS)
    assert elsewhere.asked == []


async def test_keys_that_cannot_be_used_do_not_spoil_the_others(keys: KeyServer, clock: Clock) -> None:
    shared = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}
    listed: list[Any] = [3, {}, {"kty": "?"}, shared, {**EC.public, "use": "enc"}, {"kty": "RSA"}, ED.public]
    keys.body = orjson.dumps({"keys": listed})
    tokens, of = Tokens(clock), issuer(keys.url)
    assert await tokens.standing(ED.token(), of, SECONDS)
    with pytest.raises(Refused):
        await tokens.standing(EC.token(), of, SECONDS)


async def test_a_token_that_names_no_key_is_held_against_the_only_one(keys: KeyServer, clock: Clock) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": SECONDS + 9}
    token = jwt.encode(claims, ED.key, "EdDSA")
    await refusal(token, issuer(keys.url), clock)
    keys.signers = [ED]
    assert await Tokens(clock).standing(token, issuer(keys.url), SECONDS)


async def test_keys_may_be_in_a_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(orjson.dumps({"keys": [ED.public]}))
    assert await Tokens(clock).standing(ED.token(), issuer(f"file:{path}"), SECONDS)
