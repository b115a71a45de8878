"""The access file: what it may say, and that a mistake in it is told with its place and never with its value."""

from __future__ import annotations

from math import inf

import pytest
from playhead.errors import Misconfigured
from playhead.options import RateLimit
from playhead_gateway.access.rules import Quotas, read_rules

from tests.gateway.access.support import ENVIRONMENT, a_key, issuer_table, key_table

KEY = a_key()


def test_all_that_a_file_may_say_is_read() -> None:
    rules = read_rules(
        'origins = ["https://app.example", "http://localhost:3000"]\n'
        'secrets = ["env:SECRET", "env:OLD_SECRET"]\ncookie_seconds = 600\nstream_seconds = 60\n'
        + key_table(
            KEY,
            more='tenant = "acme"\nexpires_at = 2030-01-01T00:00:00Z\nagents = ["support*"]\npools = []\n'
            'limits = { requests = "100/s", streams = 5 }\n',
        )
        + '[tenants.acme]\nagents = ["*"]\nlimits = { messages = "20/min", sessions = 7, runs = 2 }\n'
        + issuer_table("https://login.example/jwks", 'algorithms = ["EdDSA"]\nleeway_seconds = 10', 'tenant = "org"'),
        ENVIRONMENT,
    )
    key = rules.keys[KEY.id]
    assert (key.name, key.tenant, key.expires_at) == ("ci", "acme", 1893456000.0)
    assert (key.granted.agents, key.granted.pools) == (("support*",), ())
    assert key.granted.quotas == Quotas(requests=RateLimit(100), streams=5)
    assert rules.tenants["acme"].quotas == Quotas(messages=RateLimit(20, 60), sessions=7, runs=2)
    assert rules.secrets == (b"s" * 32, b"o" * 32)
    assert rules.issuer is not None
    assert (rules.issuer.claims.tenant, rules.issuer.algorithms) == ("org", frozenset({"EdDSA"}))
    assert rules.origins == {"https://app.example", "http://localhost:3000"}


def test_an_empty_file_lets_nobody_in_and_is_no_mistake() -> None:
    """Who takes the last key back writes such a file, and must be obeyed."""
    rules = read_rules("", {})
    assert (rules.keys, rules.issuer, rules.secrets) == ({}, None, ())


def test_a_key_without_an_end_has_none() -> None:
    assert read_rules(key_table(KEY), {}).keys[KEY.id].expires_at == inf


def test_no_hash_and_no_secret_is_shown() -> None:
    rules = read_rules('secrets = ["env:SECRET"]\n' + key_table(KEY), ENVIRONMENT)
    assert KEY.hash not in repr(rules)
    assert ENVIRONMENT["SECRET"] not in repr(rules)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("keys = 3 x", "not TOML"),
        ('[[keys]]\nid = "x"', "keys.0"),
        (key_table(KEY, scopes='["sessions:raed"]'), "scopes"),
        (key_table(KEY, scopes='["*"]'), "scopes"),
        (key_table(KEY, more='tenat = "acme"'), "tenat"),
        (key_table(KEY, more="expires_at = 2030-01-01T00:00:00"), "expires_at"),
        (key_table(KEY, more='limits = { request = "1/s" }'), "limits"),
        (key_table(KEY, more='limits = { requests = "fast" }'), "requests"),
        (key_table(KEY, more='limits = { requests = "1/s per tenant" }'), "requests"),
        (key_table(KEY, more="limits = { streams = -1 }"), "streams"),
        (key_table(KEY, name="new\\nline"), "name"),
        (key_table(KEY) * 2, KEY.id),
        ('origins = ["*"]', "origins"),
        ('origins = ["null"]', "origins"),
        ('origins = ["https://app.example/"]', "origins"),
        ('origins = ["https://*.example"]', "origins"),
        ('secrets = ["in plain text, which is no place for it"]', "secret-1"),
        ('secrets = ["env:NOT_THERE"]', "NOT_THERE"),
        ('secrets = ["env:SHORT"]', "at least 32"),
        (issuer_table("http://login.example/jwks"), "jwt.keys"),
        (issuer_table("file:relative.json"), "jwt.keys"),
        (issuer_table("https://login.example/jwks", 'algorithms = ["HS256"]'), "algorithms"),
        (issuer_table("https://login.example/jwks", 'algorithms = ["none"]'), "algorithms"),
        (issuer_table("https://login.example/jwks", "algorithms = []"), "algorithms"),
        (issuer_table("https://login.example/jwks", "leeway_seconds = 61"), "leeway_seconds"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, place: str) -> None:
    with pytest.raises(Misconfigured, match=place):
        read_rules(text, {**ENVIRONMENT, "SHORT": "short"})


def test_a_key_that_stands_where_its_hash_belongs_is_not_repeated_by_the_error() -> None:
    with pytest.raises(Misconfigured, match="never the key itself") as raised:
        read_rules(key_table(KEY).replace(KEY.hash, KEY.text), {})
    assert KEY.text not in str(raised.value)
