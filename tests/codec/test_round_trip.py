"""What is written is what is read, for every type and in both frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.accept import genesis, hash_of
from playhead.codec import RECORD_BYTES_MAX, Codec, Context, json_fields, record_of
from playhead.commands import Command, Heartbeat, StopTool, command_types
from playhead.errors import Misconfigured, TooLarge, Undecodable, UnknownSchema
from playhead.events import Event, Json, TextDelta, UserMessage, event_types
from playhead.ids import CallId, MessageId, RunId, SessionId
from playhead.schema import avro_name

from tests.codec.samples import CONTEXT, SESSION, sample, sample_commands, sample_events
from tests.codec.strategies import COMMANDS, CONTEXTS, EVENTS

REGISTRY = {avro_name(kind): 100_000 + number for number, kind in enumerate((*event_types(), *command_types()))}
PLAIN = Codec()
REGISTERED = Codec(REGISTRY)


def by_wire_name(value: Any) -> Any:
    """Turn a value of ours into plain fields, independently of the codec."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name.rstrip("_"): by_wire_name(getattr(value, field.name)) for field in fields(value)}
    return [by_wire_name(one) for one in cast("tuple[Any, ...]", value)] if isinstance(value, tuple) else value


@pytest.mark.parametrize("codec", [PLAIN, REGISTERED], ids=["single object", "confluent"])
@pytest.mark.parametrize("kind", event_types(), ids=lambda kind: kind.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), context=CONTEXTS)
def test_every_event_comes_back_as_it_was(data: st.DataObject, context: Context, kind: type[Event], codec: Codec):
    events = data.draw(st.lists(EVENTS[kind], min_size=1, max_size=2))
    head = genesis(context.session)
    records = codec.seal(head, events, context)
    prev = head.hash
    for number, (record, event) in enumerate(zip(records, events, strict=True), start=1):
        stamped = REGISTERED.event(record.value)
        assert stamped.event == event
        stamp = stamped.stamp
        assert (stamp.seq, stamp.prev) == (number, prev)
        assert Context(stamp.session, stamp.epoch, stamp.cause, stamp.at, stamp.trace) == context
        assert REGISTERED.fields(record.value) == (kind, {"stamp": by_wire_name(stamp), **by_wire_name(event)})
        assert REGISTERED.kind(record.value) is kind
        # The place in the chain can be read without the schema, and is the same.
        assert record_of(record.value) == record
        prev = hash_of(record.value)


@pytest.mark.parametrize("codec", [PLAIN, REGISTERED], ids=["single object", "confluent"])
@pytest.mark.parametrize("kind", command_types(), ids=lambda kind: kind.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_command_comes_back_as_it_was(data: st.DataObject, kind: type[Command], codec: Codec):
    command = data.draw(COMMANDS[kind])
    value = codec.encode(command)
    assert REGISTERED.command(value) == command
    assert REGISTERED.fields(value) == (kind, by_wire_name(command))
    assert codec.encode(REGISTERED.command(value)) == value


def test_without_a_registry_a_value_is_a_single_object_and_with_one_it_has_confluents_frame():
    """protocol:P59"""
    assert PLAIN.encode(StopTool(CallId("c"), "r"))[:2] == b"\xc3\x01"
    framed = REGISTERED.encode(StopTool(CallId("c"), "r"))
    assert framed[:5] == b"\x00" + REGISTRY[avro_name(StopTool)].to_bytes(4, "big")


def test_the_fingerprint_in_a_single_object_is_the_one_that_avros_specification_computes():
    """protocol:P59"""
    # Independent of the library: the 64-bit Rabin fingerprint of the specification, little-endian, over the canonical
    # form of a schema small enough to be written down here.
    canonical = (
        '{"name":"dev.playhead.StopTool","type":"record","fields":'
        '[{"name":"call_id","type":"string"},{"name":"reason","type":"string"}]}'
    )
    empty = 0xC15D213AA4D7A795
    fingerprint = empty
    for byte in canonical.encode():
        low = (fingerprint ^ byte) & 0xFF
        for _ in range(8):
            low = (low >> 1) ^ (empty & -(low & 1))
        fingerprint = (fingerprint >> 8) ^ low
    assert PLAIN.encode(StopTool(CallId("c"), "r"))[2:10] == fingerprint.to_bytes(8, "little")


def test_one_codec_reads_a_log_in_which_the_frames_change():
    # A deployment gets a registry in the middle of a session's life.
    head = genesis(SESSION)
    first = PLAIN.seal(head, [sample(TextDelta)], CONTEXT)
    second = REGISTERED.seal(head, [sample(TextDelta)], CONTEXT)
    assert first[0].value != second[0].value
    assert REGISTERED.event(first[0].value) == REGISTERED.event(second[0].value)


def test_a_codec_that_does_not_know_a_registrys_number_says_that_the_schema_is_unknown():
    with pytest.raises(UnknownSchema):
        PLAIN.command(REGISTERED.encode(StopTool(CallId("c"), "r")))


def test_a_registry_without_one_of_our_schemas_is_a_misconfiguration():
    lacking = {name: number for name, number in REGISTRY.items() if name != avro_name(Heartbeat)}
    with pytest.raises(Misconfigured, match="Heartbeat"):
        Codec(lacking)


@pytest.mark.parametrize("kind", event_types(), ids=lambda kind: kind.__name__)
def test_a_record_of_a_schema_from_the_future_still_tells_its_place_so_that_the_chain_goes_on(kind: type[Event]):
    (record,) = PLAIN.seal(genesis(SESSION), [sample(kind)], CONTEXT)
    future = b"\xc3\x01" + b"\xfe" * 8 + record.value[10:] + b"and more fields"
    with pytest.raises(UnknownSchema):
        PLAIN.event(future)
    with pytest.raises(UnknownSchema):
        PLAIN.fields(future)
    with pytest.raises(UnknownSchema):
        PLAIN.kind(future)
    place = record_of(future)
    assert (place.seq, place.prev) == (record.seq, record.prev)
    assert place.hash == hash_of(future) != record.hash


def test_an_event_is_no_command_and_a_command_no_event():
    for record in PLAIN.seal(genesis(SESSION), sample_events(), CONTEXT):
        with pytest.raises(Undecodable, match="not a command"):
            PLAIN.command(record.value)
    for command in sample_commands():
        with pytest.raises(Undecodable, match="not an event"):
            PLAIN.event(PLAIN.encode(command))


def test_what_no_record_can_hold_is_refused_by_its_size():
    delta = TextDelta(RunId("run"), 1, 1, "x" * RECORD_BYTES_MAX)
    with pytest.raises(TooLarge):
        PLAIN.seal(genesis(SESSION), [delta], CONTEXT)
    with pytest.raises(TooLarge):
        PLAIN.encode(StopTool(CallId("c"), "x" * RECORD_BYTES_MAX))


def test_a_record_of_exactly_the_largest_size_is_sealed_and_read():
    def length_of(text: str) -> int:
        return len(PLAIN.encode(StopTool(CallId("c"), text)))

    room = RECORD_BYTES_MAX - length_of("x" * 800_000) + 800_000
    assert length_of("x" * room) == RECORD_BYTES_MAX
    assert PLAIN.command(PLAIN.encode(StopTool(CallId("c"), "x" * room))) == StopTool(CallId("c"), "x" * room)
    with pytest.raises(TooLarge):
        length_of("x" * (room + 1))


def test_which_fields_hold_json_text_is_known_by_their_names_on_the_wire():
    found = {kind.__name__: sorted(json_fields(kind)) for kind in event_types() if json_fields(kind)}
    assert found == {
        "SessionStarted": ["metadata"],
        "UserMessage": ["content"],
        "ModelCallCompleted": ["message"],
        "ToolCall": ["input"],
        "ToolResultChunk": ["output"],
        "ToolResult": ["output"],
        "ToolResultLate": ["output"],
        "QuestionAsked": ["content", "schema", "state"],
        "QuestionAnswered": ["content"],
    }


def sealed_values(codec: Codec, events: Sequence[Event]) -> list[bytes]:
    return [record.value for record in codec.seal(genesis(SessionId(SESSION)), events, CONTEXT)]


def test_sealing_the_same_events_twice_gives_the_same_bytes():
    assert sealed_values(PLAIN, sample_events()) == sealed_values(Codec(), sample_events())


def test_json_text_is_carried_untouched():
    spaced = Json('{ "b" : 1.0 ,\n"a":[ ] }')
    (record,) = PLAIN.seal(genesis(SESSION), [UserMessage(RunId("r"), MessageId("m"), spaced)], CONTEXT)
    assert PLAIN.fields(record.value)[1]["content"] == spaced
