"""Fan-out: who is up to date is told at once, who is not waits for itself, and memory is bounded by who connects."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import struct
from collections.abc import Coroutine
from contextlib import ExitStack

import psutil
import pytest
from playhead.accept import genesis
from playhead.events import TextDelta
from playhead.ids import BEGINNING
from playhead_gateway.fanout import Fanout
from playhead_gateway.limits import Limits
from playhead_gateway.ring import Ring
from playhead_gateway.tail import Tail, Viewer

from tests.gateway.support import (
    CLOSED,
    CODEC,
    OWNED,
    RUN,
    SSE,
    STARTED,
    Served,
    World,
    deltas,
    events_of,
    serving,
    watching,
)

STALLED = 150
HELD_BYTES_MAX = 256 * 1024
"""What a stalled viewer may take: a portion of 64 KiB, what its connection buffers, and its request."""
BIG = TextDelta(RUN, 1, 1, "x" * 20_000)
EVENTS = 250
COMING, WAVES = 200, 5
KEPT_BYTES_MAX = 2048
"""What a viewer may leave behind: far less than its request, its task and its connection take."""
RESET = struct.pack("ii", 1, 0)
MIB = 1024 * 1024


async def connected(served: Served, session: str, more: str = "") -> socket.socket:
    """Ask for a session's stream, into as little of a buffer as the kernel gives."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await loop.sock_connect(connection, (served.address.host, served.address.port))
    request = f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n{more}"
    await loop.sock_sendall(connection, request.encode())
    return connection


async def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read until some bytes have come."""
    loop, read = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(20):
        while end not in read[-len(end) - 1_000_000 :]:
            part = await loop.sock_recv(connection, 1_000_000)
            assert part, "the connection ended"
            read += part
    return bytes(read)


def seqs(stream: bytes) -> list[int]:
    return [int(seq) for seq in re.findall(rb"\nid: ([0-9]+)-", stream)]


def held() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


async def test_a_storm_of_viewers_that_do_not_read_takes_bounded_memory_and_each_gets_the_rest(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(ring_bytes_max=8 * MIB)) as served:
        with ExitStack() as stack:
            async with watching(served.client, session) as stream:
                await stream.take(3)
                stalled = [stack.enter_context(await connected(served, session)) for _ in range(STALLED)]
                before = held()
                for _ in range(EVENTS):
                    await world.write(session, BIG)
                    await stream.next()
                grown = held() - before
                # Once for the log that these tests keep in memory, once for the ring, once for the one that reads.
                written = 3 * EVENTS * 20_000
                assert grown < STALLED * HELD_BYTES_MAX + written, f"{grown / MIB:.0f} MiB"
                await world.write(session, CLOSED)
            # Those who read on now get all of it, in order: two of them, not to move it all through this test.
            for connection in stalled[:2]:
                last = 3 + EVENTS
                assert seqs(await read_until(connection, b"event: end")) == list(range(1, last + 1))


async def test_a_session_that_grows_takes_the_room_that_others_do_not_need(world: World) -> None:
    others = [await world.session_with(STARTED, OWNED) for _ in range(20)]
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(rings_bytes_max=8 * MIB)) as served:
        with ExitStack() as stack:
            for other in others:
                await read_until(stack.enter_context(await connected(served, other)), b"owner_changed")
            stalled = stack.enter_context(await connected(served, session))
            await read_until(stalled, b"owner_changed")
            async with watching(served.client, session) as stream:
                await stream.take(3)
                for _ in range(EVENTS):
                    await world.write(session, BIG)
                    await stream.next()
            await world.write(session, CLOSED)
            assert seqs(await read_until(stalled, b"event: end")) == list(range(3, 4 + EVENTS))


async def test_what_all_sessions_keep_together_is_bounded(world: World) -> None:
    sessions = [await world.session_with(STARTED, OWNED) for _ in range(10)]
    limits = Limits(rings_bytes_max=MIB)
    async with Fanout(world.log, CODEC, lambda record: record.value, limits) as fanout:
        tails = [(await fanout.open(session, BEGINNING)).tail for session in sessions]
        for seq in range(3, 23):
            for session, tail in zip(sessions, tails, strict=True):
                await world.write(session, BIG)
                await tail.reach(seq)
                tail.ring.take(seq - 1, MIB)  # as a frame it is counted otherwise than as a record
            assert sum(tail.ring.held for tail in tails) < MIB + 2 * len(BIG.text)
        large = max(tail.ring.held for tail in tails)
    assert large > MIB / 20


async def test_more_viewers_than_there_are_seats_are_sent_away_however_many_ask_at_once(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts(viewers_max=5)) as served:
        connections = await asyncio.gather(*(connected(served, session) for _ in range(20)))
        with ExitStack() as stack:
            for connection in connections:
                stack.enter_context(connection)
            told = await asyncio.gather(*(first(connection) for connection in connections))
        assert sum(b"overloaded" in said for said in told) == 15
        assert sum(b"event: owner_changed" in said for said in told) == 5


async def test_viewers_that_come_and_go_leave_nothing_behind(world: World) -> None:
    sessions = [await world.session_with(STARTED, OWNED, *deltas(200)) for _ in range(10)]
    async with serving(world.parts()) as served:

        async def wave() -> None:
            """Have viewers come at once, some of whom read, and cut them off in order or not."""
            with ExitStack() as stack:
                for number in range(COMING):
                    one = stack.enter_context(await connected(served, sessions[number % len(sessions)]))
                    if number % 2:
                        await read_until(one, b"event: text_delta")
                    if number % 4 > 1:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                await world.write(sessions[0], *deltas(1))

        tasks, files = len(asyncio.all_tasks()), psutil.Process().num_fds()
        for _ in range(3):  # until all the memory is there that is used again and again
            await wave()
        before = held()
        for _ in range(WAVES):
            await wave()
        async with asyncio.timeout(20):
            while len(asyncio.all_tasks()) > tasks or psutil.Process().num_fds() > files:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0)
        grown = held() - before
        assert grown < WAVES * COMING * KEPT_BYTES_MAX, f"{grown / MIB:.1f} MiB"


async def first(connection: socket.socket) -> bytes:
    """Read until it is clear whether this viewer stays."""
    loop, read = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while b"owner_changed" not in read and b"overloaded" not in read:
            part = await loop.sock_recv(connection, 65_536)
            assert part, read
            read += part
    return read


async def test_a_request_that_waits_behind_a_stream_on_its_connection_gets_nothing_of_it(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        with await connected(served, session, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
            stream = await read_until(connection, b"event: owner_changed")
            for event in deltas(5):
                await world.write(session, event)
            await world.write(session, CLOSED)
            stream += await read_until(connection, b"event: end")
            if b"\r\n0\r\n\r\n" not in stream:
                stream += await read_until(connection, b"0\r\n\r\n")
            body = stream[: stream.index(b"\r\n0\r\n\r\n")]
            assert seqs(body) == list(range(1, 9))
            assert body.count(b"HTTP/1.1") == 1


async def test_a_live_stream_of_some_types_ends_in_order_where_it_was_asked_to(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served, watching(served.client, session, until="5") as stream:
        await stream.take(3)
        for event in deltas(5):
            await world.write(session, event)
        rest = await stream.rest()  # which fails if the body is not ended as HTTP has it
        assert [frame.data["seq"] for frame in events_of(rest)] == [3, 4, 5]
        assert rest[-1].event == "end"
        again = await served.client.get(
            f"/v1/sessions/{session}/events", params={"after": "5", "until": "5"}, headers=SSE
        )
        assert again.status_code == 204


async def no_send(_: object) -> None:
    raise AssertionError("nothing is sent here")


async def test_a_fault_in_telling_one_viewer_is_its_own_and_the_others_are_told(world: World) -> None:
    session = await world.log.create()
    tail = Tail(session, BEGINNING, genesis(session), Ring(0, lambda _: b""))
    told: list[str] = []

    def tells() -> bool:
        told.append("told")
        return len(told) <= 2

    def fails() -> bool:
        raise ValueError("a dialect is at fault")

    async with asyncio.timeout(5) as patience:
        viewers = [Viewer(no_send, patience) for _ in range(3)]
        tail.viewers.update(viewers)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(viewers[0].wait(tells))
            second = group.create_task(fault_of(viewers[1].wait(fails)))
            third = group.create_task(viewers[2].wait(tells))
            await asyncio.sleep(0)
            tail.notify()
            assert told == ["told", "told"]
            assert await second == "a dialect is at fault"
            assert not first.done()
            assert not third.done()
            for viewer in (viewers[0], viewers[2]):
                viewer.leave()  # who is gone cannot be told, and its task is woken
            await first


async def fault_of(waiting: Coroutine[None, None, None]) -> str:
    with pytest.raises(ValueError, match="fault") as raised:
        await waiting
    return str(raised.value)
