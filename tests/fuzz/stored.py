"""Bytes at rest and on topics: commands, records, commits' metadata, cursors and ids, names in the archive."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson
from playhead.accept import advance, genesis
from playhead.adapters.archive import FolderArchive, MemoryArchive
from playhead.adapters.progress import FINISHED_MAX, METADATA_CHARS_MAX, decode_finished, encode_finished
from playhead.canonical import canonical_json, check_json
from playhead.codec import Codec, record_of
from playhead.errors import Invalid, InvalidCursor, InvalidId, NotArchived, TooLarge, Undecodable
from playhead.ids import SessionId, parse_cursor, parse_session_id
from playhead.schema import avro_name
from playhead_gateway.projections.durable import offset_of, place_of
from playhead_gateway.projections.response_name import parse_response_name

from tests.codec.samples import CONTEXT, SESSION, sample_commands, sample_events
from tests.fuzz.target import Run, Target

__all__ = ["TARGETS"]

GOLDEN = Path(__file__).parents[1] / "codec" / "golden"
PLAIN = Codec()
NUMBERED = Codec({avro_name(type(one)): at for at, one in enumerate([*sample_commands(), *sample_events()], 1)})
FRAME_BYTES = 10
OTHERS = SessionId(f"ses_{'z' * 26}")
CODECS = (PLAIN, NUMBERED)


def stored_values() -> list[bytes]:
    """Give one record or command of each type: of the first release, of this one, and as a registry frames them."""
    lines = (GOLDEN / "v0.1.0.jsonl").read_bytes().splitlines()
    values = [bytes.fromhex(orjson.loads(line)["value"]) for line in lines]
    for codec in CODECS:
        values += [codec.encode(one) for one in sample_commands()]
        values += [record.value for record in codec.seal(genesis(SESSION), sample_events(), CONTEXT)]
    return values


@contextmanager
def commands() -> Generator[Run, None, None]:
    """Refuse, or take what we would have written ourselves: in this release's form, to the byte."""

    def run(data: bytes) -> None:
        for codec in CODECS:
            try:
                command = codec.command(data)
            except Undecodable:
                continue
            written = codec.encode(command)
            if data[:FRAME_BYTES] == PLAIN.encode(command)[:FRAME_BYTES]:
                assert PLAIN.encode(command) == data, "accepted what we would not have written"
            assert codec.command(written) == command

    yield run


@contextmanager
def records() -> Generator[Run, None, None]:
    """Read as an event or refuse; what is read twice says the same; and no record of a stranger enters a log."""
    ours = PLAIN.seal(genesis(OTHERS), sample_events()[:3], replace(CONTEXT, session=OTHERS))

    def run(data: bytes) -> None:
        for codec in CODECS:
            with suppress(Undecodable):
                read, place = codec.event(data), record_of(data)
                assert (read.stamp.seq, read.stamp.prev) == (place.seq, place.prev), "two readers see other places"
                kind, fields = codec.fields(data)
                assert kind is type(read.event)
                assert set(fields) >= {"stamp"}
            with suppress(Undecodable):
                codec.kind(data)
        try:
            strange = record_of(data)
        except Undecodable:
            return
        _, accepted = advance(genesis(OTHERS), [strange, ours[0], strange, ours[1], strange, ours[2], strange])
        # It may be the first, or the next: who knows the hash before, may write it. Nowhere else does it fit in.
        hashes, known = [one.hash for one in accepted], [one.hash for one in ours]
        assert hashes in (known, [strange.hash], [*known, strange.hash])
        assert hashes == known or strange.prev in (genesis(OTHERS).hash, known[-1])

    yield run


@contextmanager
def canonical() -> Generator[Run, None, None]:
    """Spell JSON in one way, which is its own; what it refuses is refused by all that read it."""

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        with suppress(Undecodable):
            check_json(text)
            orjson.dumps(orjson.loads(text))
        try:
            spelled = canonical_json(text)
        except Invalid:
            return
        assert canonical_json(spelled.decode()) == spelled

    yield run


@contextmanager
def metadata() -> Generator[Run, None, None]:
    """Read a set of bounded size, which written and read again is the same."""

    def run(data: bytes) -> None:
        text, safe = data.decode("utf-8", "replace"), len(data)
        finished = decode_finished(safe, text)
        assert len(finished) <= FINISHED_MAX + 1
        assert not finished or min(finished) >= safe
        if len(finished) < 10_000:
            written = encode_finished(safe, finished)
            assert len(written) <= METADATA_CHARS_MAX
            assert decode_finished(safe, written) <= finished

    yield run


@contextmanager
def names() -> Generator[Run, None, None]:
    """Cursors, offsets and ids: refuse, or give what is written as it was read."""

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        with suppress(InvalidCursor):
            cursor = parse_cursor(text)
            assert parse_cursor(str(cursor)) == cursor
            assert place_of(offset_of(cursor)) == cursor
            assert str(cursor).isascii()
        with suppress(InvalidCursor):
            place_of(text)
        with suppress(InvalidId):
            assert parse_session_id(text) == text
        name = parse_response_name(text)
        assert name is None or str(name) == text

    yield run


@contextmanager
def archived() -> Generator[Run, None, None]:
    """Refuse a name, or keep what it names: within the folder of its session, where only that name finds it."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        root = Path(folder) / "archive"
        archives = FolderArchive(root), MemoryArchive()

        async def one(session: SessionId, name: str, content: bytes) -> None:
            for archive in archives:
                try:
                    await archive.put(session, name, content)
                except Invalid:
                    continue
                assert await archive.get(session, name, len(content)) == content
                try:
                    await archive.get(SessionId(f"{session}x"[-100:]), name, len(content))
                except (NotArchived, Invalid, TooLarge):
                    pass
                else:
                    raise AssertionError("found under another session")

        def run(data: bytes) -> None:
            session, _, name = data.decode("utf-8", "surrogateescape").partition("\n")
            loop.run(one(SessionId(session), name, name.encode("utf-8", "surrogateescape")))
            assert sorted(path.name for path in Path(folder).iterdir()) == ["archive"]
            for kept in root.iterdir():
                for path in kept.iterdir():
                    path.unlink()
                kept.rmdir()

        yield run


def _texts(*texts: str) -> Sequence[bytes]:
    return [text.encode() for text in texts]


SESSION_NAME = f"ses_{'a' * 26}"

TARGETS = (
    Target("commands", commands, stored_values, 4000),
    Target("records", records, stored_values, 2500),
    Target(
        "canonical-json",
        canonical,
        lambda: _texts('{"b":[1,1.0,1e0,-0],"a":{"":null,"\u00e9":"\\u00e9"},"a":true}', '["\\ud83d\\ude00", 1e-320]'),
        5000,
    ),
    Target("commit-metadata", metadata, lambda: _texts("", "1-3,5", "0", "1-999999", "3,4,5,9-12,999999999999"), 800),
    Target(
        "cursors-and-ids",
        names,
        lambda: _texts(
            *("120-9f3a2c41", "0", "0000000000000042-9f3a2c41", "-1", "now", SESSION_NAME),
            *(f"resp_{'a' * 26}_{'b' * 26}", f"resp_{'a' * 26}_{'b' * 26}_2_function"),
        ),
        20000,
    ),
    Target(
        "archive-names",
        archived,
        lambda: _texts(f"{SESSION_NAME}\n{'0' * 64}", f"{SESSION_NAME}\na.b-c_D", "a\n.."),
        80,
    ),
)
