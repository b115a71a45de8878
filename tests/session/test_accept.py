"""One rule says what is in a log: whoever wrote, whatever else is stored, and however it is read."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.accept import Head, Record, accept, advance, genesis, hash_of
from playhead.codec import Codec, Context, record_of
from playhead.errors import Undecodable
from playhead.events import Event, OwnerChanged, RunStarted, TextDelta
from playhead.ids import Cursor, MessageId, RunId, Seq, SessionId

CODEC = Codec()
SESSION, OTHER = SessionId("ses_accept22222222222222222222"), SessionId("ses_other222222222222222222222")


def context(session: SessionId, epoch: int) -> Context:
    return Context(session, epoch, None, epoch * 1000)


def batch(head: Head, writer: int, size: int, session: SessionId = SESSION) -> list[Record]:
    """Seal what a writer would append after a head; each writer's events differ from every other's."""
    events: list[Event] = [
        OwnerChanged(writer, f"owner-{writer}"),
        RunStarted(RunId(f"run-{writer}"), MessageId("m")),
        *(TextDelta(RunId("r"), 1, writer, f"{number}") for number in range(size)),
    ]
    return CODEC.seal(head, events[:size], context(session, writer))


def is_dense_chain(session: SessionId, records: Sequence[Record]) -> bool:
    """Tell whether records are a chain from the session's beginning, by the definition and not by `advance`."""
    prev = genesis(session).hash
    for number, record in enumerate(records, start=1):
        if (record.seq, record.prev, record.hash) != (number, prev, hash_of(record.value)):
            return False
        prev = record.hash
    return True


@st.composite
def stores(draw: st.DrawFn) -> list[Record]:
    """Draw what several writers, some of them out of date, may leave in a store, duplicates and foreign records too."""
    stored: list[Record] = []
    heads = {writer: genesis(SESSION) for writer in range(1, 4)}
    other = genesis(OTHER)
    for _ in range(draw(st.integers(0, 14))):
        writer = draw(st.integers(1, 3))
        match draw(st.sampled_from(["append", "append", "append", "read", "repeat", "shuffle", "splice"])):
            case "append":
                # From whatever this writer believes to be the end: a zombie does not know better.
                records = batch(heads[writer], writer, draw(st.integers(1, 4)))
                heads[writer] = Head(records[-1].seq, records[-1].hash, 0)
                stored += records
            case "read":
                heads[writer], _ = advance(genesis(SESSION), stored)
            case "repeat" if stored:
                begin = draw(st.integers(0, len(stored) - 1))
                stored += stored[begin : begin + draw(st.integers(1, 4))]
            case "shuffle":
                stored += draw(st.permutations(batch(heads[writer], writer, 3)))
            case _:
                foreign = batch(other, writer, 2, OTHER)
                other = Head(foreign[-1].seq, foreign[-1].hash, 0)
                stored += foreign
    return stored


@settings(max_examples=200, deadline=None)
@given(stores(), st.data())
def test_any_store_holds_one_dense_chain_however_it_is_cut_into_pages(stored: list[Record], data: st.DataObject):
    whole, accepted = advance(genesis(SESSION), stored)
    assert is_dense_chain(SESSION, accepted)
    assert (whole.seq, whole.position) == (len(accepted), len(stored))
    assert whole.hash == (accepted[-1].hash if accepted else genesis(SESSION).hash)
    head, found, rest = genesis(SESSION), list[Record](), stored
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        head, part = advance(head, rest[:length])
        found += part
        rest = rest[length:]
    assert (head, tuple(found)) == (whole, accepted)


@settings(max_examples=100, deadline=None)
@given(stores())
def test_advance_accepts_exactly_what_accept_accepts(stored: list[Record]):
    """protocol:P62"""
    head, accepted = genesis(SESSION), list[Record]()
    for record in stored:
        if accept(head, record):
            head = Head(record.seq, record.hash, 0)
            accepted.append(record)
    assert advance(genesis(SESSION), stored)[1] == tuple(accepted)


@settings(max_examples=100, deadline=None)
@given(stores(), stores())
def test_what_was_accepted_once_is_accepted_for_ever(before: list[Record], after: list[Record]):
    """protocol:P4 protocol:P62"""
    _, accepted = advance(genesis(SESSION), before)
    _, later = advance(genesis(SESSION), before + after)
    assert later[: len(accepted)] == accepted


@settings(max_examples=100, deadline=None)
@given(stores())
def test_void_records_change_nothing_but_the_position(stored: list[Record]):
    head, accepted = advance(genesis(SESSION), stored)
    again, same = advance(genesis(SESSION), accepted)
    assert same == accepted
    assert (again.seq, again.hash) == (head.seq, head.hash)


@settings(max_examples=100, deadline=None)
@given(stores())
def test_no_record_of_another_session_is_ever_accepted(stored: list[Record]):
    _, accepted = advance(genesis(SESSION), stored)
    assert all(CODEC.event(record.value).stamp.session == SESSION for record in accepted)


def test_a_batch_of_one_owner_and_one_of_another_after_the_same_head_are_all_or_none():
    start = batch(genesis(SESSION), 1, 2)
    head, _ = advance(genesis(SESSION), start)
    mine, theirs = batch(head, 2, 4), batch(head, 3, 4)
    assert advance(head, theirs + mine)[1] == tuple(theirs)
    assert advance(head, mine + theirs)[1] == tuple(mine)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 5), st.data())
def test_a_flipped_bit_breaks_the_chain_from_there(place: int, data: st.DataObject):
    records = batch(genesis(SESSION), 1, 6)
    value = bytearray(records[place].value)
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    check_tampered(records, place, bytes(value))


def test_every_flipped_bit_of_a_record_breaks_the_chain_from_there():
    records = batch(genesis(SESSION), 1, 3)
    for bit in range(8 * len(records[1].value)):
        value = bytearray(records[1].value)
        value[bit // 8] ^= 1 << bit % 8
        check_tampered(records, 1, bytes(value))


def check_tampered(records: list[Record], place: int, value: bytes) -> None:
    """A changed record is void, or no longer the one that those after it follow: none of them is accepted."""
    try:
        changed = [record_of(value)]
    except Undecodable:
        changed = []
    head, accepted = advance(genesis(SESSION), [*records[:place], *changed, *records[place + 1 :]])
    assert accepted[:place] == tuple(records[:place])
    assert len(accepted) <= place + 1
    assert not set(records[place:]) & set(accepted)
    assert head.hash != records[-1].hash


def test_a_record_that_is_missing_or_moved_breaks_the_chain_from_there():
    records = batch(genesis(SESSION), 1, 5)
    for place in range(4):
        without = records[:place] + records[place + 1 :]
        assert len(advance(genesis(SESSION), without)[1]) == place
        swapped = [*records[:place], records[place + 1], records[place], *records[place + 2 :]]
        assert len(advance(genesis(SESSION), swapped)[1]) == place + 1


def test_a_record_that_follows_the_head_but_skips_a_number_is_void():
    start = genesis(SESSION)
    for seq in (-1, 1, 5):
        skipping = batch(Head(Seq(seq), start.hash, 0), 1, 1)
        assert advance(start, skipping)[1] == ()
        assert not accept(start, skipping[0])


def test_the_session_is_part_of_the_chain():
    """protocol:P61"""
    mine = batch(genesis(SESSION), 1, 2)
    assert advance(genesis(OTHER), mine)[1] == ()


def test_a_cursor_is_the_seq_and_the_beginning_of_the_hash():
    record = batch(genesis(SESSION), 1, 1)[0]
    head, _ = advance(genesis(SESSION), [record])
    assert str(record.cursor) == f"1-{record.hash.hex()[:8]}" == str(head.cursor)
    assert genesis(SESSION).cursor == Cursor(Seq(0))
