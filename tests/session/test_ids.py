"""Ids that can be derived are derived, and strangers' ids are checked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.errors import InvalidCursor, InvalidId
from playhead.ids import (
    BEGINNING,
    Cursor,
    MessageId,
    RunId,
    Seq,
    SessionId,
    call_id,
    digest,
    message_id,
    parse_cursor,
    parse_session_id,
    run_id,
    session_id,
)

PARTS = st.lists(st.text(max_size=4) | st.binary(max_size=4), max_size=4)


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_a_session_id_made_here_is_one_that_is_taken(entropy: bytes):
    made = session_id(entropy)
    assert parse_session_id(made) == made


@settings(deadline=None)
@given(st.binary(max_size=40).filter(lambda entropy: len(entropy) != 16))
def test_a_session_id_takes_exactly_sixteen_bytes(entropy: bytes):
    with pytest.raises(ValueError, match="16 bytes"):
        session_id(entropy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ses_",
        "ses_" + "A" * 26,
        "ses_" + "a" * 25,
        "ses_" + "a" * 27,
        "run_" + "a" * 26,
        "ses_" + "a" * 26 + "\n",
        "ses_" + "a" * 25 + "é",
        "ses_" + "a" * 25 + "٣",
        "../" + "a" * 27,
        "x" * 10_000,
    ],
)
def test_what_is_no_session_id_is_refused_and_shown_in_short(text: str):
    with pytest.raises(InvalidId) as refused:
        parse_session_id(text)
    assert len(refused.value.value) <= 80


@settings(deadline=None)
@given(st.integers(0, 10**18 - 1), st.none() | st.text("0123456789abcdef", min_size=8, max_size=8))
def test_a_cursor_is_read_as_it_is_written(seq: int, tag: str | None):
    cursor = Cursor(Seq(seq), tag if seq else None)  # before the first event there is none to have a hash
    assert parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "-1",
        "+1",
        "1-",
        "1-abc",
        "1-9F3A2C41",
        "1-9f3a2c41 ",
        " 1",
        "1\n",
        "1.0",
        "٣",
        "1_0",
        "1" * 19,
        "1-9f3a2c411",
        "0x1",
        "NaN",
        "\x00",
    ],
)
def test_what_is_no_cursor_is_refused(text: str):
    with pytest.raises(InvalidCursor):
        parse_cursor(text)


def test_the_beginning_is_a_cursor_of_its_own():
    assert parse_cursor("0") == BEGINNING


@settings(deadline=None)
@given(PARTS, PARTS)
def test_a_digest_tells_where_each_part_ends(some: list[str | bytes], others: list[str | bytes]):
    def as_bytes(parts: list[str | bytes]) -> list[bytes]:
        return [part if isinstance(part, bytes) else part.encode() for part in parts]

    assert (digest(*some) == digest(*others)) == (as_bytes(some) == as_bytes(others))


def test_derived_ids_never_change():
    # They are in logs for ever: a released version must give the same.
    session = SessionId("ses_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    message = message_id(session, "key")
    run = run_id(session, message)
    assert message == MessageId("msg_qy6lfne3ccazra47u3ncbvxyu4")
    assert run == RunId("run_kbzjmhpmgnonwllcen4fggp4sy")
    assert call_id(session, run, 2, 0) == "call_3k7h4sswk7i7s3kceyxjwdvtwi"


def test_calls_at_different_places_have_different_ids():
    session, run = SessionId("ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"), RunId("run_a")
    ids = {call_id(session, run, step, index) for step in range(12) for index in range(12)}
    assert len(ids) == 144
