"""The session that is cut everywhere: about 20 KB of stream, with all that can go wrong in a character or a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

import orjson
from playhead.accept import Record
from playhead.events import Event, Json, SessionStarted, TextDelta, Thinking, ToolInputDelta, ToolResultChunk
from playhead.ids import SessionId, call_id
from playhead_gateway.projections.sse import Projection

from tests.gateway.support import CLOSED, CODEC, OWNED, RUN, a_turn

__all__ = ["Seen", "digest_of", "expected_of", "points", "sample", "the_session"]

Seen = tuple[str, str, str]
"""An event as a client has it: id, type, data."""

PIECES = (
    *("é", "naïve café, ", "Ελληνικά ", "кириллица "),  # two bytes
    *("€", "日本語の文章", "한국어 ", "\u0800\uffff"),  # three
    *("😀", "👩‍👩‍👧‍👦 family ", "𝔘𝔫𝔦", "🇫🇷🏴󠁧󠁢󠁳󠁣󠁴󠁿"),  # four, and characters that are made of several
    *("\u2028", "a\u2029b", "\u0085", "x\x0by\x0cz", "\x1c\x1d\x1e"),  # line ends to some
    *("\n", "\r", "\r\n", "\n\n", "line\n\nid: 9-00000000\n\n", "\rdata: x\r\r"),  # line ends to all
    *("\ufeff", "\0", ": ", "data: ", '"\\', "event: end\ndata: {}\n\n"),
    *("e\u0301", "\u202eright to left", "\U0010ffff", "\u200b", "ﷺ", "word "),
)


def the_session(session: SessionId) -> list[Event]:
    """Give the events to write: every kind of character in every place where a stranger's text can be."""
    every = "".join(PIECES)
    quoted = Json(orjson.dumps({every: [every, {"deep": "😀\r\n"}]}).decode())
    call = call_id(session, RUN, 1, 0)
    turn = a_turn(session, question=every, words=8)
    deltas = [TextDelta(RUN, 2, 1, f"{piece}{number} ") for number, piece in enumerate(PIECES)]
    return [
        SessionStarted("agent é", "1 €", "scripted:😀", quoted),
        OWNED,
        *turn[:3],
        *(Thinking(RUN, 1, 1, piece) for piece in PIECES[::4]),
        *(ToolInputDelta(RUN, 1, 1, call, piece) for piece in PIECES[1::4]),
        *turn[3:5],
        *(ToolResultChunk(RUN, 1, 1, call, Json(f"[\r\n{orjson.dumps(piece).decode()}\n]")) for piece in PIECES[2::4]),
        *turn[5:7],
        *deltas,
        *turn[7:],
        CLOSED,
    ]


def expected_of(records: Iterable[Record]) -> list[Seen]:
    """Give what a client must see of a log: the ids from its hashes, the rest as it is encoded once."""
    projection = Projection(CODEC)
    shown = [(record, projection.event(record) or b"") for record in records]
    return [(str(record.cursor), orjson.loads(data)["type"], data.decode()) for record, data in shown]


def digest_of(seen: Iterable[Seen]) -> str:
    """Hash what was seen, in order."""
    running = sha256()
    for event, kind, data in seen:
        running.update(f"{event}\n{kind}\n{data}\n\n".encode())
    return running.hexdigest()


def points(answer: bytes) -> Mapping[str, Sequence[int]]:
    """Find the places where a cut is most likely to do harm, by what they are."""
    head = answer.find(b"\r\n\r\n") + 4
    return {
        "the head": [0, 1, *(found.end() for found in re.finditer(rb"\r|\n", answer[:head]))],
        "the first frame": range(head, head + 60),
        "a chunk": [place for found in re.finditer(rb"\r\n[0-9a-f]+\r\n", answer) for place in _within(found)],
        "an id line": [place for found in re.finditer(rb"\nid: [^\n]+\n\n", answer) for place in _within(found)],
        "an event line": [place for found in re.finditer(rb"\nevent: [^\n]+\nd", answer) for place in _within(found)],
        "a character": [
            place for found in re.finditer(rb"[\xc2-\xf4][\x80-\xbf]+", answer) for place in _within(found)[1:-1]
        ],
        "an escape": [place for found in re.finditer(rb"\\u[0-9a-f]{4}|\\.", answer) for place in _within(found)],
        "the end": range(max(0, len(answer) - 120), len(answer)),
        "anywhere": range(len(answer)),
    }


def sample(answer: bytes, count: int) -> list[int]:
    """Choose cuts, the same for the same answer: as many from each kind of place, spread over the answer."""
    found = points(answer)
    each = -(-count // len(found))
    return sorted({places[len(places) * turn // each] for places in found.values() if places for turn in range(each)})


def _within(found: re.Match[bytes]) -> Sequence[int]:
    return range(found.start(), found.end() + 1)
