"""The head of a request: bounded in size and in time, however it comes."""

from __future__ import annotations

import asyncio

import pytest
from playhead_gateway import connection

from tests.gateway.support import Served, World, serving

SOON = 5.0
REST = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


async def said(served: Served, *parts: bytes) -> bytes:
    """Send parts, and give all that is answered until the connection is closed."""
    reader, writer = await asyncio.open_connection(served.address.host, served.address.port)
    try:
        async with asyncio.timeout(SOON):
            for part in parts:
                writer.write(part)
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 4_000 + b"\r\n", b"a" * 5_000], ids=["many headers", "one header"])
async def test_a_head_without_end_is_refused_and_not_kept(world: World, line: bytes) -> None:
    """protocol:P28"""
    async with serving(world.parts()) as served:
        start = REST if line.startswith(b"X") else REST + b"X-A: "
        answer = await said(served, start, *(line for _ in range(200)))
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"head-too-large"' in answer
        assert (await served.client.get("/livez")).status_code == 200


async def test_a_head_of_a_good_size_is_read_in_whatever_pieces_and_so_are_those_that_follow(world: World) -> None:
    """protocol:P28"""
    head = REST + b"X-A: " + b"a" * 20_000 + b"\r\n"
    async with serving(world.parts()) as served:
        pieces = [head[at : at + 997] for at in range(0, len(head), 997)]
        answer = await said(served, *pieces, b"\r\n", *pieces, b"\r\n", *pieces, b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 3


async def test_a_large_body_is_no_head(world: World) -> None:
    """protocol:P28"""
    body = b'{"input":"' + b"a" * 300_000 + b'"}'
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with serving(world.parts()) as served:
        answer = await said(served, head % len(body), body, REST + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("start", [b"", b"GET /livez HT", REST], ids=["nothing", "half a line", "half a head"])
async def test_who_does_not_finish_a_head_is_not_waited_for(
    world: World, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """protocol:P28"""
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", 0.2)
    async with serving(world.parts()) as served:
        assert await said(served, start) == b""
