"""Takes one stream as fast as it comes: for floods and replays, where looking at each event would be what is measured.

It keeps what the socket gave, and when; all that is asked of it is looked at afterwards. While it reads it looks only
for the end: `run_completed`, or the id of the last event. Each event must have come exactly once and in order, and each
delta's stamp too; else it says what is wrong. It refuses to know what serves it.
"""

from __future__ import annotations

import argparse
import re
import secrets
import socket
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median

import orjson

__all__ = ["Taken", "dechunked", "examine", "main"]

HOST = "127.0.0.1"
READ_BYTES = 1024 * 1024
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
SECONDS_MAX = 60.0
TAIL_BYTES = 4096
"""What is looked at for the end, at each read."""

ENDS = (b"event: run_completed", b"event: run_failed", b"event: run_cancelled")
DELTA = re.compile(rb"event: text_delta\ndata: ([^\n]*)\n")
"""Only these: the finished message holds all stamps again."""
STAMP = re.compile(rb"@([0-9]{19})")
ID = re.compile(rb"\nid: ([0-9]+)-")
SESSION = re.compile(rb"ses_[0-9A-Za-z]+")


@dataclass(slots=True)
class Taken:
    """One stream: what came, and when, in nanoseconds of the monotonic clock."""

    asked: int = 0
    pieces: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    @property
    def whole(self) -> bytes:
        """All of it, as it came."""
        return b"".join(piece for _, piece in self.pieces)


@dataclass(slots=True)
class Examined:
    """What was in a stream."""

    session: str
    last_seq: int
    deltas: int
    seconds: float
    """From asking for it to its last byte."""
    flood_seconds: float
    """From the model's write of the first delta to the read of the last one."""
    problem: str


def take(port: int, request: bytes, *ends: bytes) -> tuple[Taken, socket.socket]:
    """Ask, and read until one of `ends` has come; the connection stays open. Raises `OSError`."""
    connection = socket.create_connection((HOST, port), SECONDS_MAX)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    taken, buffer, tail = Taken(time.monotonic_ns()), bytearray(READ_BYTES), b""
    connection.sendall(request)
    view = memoryview(buffer)
    until = taken.asked + SECONDS_MAX * 1e9
    while not any(end in tail for end in ends):
        count = connection.recv_into(view)
        if not count or time.monotonic_ns() > until:
            raise ConnectionError(f"the stream did not come to its end (it stopped at {tail[-200:]!r})")
        taken.pieces.append((time.monotonic_ns(), bytes(view[:count])))
        tail = tail[-TAIL_BYTES:] + taken.pieces[-1][1][-TAIL_BYTES:]
    return taken, connection


def examine(taken: Taken) -> Examined:
    """Look at what came."""
    body = dechunked(taken.whole)
    ended = taken.pieces[-1][0]
    seqs = [int(found) for found in ID.findall(body)]
    stamps = [int(found) for frame in DELTA.findall(body) for found in STAMP.findall(frame)]
    session = SESSION.search(body)
    problem = ""
    # The stream's beginning is the session's: its first seq is 1, and every seq after it is the next.
    if seqs != list(range(1, len(seqs) + 1)):
        problem = "an event is missing, came twice or out of order"
    elif any(later <= earlier for earlier, later in pairwise(stamps)):
        problem = "a delta came twice or out of order"
    return Examined(
        session[0].decode() if session else "",
        seqs[-1] if seqs else 0,
        len(stamps),
        (ended - taken.asked) / 1e9,
        (_read_of_last_delta(taken) - stamps[0]) / 1e9 if stamps else 0.0,
        problem,
    )


def _read_of_last_delta(taken: Taken) -> int:
    """Give when the beginning of the last delta's frame was read: it comes with the rest of it."""
    rest = taken.whole.rfind(b"event: text_delta")
    for read, piece in taken.pieces:
        rest -= len(piece)
        if rest < 0:
            return read
    return taken.pieces[-1][0]


def dechunked(answer: bytes) -> bytes:
    """Give the body of an answer, as far as it came."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    parts: list[bytes] = []
    at = 0
    while (line := rest.find(b"\r\n", at)) > at:
        length = int(rest[at:line].partition(b";")[0], 16)
        parts.append(rest[line + 2 : line + 2 + length])
        at = line + 2 + length + 2
    return b"".join(parts)


def _post(agent: str) -> bytes:
    body = orjson.dumps({"agent": agent, "input": f"Please do bench-run-{secrets.token_hex(8)}."})
    return (
        b"POST /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )


def flood(port: int, agent: str) -> Examined:
    """Make a run and take its stream."""
    taken, connection = take(port, _post(agent), *ENDS)
    connection.close()
    examined = examine(taken)
    if not examined.problem and ENDS[0] not in taken.pieces[-1][1]:
        examined.problem = f"the run did not complete: {taken.pieces[-1][1][-TAIL_BYTES:]!r}"
    return examined


def replay(port: int, session: str, last_seq: int, again: int) -> dict[str, object]:
    """Read a session from its beginning; and again, several times, while the first reader stays."""
    request = (
        f"GET /v1/sessions/{session}/events HTTP/1.1\r\nhost: {HOST}\r\naccept: text/event-stream\r\n\r\n".encode()
    )
    streams: list[tuple[Taken, socket.socket]] = []
    for _ in range(1 + again):
        streams.append(take(port, request, b"\nid: %d-" % last_seq))
        if len(streams) > 1:
            streams[-1][1].close()
    used = time.process_time()
    examined = [examine(taken) for taken, _ in streams]
    streams[0][1].close()
    return {
        "cold_seconds": examined[0].seconds,
        "warm_seconds": median(each.seconds for each in examined[1:]) if again else 0.0,
        "client_cpu_seconds": used / (1 + again),
        "problems": [each.problem for each in examined if each.problem],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Take a stream as fast as it comes; print, as JSON, what it was.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--agent", help="make a run of this agent, and take its stream")
    parser.add_argument("--session", help="read this session from its beginning")
    parser.add_argument("--last", type=int, help="the session's last seq")
    parser.add_argument("--again", type=int, default=0, help="and read it so often while the first reader stays")
    arguments = parser.parse_args()
    try:
        if arguments.agent:
            said: object = asdict(flood(arguments.port, arguments.agent))
        else:
            said = replay(arguments.port, arguments.session, arguments.last, arguments.again)
    except OSError as error:
        said = {"problem": str(error), "problems": [str(error)]}
    print(orjson.dumps(said).decode(), flush=True)


if __name__ == "__main__":
    main()
