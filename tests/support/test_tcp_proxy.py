"""The proxy that spoils networks does what it says, and is a plain wire once it is healed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.support.tcp_proxy import TcpProxy, Way, proxying

WAIT_SECONDS = 5.0
SILENT_SECONDS = 0.2
"""What is not there after it was held back; everything else is there in a thousandth of it."""

Ends = tuple[TcpProxy, asyncio.StreamReader, asyncio.StreamWriter, list[int]]


@asynccontextmanager
async def echoed() -> AsyncGenerator[Ends, None]:
    """A server that says back what it hears, behind a proxy, and a client of it; and how much the server has heard."""
    heard: list[int] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                heard.append(len(data))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with asyncio.timeout(4 * WAIT_SECONDS), proxying(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader, writer, heard
        finally:
            writer.transport.abort()
            server.close()


async def said(ends: Ends, data: bytes) -> bytes:
    _, reader, writer, _ = ends
    writer.write(data)
    async with asyncio.timeout(WAIT_SECONDS):
        return await reader.readexactly(len(data))


async def nothing_comes(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(SILENT_SECONDS):
            await reader.readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_bytes_pass_unchanged_both_ways() -> None:
    data = bytes(range(256)) * 4_000
    async with echoed() as ends:
        assert await said(ends, data) == data


async def test_a_delay_holds_each_chunk_back_and_does_not_change_the_order() -> None:
    async with echoed() as ends:
        proxy = ends[0]
        proxy.spoil(there=Way(delay_seconds=0.05, jitter_seconds=0.05))
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await said(ends, b"abc" * 30_000) == b"abc" * 30_000
        assert 0.05 <= loop.time() - began < WAIT_SECONDS


async def test_delays_of_chunks_under_way_do_not_add_up() -> None:
    async with echoed() as ends:
        proxy, reader, writer, _ = ends
        proxy.spoil(there=Way(delay_seconds=0.3))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(8):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)  # so that each is a chunk of its own
        await reader.readexactly(8)
        assert loop.time() - began < 8 * 0.3


async def test_slices_arrive_one_by_one() -> None:
    async with echoed() as ends:
        proxy, _, _, heard = ends
        proxy.spoil(there=Way(slice_bytes=7, bytes_per_second=4_096))
        assert await said(ends, b"y" * 70) == b"y" * 70
        assert len(heard) >= 5
        assert max(heard) < 70


async def test_a_throttled_way_carries_no_more_than_it_should() -> None:
    async with echoed() as ends:
        proxy = ends[0]
        proxy.spoil(back=Way(bytes_per_second=20_000, slice_bytes=1_000))
        loop = asyncio.get_running_loop()
        began = loop.time()
        await said(ends, b"z" * 10_000)
        assert loop.time() - began >= 0.4


async def test_what_a_silent_way_held_arrives_when_it_speaks_again() -> None:
    async with echoed() as ends:
        proxy, reader, writer, heard = ends
        proxy.there.silence()
        writer.write(b"hello")
        assert await nothing_comes(reader)
        assert heard == []
        proxy.there.speak()
        assert await reader.readexactly(5) == b"hello"


async def test_with_its_answers_silent_a_server_hears_and_is_not_heard() -> None:
    async with echoed() as ends:
        proxy, reader, writer, heard = ends
        proxy.back.silence()
        writer.write(b"hello")
        assert await nothing_comes(reader)
        assert heard == [5]
        assert proxy.reset() == 1
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(5)


async def test_a_reset_is_one_and_not_an_end() -> None:
    async with echoed() as ends:
        proxy, reader, _, _ = ends
        await said(ends, b"before")
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert proxy.resets == 1


async def test_a_server_that_is_not_there_resets_its_clients() -> None:
    async with echoed() as ends:
        proxy = ends[0]
        async with proxying(1) as nobody:
            reader, writer = await asyncio.open_connection("127.0.0.1", nobody.port)
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.transport.abort()
        assert await said(ends, b"still here") == b"still here"
        assert proxy.connections == 1


async def test_a_healed_proxy_is_a_plain_wire_and_delivers_what_it_held() -> None:
    async with echoed() as ends:
        proxy, reader, writer, _ = ends
        proxy.spoil(Way(slice_bytes=1), Way(bytes_per_second=1_024))
        proxy.there.silence()
        writer.write(b"held")
        assert await nothing_comes(reader)
        proxy.heal()
        assert await reader.readexactly(4) == b"held"
        data = b"w" * 500_000
        assert await said(ends, data) == data


async def test_an_end_of_the_client_reaches_the_server() -> None:
    async with echoed() as ends:
        proxy, reader, writer, _ = ends
        await said(ends, b"bye")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(WAIT_SECONDS):
            while proxy.open_connections:  # noqa: ASYNC110 - nobody says so
                await asyncio.sleep(0.01)
        assert reader.at_eof() or proxy.open_connections == 0
