"""Whatever a client says it has seen last, the answer is one of few: exactly the rest, or a refusal that says why.

The model is the log itself. Never is anything skipped or repeated in silence, and never is an id our fault.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from playhead.ids import SessionId

from tests.gateway.support import CLOSED, OWNED, STARTED, a_turn, a_world, parse, serving

WAIT_SECONDS = 20.0
VALID = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8}))?")


@dataclass(frozen=True)
class Site:
    """A gateway in a thread, with a session, and the ids of its events and of another session's."""

    port: int
    session: SessionId
    ids: list[str]
    foreign: list[str]

    def ask(self, last: bytes | None, *, after: bytes = b"", accept: bytes = b"text/event-stream") -> tuple[int, bytes]:
        """Ask for the session's events as bytes over a socket: no client checks what is sent."""
        query = b"?after=" + after if after else b""
        header = b"" if last is None else b"Last-Event-ID: %b\r\n" % last
        with socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS) as connection:
            connection.sendall(
                b"GET /v1/sessions/%b/events%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: %b\r\n%b\r\n"
                % (self.session.encode(), query, accept, header)
            )
            answer = b""
            while data := connection.recv(1_000_000):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    def expected(self, last: bytes) -> tuple[int, list[str]]:
        """Say what an id must be answered with: the status, and the ids that follow."""
        given = last.strip(b" \t")  # as HTTP has it
        if not given:
            return 200, self.ids
        found = VALID.fullmatch(given.decode("latin-1"))
        if found is None:
            return 400, []
        seq, tag = int(found[1]), found[2]
        if seq == 0 and tag is not None:
            return 400, []  # there is no such event
        if seq > len(self.ids) or (tag is not None and self.ids[seq - 1] != f"{seq}-{tag}"):
            return 409, []
        return (200 if seq < len(self.ids) else 204), self.ids[seq:]


@pytest.fixture(scope="module")
def site() -> Generator[Site, None, None]:
    """Serve a session that has ended, in a thread, for tests that are not asynchronous."""
    found: list[Site] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        world = await a_world()
        ids: dict[SessionId, list[str]] = {}
        for session in (await world.log.create(), await world.log.create()):
            await world.write(session, STARTED, OWNED, *a_turn(session, words=6), CLOSED)
            ids[session] = [str(one.cursor) async for page in world.log.read(session) for one in page.records]
        (_, foreign), (session, own) = ids.items()
        async with serving(world.parts()) as served:
            found.append(Site(served.address.port, session, own, foreign))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(WAIT_SECONDS)
        yield found[0]
    finally:
        stop.set()
        thread.join()


def followed(body: bytes) -> list[str]:
    """Give the ids of a chunked stream's events."""
    plain, rest = b"", body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        plain, rest = plain + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return [frame.id for frame in parse(plain) if frame.id is not None]


def check(site: Site, last: bytes) -> None:
    status, ids = site.expected(last)
    answered, body = site.ask(last)
    if b"\0" in last or answered == 431:
        # The server itself refuses what is no header at all, or too much of one.
        assert answered in (400, 431)
        return
    assert (answered, followed(body) if answered == 200 else []) == (status, ids)


HEADER = st.binary(max_size=200).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take an id of some session, and change it a little."""
    seq, tag = draw(st.integers(0, 25)), draw(st.sampled_from(["", "-0000000f", "-ffffffff", "-", "-0", "-9f3a2c4"]))
    text = f"{seq}{tag}".encode()
    place = draw(st.integers(0, len(text)))
    return (
        text[:place] + draw(st.sampled_from([b"", b"0", b"-", b" ", b"a", b"\xff", b",", b"+", b"\x01"])) + text[place:]
    )


def test_every_id_that_was_ever_given_is_followed_by_exactly_the_rest(site: Site) -> None:
    """protocol:P5 protocol:P40"""
    for last in ("0", *site.ids, *(cursor.partition("-")[0] for cursor in site.ids)):
        check(site, last.encode())


def test_an_id_of_another_session_is_a_conflict_whatever_its_seq(site: Site) -> None:
    """protocol:P6"""
    for mine, other in zip(site.ids, site.foreign, strict=True):
        assert mine != other
        assert site.ask(other.encode())[0] == 409


def test_a_changed_tag_is_a_conflict_digit_by_digit(site: Site) -> None:
    """protocol:P6"""
    for cursor in site.ids:
        for place in range(len(cursor) - 8, len(cursor)):
            other = "0" if cursor[place] != "0" else "1"
            assert site.ask(f"{cursor[:place]}{other}{cursor[place + 1 :]}".encode())[0] == 409


@given(mutated() | HEADER)
@example(b"")
@example(b"18")
@example(b"99999999999999999999")
@example(b"999999999999999999")
@example(b"0-00000000")
@example(b"-1")
@example(b"1.0")
@example(b"0x1")
@example(b"1e0")
@example(b"007")
@example(b"3-00000000, 5-00000000")
@example(b"1\0")
@example("٣".encode())
@example("1-９f3a2c41".encode())
@example(b"%31")
@example(b"undefined")
@example(b"null")
@example(b"latest")
@example(b"1" * 129)
@example(b"x" * 129)
@example(b"1-" + b"f" * 127)
@example(b"x" * 1_000_000)
@example(b"0" * 1_000_000)
def test_whatever_is_said_to_be_seen_last_is_followed_by_the_rest_or_refused(site: Site, last: bytes) -> None:
    """protocol:P6 protocol:P28"""
    check(site, last)


@given(st.integers(-3, 40), st.sampled_from(["", "-00000000", "-zz"]))
def test_a_page_is_asked_for_in_the_same_words(site: Site, seq: int, tag: str) -> None:
    """protocol:P5 protocol:P6"""
    given = f"{seq}{tag}".encode()
    status, ids = site.expected(given)
    answered, body = site.ask(None, after=given, accept=b"application/json")
    assert answered == (200 if status == 204 else status)
    assert body.count(b'"seq":') == len(ids)


def test_two_ids_at_once_are_refused(site: Site) -> None:
    """Whichever is meant, the other would be skipped or repeated."""
    one, other = site.ids[2].encode(), site.ids[5].encode()
    assert site.ask(one + b"\r\nLast-Event-Id: " + other)[0] == 400
    assert site.ask(one + b"\r\nLast-Event-Id: " + one)[0] == 200
