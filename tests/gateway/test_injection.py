"""Whatever is in an event's text, every stock parser gets exactly that event: `decode(encode(e)) == [e]`.

In 2026 a row of servers let a stranger's text end a frame early or begin another, by a line end in an id, a type or a
message. Here ids and types are of closed alphabets, and what is said is one line of JSON.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, cast

import httpx
import httpx2
import httpx_sse
import orjson
import pytest
import sseclient  # pyright: ignore[reportMissingTypeStubs] - it has none
from hypothesis import given
from hypothesis import strategies as st
from playhead.accept import genesis
from playhead.codec import Context
from playhead.events import Event, Json
from playhead.ids import session_id
from playhead.schema import field_kinds
from playhead_gateway.projections.sse import Projection, control_frame

from tests.codec.samples import sample_events
from tests.gateway.support import CODEC, NOW, parse

Decoded = tuple[str, str, str]
"""An event as a parser gives it: id, type, data."""

SESSION = session_id(bytes(16))
PROJECTION = Projection(CODEC)
HEADERS = {"content-type": "text/event-stream"}
FRAME = re.compile(rb"event: [a-z][a-z_]*\ndata: \{[^\r\n]*\}\nid: [0-9]+-[0-9a-f]{8}\n\n")

INJECTED = "x\n\nevent: end\ndata: {}\nid: 9-00000000\n\n"
ENDS = ("\r", "\n", "\r\n", "\n\n", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e")
PIECES = (*ENDS, "\0", "\ufeff", ": ")
HOSTILE = (*PIECES, *(INJECTED.replace("\n", end) for end in ENDS), "data: x", "id: 3", "retry: 1")
TEXTS = st.text(st.sampled_from("".join(PIECES) + "a:é😀") | st.characters(exclude_categories=["Cs"]))


def by_httpx2(stream: bytes) -> Iterator[Decoded]:
    for event in httpx2.EventSource(
        httpx2.Response(200, headers=HEADERS, content=stream, request=httpx2.Request("GET", "http://x"))
    ):
        yield event.id, event.event, event.data


def by_httpx_sse(stream: bytes) -> Iterator[Decoded]:
    for event in httpx_sse.EventSource(httpx.Response(200, headers=HEADERS, content=stream)).iter_sse():
        yield event.id, event.event, event.data


def by_sseclient(stream: bytes) -> Iterator[Decoded]:
    chance = random.Random(len(stream))
    places = sorted({0, len(stream), *(chance.randrange(len(stream)) for _ in range(8))})
    chunks = (stream[start:end] for start, end in pairwise(places))
    for event in cast("Iterator[Any]", sseclient.SSEClient(chunks).events()):  # pyright: ignore[reportUnknownMemberType]
        yield event.id or "", event.event, event.data


def by_the_letter(stream: bytes) -> Iterator[Decoded]:
    for frame in parse(stream):
        data = frame.raw.partition(b"\ndata: ")[2].partition(b"\n")[0]
        yield frame.id or "", frame.event, data.decode()


def by_splitting_as_python_does(stream: bytes) -> Iterator[Decoded]:
    """Do as many a client that was written in a hurry: split text into lines as `str` sees them."""
    found: dict[str, str] = {}
    for line in stream.decode().splitlines():
        name, _, value = line.partition(": ")
        if line:
            found[name] = value
        elif found:
            yield found.get("id", ""), found["event"], found["data"]
            found = {}


PARSERS: Sequence[Callable[[bytes], Iterator[Decoded]]] = (
    by_httpx2,
    by_httpx_sse,
    by_sseclient,
    by_the_letter,
    by_splitting_as_python_does,
)


def filled(value: Any, text: str) -> Any:
    """Put a text in the place of every text within a value, as JSON where that is what it holds."""
    if not is_dataclass(value) or isinstance(value, type):
        if isinstance(value, tuple):
            return tuple(filled(one, text) for one in cast("tuple[Any, ...]", value))
        return text if isinstance(value, str) else value
    hints = {name: hint for name, _, hint, _ in field_kinds(type(value))}
    quoted = Json(f"[\r\n{orjson.dumps({text: [text]}).decode()}\n]")
    given = {
        one.name: quoted if "Json" in str(hints[one.name]) else filled(getattr(value, one.name), text)
        for one in fields(value)
    }
    return replace(value, **given)


def checked(events: Sequence[Event]) -> Sequence[str]:
    """Encode events as one stream, between what the gateway says itself; let every parser decode it; give the data."""
    records = CODEC.seal(genesis(SESSION), events, Context(SESSION, 1, None, NOW))
    frames = [PROJECTION.frame(record) for record in records]
    assert [frame for frame in frames if not FRAME.fullmatch(frame)] == []
    shown = [(PROJECTION.event(record) or b"").decode() for record in records]
    said = [(str(one.cursor), orjson.loads(data)["type"], data) for one, data in zip(records, shown, strict=True)]
    stream = b"".join([control_frame("ready", SESSION, retry_ms=2_000), *frames, control_frame("end", SESSION)])
    for parser in PARSERS:
        # What the gateway says itself has no id: some parsers give it that of the event before.
        (_, ready, _), *found, (_, end, _) = parser(stream)
        assert (ready, found, end) == ("ready", said, "end"), parser.__name__
    return shown


def texts_in(value: Any) -> Iterator[str]:
    """Give every text in a JSON value, and every name within it that is not ours."""
    if isinstance(value, dict):
        for name, one in cast("dict[str, Any]", value).items():
            yield from texts_in(one)
            if not re.fullmatch("[a-z_]+", name):
                yield name
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from texts_in(one)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_every_text_of_every_event_comes_out_of_every_stock_parser_as_it_went_in(hostile: str) -> None:
    """protocol:P31"""
    for text in (hostile, f"before {hostile} after{hostile}"):
        events = [filled(event, text) for event in sample_events()]
        for data in checked(events):
            assert set(texts_in({**orjson.loads(data), "type": text})) == {text}


@given(st.lists(TEXTS, max_size=6))
def test_whatever_is_said_one_after_the_other_stays_apart(texts: list[str]) -> None:
    """protocol:P31"""
    kinds = sample_events()
    checked([filled(kinds[place % len(kinds)], text) for place, text in enumerate(texts)])
