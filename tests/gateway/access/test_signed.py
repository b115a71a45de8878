"""Tickets and cookies: what one gateway signs any other reads, and nothing else reads at all."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.ids import SessionId
from playhead_gateway.access.cookies import (
    Cookie,
    clearing,
    cookie_in,
    cookie_text,
    is_secure,
    read_cookie,
    setting,
)
from playhead_gateway.access.signed import sign, signed_claims
from playhead_gateway.access.standing import Standing
from playhead_gateway.access.tickets import TICKET_SECONDS, Ticket, read_ticket, ticket_text
from playhead_gateway.principal import SCOPES

SECRETS = (b"s" * 32,)
NOW = 1_700_000_000.0
SESSION = SessionId("ses_" + "a" * 26)
OTHERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= "

standings = st.one_of(
    st.builds(Standing, key=st.from_regex(r"[a-z2-7]{16}", fullmatch=True)),
    st.builds(
        Standing,
        key=st.none(),
        name=st.text(max_size=40).filter(lambda name: name.isprintable()),
        tenant=st.none() | st.just("acme"),
        scopes=st.frozensets(st.sampled_from(sorted(SCOPES))),
        until=st.just(inf) | st.floats(NOW, NOW + 10_000),
    ),
)


@given(standings, st.floats(0.001, TICKET_SECONDS))
def test_a_ticket_says_again_what_was_signed(standing: Standing, seconds: float) -> None:
    ticket = Ticket(SESSION, standing, NOW + seconds)
    assert read_ticket(ticket_text(ticket, SECRETS), SECRETS, NOW) == ticket


@given(standings)
def test_a_cookie_says_again_what_was_signed(standing: Standing) -> None:
    cookie = Cookie(standing, NOW + 3600)
    assert read_cookie(cookie_text(cookie, SECRETS), SECRETS, NOW) == cookie


@given(standings, st.data())
def test_a_ticket_or_cookie_with_any_character_changed_is_refused(standing: Standing, data: st.DataObject) -> None:
    ticket = ticket_text(Ticket(SESSION, standing, NOW + 60), SECRETS)
    cookie = cookie_text(Cookie(standing, NOW + 60), SECRETS)
    for text, read in ((ticket, read_ticket), (cookie, read_cookie)):
        place = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.sampled_from(OTHERS).filter(lambda one, was=text[place]: one != was))
        assert read(text[:place] + other + text[place + 1 :], SECRETS, NOW) is None


def test_each_other_spelling_of_the_last_character_is_refused() -> None:
    """Base64 ignores bits of it: who compares decoded bytes takes several spellings for the same."""
    text = ticket_text(Ticket(SESSION, Standing("k"), NOW + 60), SECRETS)
    taken = [other for other in OTHERS if read_ticket(text[:-1] + other, SECRETS, NOW) is not None]
    assert taken == [text[-1]]


@given(st.text())
def test_whatever_is_sent_is_merely_refused(text: str) -> None:
    assert read_ticket(text, SECRETS, NOW) is None
    assert read_cookie(text, SECRETS, NOW) is None


def test_a_ticket_is_no_cookie_and_a_cookie_no_ticket() -> None:
    claims = {"key": "k", "session": SESSION, "expires": NOW + 30}
    assert signed_claims("ticket", sign("cookie", claims, SECRETS), SECRETS) is None
    assert read_ticket(sign("cookie", claims, SECRETS), SECRETS, NOW) is None
    assert read_cookie(sign("ticket", claims, SECRETS), SECRETS, NOW) is None


def test_a_ticket_ends_to_the_second_and_is_never_good_for_longer_than_its_minute() -> None:
    ticket = Ticket(SESSION, Standing("k"), NOW + 60)
    text = ticket_text(ticket, SECRETS)
    assert read_ticket(text, SECRETS, NOW + 59.9) == ticket
    assert read_ticket(text, SECRETS, NOW + 60) is None
    long = ticket_text(Ticket(SESSION, Standing("k"), NOW + 61), SECRETS)
    assert read_ticket(long, SECRETS, NOW) is None


def test_a_cookie_ends_to_the_second() -> None:
    text = cookie_text(Cookie(Standing("k"), NOW + 60), SECRETS)
    assert read_cookie(text, SECRETS, NOW + 59.9) is not None
    assert read_cookie(text, SECRETS, NOW + 60) is None


def test_a_secret_is_changed_by_putting_the_new_one_first() -> None:
    old, new = b"o" * 32, b"n" * 32
    text = cookie_text(Cookie(Standing("k"), NOW + 60), (old,))
    assert read_cookie(text, (new, old), NOW) is not None
    assert read_cookie(text, (new,), NOW) is None
    assert read_cookie(cookie_text(Cookie(Standing("k"), NOW + 60), (new, old)), (new,), NOW) is not None


def test_without_a_secret_nothing_is_good() -> None:
    assert read_cookie(cookie_text(Cookie(Standing("k"), NOW + 60), SECRETS), (), NOW) is None


@pytest.mark.parametrize(
    ("scheme", "host", "secure"),
    [
        ("http", "127.0.0.1:4141", False),
        ("http", "localhost:4141", False),
        ("http", "[::1]:4141", False),
        ("https", "127.0.0.1", True),
        ("wss", "localhost", True),
        ("http", "app.example", True),  # a proxy ended TLS
        ("http", "localhost.evil.example", True),
        ("http", "127.0.0.1.evil.example", True),
        ("http", "", True),
        ("http", "[", True),
    ],
)
def test_a_cookie_goes_without_tls_on_this_machine_only(scheme: str, host: str, secure: bool) -> None:
    assert is_secure(scheme, host) is secure


def test_a_cookie_is_out_of_reach_of_scripts_and_of_other_sites() -> None:
    assert setting("v", 60, secure=True) == ("__Host-playhead=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure")
    assert setting("v", 60, secure=False) == "playhead=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
    assert "Max-Age=0" in clearing(secure=True)


@pytest.mark.parametrize(
    ("header", "secure", "found"),
    [
        ("a=1; __Host-playhead=x.y; b=2", True, "x.y"),
        ("playhead=x.y", True, None),  # a sibling host can plant this one
        ("playhead=x.y", False, "x.y"),
        ("playhead=x.y; playhead=z", False, None),
        ('playhead="x.y"', False, None),
        ("", False, None),
    ],
)
def test_our_cookie_is_found_if_there_is_one_and_one_only(header: str, secure: bool, found: str | None) -> None:
    assert cookie_in(header, secure=secure) == found
