"""What a hostile or broken gateway says to the clients: any status, headers and body, in any pieces."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
from playhead.client import Client, Event, Patience
from playhead.client.asking import RETRY_AFTER_SECONDS_MAX, retry_after_of
from playhead.client.watching import Dropped, View, watch
from playhead.errors import PlayheadError

from tests.cli.fake_gateway import SESSION, end, event, ready
from tests.fuzz.target import Run, Target

__all__ = ["TARGETS"]

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "gateway" / "playhead_gateway" / "static" / "playhead.js"
HARNESS = Path(__file__).with_name("hostile.mjs")

PATIENCE = Patience(first_seconds=0.001, most_seconds=0.001, silence_seconds=1.0, lost_seconds=0.01)
SECONDS_MAX = 3.0
"""How long a client may be busy with one answer, given again and again."""
SEEN_MAX = 20_000


@dataclass(frozen=True)
class Answer:
    """What the gateway answers, whatever it is asked."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Sequence[bytes]


def answer_of(data: bytes) -> Answer | None:
    """Read a status, headers, an empty line and a body. None for what no parser of HTTP lets through."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if not (first.isdigit() and 200 <= int(first[:4]) <= 599):
        return None
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, _, value = line.partition(b":")
        text = value.decode("latin-1").strip(" \t")
        if not name.replace(b"-", b"").isalnum() or not all(" " <= char != "\x7f" for char in text):
            return None
        if name.lower() == b"retry-after":
            assert (
                0
                <= retry_after_of(httpx2.Response(503, headers=[(b"retry-after", text.encode("latin-1"))]))
                <= RETRY_AFTER_SECONDS_MAX
            )
            continue  # it is waited for
        headers.append((name.decode(), text))
    size = 1 + sum(body[:64]) % 977
    return Answer(int(first[:4]), headers, [body[at : at + size] for at in range(0, len(body), size)])


class Answering(httpx2.AsyncBaseTransport):
    """A network with one answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.answer.headers]
        return httpx2.Response(self.answer.status, headers=headers, stream=Pieces(self.answer.pieces))


class Pieces(httpx2.AsyncByteStream):
    """A body."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for piece in self._pieces:
            yield piece


async def watched(http: httpx2.AsyncClient) -> None:
    last, count = 0, 0
    # What is waited for at random is next to nothing here, unless it is beyond all bounds.
    async with aclosing(watch(http, View(SESSION), patience=PATIENCE, chance=lambda: 1e-6)) as seen:
        async for one in seen:
            count += 1000 if isinstance(one, Dropped) else 1
            if count > SEEN_MAX:
                return
            if isinstance(one, Event):
                assert one.seq > last, f"event {one.seq} after {last}"
                last = one.seq


@contextmanager
def python_client() -> Generator[Run, None, None]:
    """Raise nothing but errors of ours, show events in order alone, and give up in time."""
    with asyncio.Runner() as loop:
        client, network = Client("http://g", patience=PATIENCE), Answering(Answer(204, [], []))
        loop.run(client.http.aclose())
        client.http = httpx2.AsyncClient(base_url="http://g", transport=network)

        async def one(answer: Answer) -> None:
            network.answer = answer
            session = client.session(SESSION)
            deeds: list[Coroutine[None, None, object]] = [watched(client.http), session.state()]
            if answer.status < 400 and not any(name.lower() == "content-encoding" for name, _ in answer.headers):
                deeds += [
                    client.start("a", "hi"),
                    session.say("hi"),
                ]  # what has no answer is asked again, after a while
            for deed in deeds:
                with suppress(PlayheadError):
                    async with asyncio.timeout(SECONDS_MAX):
                        await deed
            with suppress(PlayheadError, TimeoutError):  # which waits as it is told, within bounds
                async with asyncio.timeout(0.01):
                    await session.result("run_1")

        def run(data: bytes) -> None:
            answer = answer_of(data)
            if answer is not None:
                loop.run(one(answer))

        yield run
        loop.run(client.aclose())


@contextmanager
def javascript_client() -> Generator[Run, None, None]:
    """The same for playhead.js, in a process of its own."""
    node = shutil.which("node")
    if node is None:
        yield lambda _: None
        return
    process = subprocess.Popen([node, HARNESS, MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin, process.stdout

    def run(data: bytes) -> None:
        answer = answer_of(data)
        if answer is None:
            return
        pieces = [base64.b64encode(piece).decode() for piece in answer.pieces]
        into.write(orjson.dumps({"status": answer.status, "headers": answer.headers, "pieces": pieces}) + b"\n")
        into.flush()
        found = json.loads(out.readline())
        assert not found, found

    try:
        yield run
    finally:
        into.close()
        process.wait(SECONDS_MAX)
        out.close()


def seeds() -> list[bytes]:
    told = [ready(), *(event(seq, "text_delta", run_id="run_1", text=f"w{seq}") for seq in (1, 2))]
    done = [event(3, "final_response", run_id="run_1", text="w"), event(4, "run_completed", run_id="run_1")]
    failed = event(3, "run_failed", run_id="run_1", error={"code": "x", "message": "y"})
    draining = 'event: draining\nretry: 20\ndata: {"reason":"draining"}\n\n'
    stream = "200\ncontent-type: text/event-stream\n\n"
    problem = {"type": "urn:x", "title": "Not", "status": 409, "detail": "no", "code": "cursor-conflict", "last_seq": 3}
    answers = [
        stream + "".join([*told, *done, end()]),
        stream + "".join([*told, failed]),
        stream + ": hi\n\nid: 7-00000000\nretry: 5\n\n" + told[0] + draining,
        f"200\ncontent-type: application/json; charset=utf-8\n\n{json.dumps({'id': SESSION, 'run_id': 'run_1'})}",
        f"409\ncontent-type: application/problem+json\n\n{json.dumps(problem)}",
        "503\nretry-after: 1\ncontent-type: text/html\n\n<html>busy</html>",
        "204\n\n",
        "200\ncontent-type: application/json\ncontent-encoding: gzip\n\n\x1f\x8b\x08",
        "302\nlocation: http://g/\n\n",
    ]
    return [one.encode() for one in answers]


TARGETS = (
    Target("python-client", python_client, seeds, 120, 64 * 1024),
    Target("javascript-client", javascript_client, seeds, 250, 64 * 1024),
)
