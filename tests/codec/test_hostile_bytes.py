"""Whatever bytes come in, a value or `Undecodable` comes out, in bounded memory; and what strangers write is strict."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playhead.accept import genesis
from playhead.canonical import JSON_DEPTH_MAX
from playhead.codec import RECORD_BYTES_MAX, Codec, record_of
from playhead.commands import (
    AnnounceAgent,
    Command,
    ReportProgress,
    ReportResult,
    Say,
    StartSession,
    StopTool,
    command_types,
)
from playhead.errors import Undecodable
from playhead.events import Event, Json, event_types
from playhead.ids import CallId, MessageId, RunId, SessionId

from tests.codec.samples import CONTEXT, SESSION, sample
from tests.codec.strategies import ANY_COMMAND

CODEC = Codec()
FRAME_BYTES = 10
MEMORY_BYTES_MAX = 64 * RECORD_BYTES_MAX
"""What decoding one value may take at its peak. The worst is a list of empty strings: a pointer for each byte."""

FRAMES = [CODEC.encode(sample(kind))[:FRAME_BYTES] for kind in command_types()] + [
    CODEC.seal(genesis(SESSION), [sample(kind)], CONTEXT)[0].value[:FRAME_BYTES] for kind in event_types()
]


def long(number: int) -> bytes:
    """Encode an Avro long, whatever its size."""
    number = (number << 1) ^ (number >> 127)
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def survives(value: bytes) -> None:
    """Decode in every way; anything but a value or `Undecodable` fails the test."""
    try:
        command = CODEC.command(value)
    except Undecodable:
        pass
    else:
        assert CODEC.encode(command) == value, "accepted what we would not have written"
    for decode in (CODEC.event, CODEC.fields, CODEC.kind, record_of):
        with contextlib.suppress(Undecodable):
            decode(value)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_chance_bytes_do_no_harm(value: bytes):
    survives(value)


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.binary(max_size=300))
def test_chance_bytes_in_a_frame_of_ours_do_no_harm(frame: bytes, body: bytes):
    survives(frame + body)


NASTY = st.one_of(
    st.binary(max_size=4),
    st.sampled_from([-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**69]).map(long),
    st.sampled_from([b"\x80" * 9 + b"\x01", b"\xff" * 9 + b"\x7f", b"\xff" * 20, b"\x80\x00", b"\x00" * 32]),
)


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.lists(NASTY, max_size=12).map(b"".join))
def test_nasty_numbers_in_a_frame_of_ours_do_no_harm(frame: bytes, body: bytes):
    survives(frame + body)


@pytest.mark.parametrize("kind", command_types(), ids=lambda kind: kind.__name__)
def test_no_truncation_of_a_command_is_a_command(kind: type[Command]):
    value = CODEC.encode(sample(kind))
    for length in range(len(value)):
        with pytest.raises(Undecodable):
            CODEC.command(value[:length])
        survives(value[:length])


@pytest.mark.parametrize("kind", command_types(), ids=lambda kind: kind.__name__)
def test_every_corruption_of_one_byte_of_a_command_is_refused_or_is_another_command_exactly(kind: type[Command]):
    value = bytearray(CODEC.encode(sample(kind)))
    for place in range(len(value)):
        kept = value[place]
        for other in {0, 1, 2, 0x7F, 0x80, 0xFF, kept ^ 1, kept ^ 2, kept ^ 0x40, kept ^ 0x80} - {kept}:
            value[place] = other
            survives(bytes(value))
        value[place] = kept


@pytest.mark.parametrize(
    "kind", [StopTool, ReportProgress, StartSession, AnnounceAgent], ids=lambda kind: kind.__name__
)
def test_every_value_of_every_byte_of_some_commands_is_refused_or_is_another_command_exactly(kind: type[Command]):
    value = bytearray(CODEC.encode(sample(kind)))
    for place in range(len(value)):
        kept = value[place]
        for other in range(256):
            value[place] = other
            survives(bytes(value))
        value[place] = kept


@pytest.mark.parametrize("kind", event_types(), ids=lambda kind: kind.__name__)
def test_no_damage_to_an_event_makes_reading_it_raise_anything_else(kind: type[Event]):
    value = CODEC.seal(genesis(SESSION), [sample(kind)], CONTEXT)[0].value
    for place in range(len(value)):
        survives(value[:place])
        for other in (0x00, 0x01, 0x7F, 0x80, 0xFF, value[place] ^ 1):
            survives(value[:place] + bytes((other,)) + value[place + 1 :])


@settings(deadline=None)
@given(ANY_COMMAND, st.binary(min_size=1, max_size=8))
def test_bytes_after_the_end_of_a_command_are_refused(command: Command, more: bytes):
    with pytest.raises(Undecodable):
        CODEC.command(CODEC.encode(command) + more)


def stop_tool(call: bytes, reason: bytes) -> bytes:
    return CODEC.encode(StopTool(CallId(""), ""))[:FRAME_BYTES] + call + reason


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (stop_tool(long(-1), long(0)), "a negative length"),
        (stop_tool(long(-1) + b"ab", b""), "a negative length"),
        (stop_tool(long(0), long(-(2**63))), "the most negative length"),
        (stop_tool(long(0), long(2**62)), "a huge length"),
        (stop_tool(long(0), long(2**63)), "a length of 65 bits"),
        (stop_tool(b"\x82\x00a", long(0)), "a length in more bytes than it needs"),
        (stop_tool(b"\xff" * 10_000, b""), "a number without an end"),
        (stop_tool(long(1) + b"\xff", long(0)), "text that is not UTF-8"),
        (stop_tool(long(3) + b"\xed\xa0\x80", long(0)), "a lone surrogate"),
        (stop_tool(long(2) + b"\xc0\x80", long(0)), "an overlong NUL"),
    ],
)
def test_what_is_not_canonical_is_no_command(value: bytes, why: str):
    with pytest.raises(Undecodable):
        CODEC.command(value)
    survives(value)


@pytest.mark.parametrize("index", [-1, -2, 2, 3, 2**31, 2**62, -(2**63)])
def test_a_union_index_that_no_branch_has_is_refused(index: int):
    value = CODEC.encode(Say("q", SessionId("s"), MessageId("m"), RunId("r"), Json("1")))
    assert value[-1:] == long(0)
    for payload in (b"", b"\x02a", b"\x00"):
        with pytest.raises(Undecodable):
            CODEC.command(value[:-1] + long(index) + payload)
        survives(value[:-1] + long(index) + payload)


def agent_with_tools(tools: bytes) -> bytes:
    value = CODEC.encode(AnnounceAgent("", "", "", "", (), default=False, at=0))
    assert value[FRAME_BYTES:] == b"\0" * 7
    return value[: FRAME_BYTES + 4] + tools + b"\0\0"


@pytest.mark.parametrize(
    "tools",
    [
        long(2**40),
        long(2**62) + b"\0" * 1000,
        long(-(2**62)) + long(10) + b"\0" * 1000,
        long(-(2**63)) + long(0) + b"\0" * 1000,
        long(2**63 - 1) + b"\0" * 100_000,
        long(-1) + long(1) + long(0) + long(0),
        (long(1) + long(0)) * 1000 + long(0),
    ],
)
def test_an_array_that_claims_more_than_it_has_is_refused_in_little_memory(tools: bytes):
    value = agent_with_tools(tools)
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable):
            CODEC.command(value)
        survives(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_the_most_items_that_fit_in_a_command_take_bounded_memory():
    count = RECORD_BYTES_MAX - FRAME_BYTES - 12
    value = agent_with_tools(long(count) + b"\0" * count + long(0))
    assert len(value) <= RECORD_BYTES_MAX
    tracemalloc.start()
    try:
        survives(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.hex())
def test_no_type_of_ours_can_be_made_to_nest(frame: bytes):
    for deeper in (b"\x02", b"\x01", b"\x00", b"\x02\x02", b"\x01\x02\x02"):
        survives(frame + deeper * 5000)


def test_a_message_larger_than_any_of_ours_is_refused_unread():
    with pytest.raises(Undecodable, match="more than any message"):
        CODEC.command(CODEC.encode(StopTool(CallId("c"), "")) + b"\0" * RECORD_BYTES_MAX)


def result(output: str) -> bytes:
    return CODEC.encode(ReportResult("r", SessionId("s"), CallId("c"), "l", "ok", Json(output), 1))


@pytest.mark.parametrize("output", ["", "{", "not json", "NaN", "1 2", '"\\ud800"', '"a\nb"', "[1,]", "[" * 5000])
def test_json_text_that_is_none_is_refused_before_it_can_reach_a_session(output: str):
    # It is spliced into messages and frames as it stands, so it would break every later model call of its session.
    with pytest.raises(Undecodable):
        CODEC.command(result(output))


def test_json_text_within_a_message_within_a_request_is_checked_too():
    say = Say("q", SessionId("s"), MessageId("m"), RunId("r"), Json("oops"))
    with pytest.raises(Undecodable, match=r"message\.content"):
        CODEC.command(CODEC.encode(StartSession("q", SessionId("s"), None, Json("{}"), say)))
    with pytest.raises(Undecodable, match="metadata"):
        CODEC.command(CODEC.encode(StartSession("q", SessionId("s"), None, Json("oops"))))


def test_json_may_nest_as_deep_as_what_holds_it_can_still_be_written():
    CODEC.command(result("[" * JSON_DEPTH_MAX + "]" * JSON_DEPTH_MAX))
    CODEC.command(result("[" + ",".join(["[]"] * 1000) + "]"))
    with pytest.raises(Undecodable):
        CODEC.command(result("[" * (JSON_DEPTH_MAX + 1) + "]" * (JSON_DEPTH_MAX + 1)))
    with pytest.raises(Undecodable):
        CODEC.command(result('{"a":' * 5000 + "1" + "}" * 5000))


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
@example(0x7FF0000000000001)
@example(0xFFF8000000000123)
def test_a_number_that_is_none_is_refused_or_kept_bit_by_bit(bits: int):
    value = CODEC.encode(ReportProgress("r", SessionId("s"), CallId("c"), "l", 0.0))
    place = len(value) - 2 - 8
    assert value[place : place + 8] == b"\0" * 8
    survives(value[:place] + struct.pack("<Q", bits) + value[place + 8 :])


@settings(deadline=None)
@given(st.lists(NASTY, min_size=1, max_size=6).map(b"".join))
def test_the_place_in_the_chain_is_never_read_otherwise_than_by_full_decoding(numbers: bytes):
    # Readers that know the schema and readers that do not must follow the same chain.
    for body in (numbers, long(3) + b"ses" + numbers, numbers + b"\0" * 60):
        value = CODEC.seal(genesis(SESSION), [sample(event_types()[-1])], CONTEXT)[0].value[:FRAME_BYTES] + body
        try:
            stamp = CODEC.event(value).stamp
        except Undecodable:
            continue
        try:
            record = record_of(value)
        except Undecodable:
            continue  # void for every reader, since all of them begin with `record_of`
        assert (record.seq, record.prev) == (stamp.seq, stamp.prev)
