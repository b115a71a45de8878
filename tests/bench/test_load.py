"""The steady load: what it begins, what it counts, and what it says of sessions that go on over several windows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from bench.client import Run, Stream
from bench.load import merged
from bench.systems import ROOT, start_provider, start_system

LOAD_SECONDS_MAX = 30.0
WAIT_SECONDS_MAX = 20.0


async def test_a_frame_about_the_connection_names_the_session_and_is_not_the_first_event() -> None:
    go_on = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        writer.write(b'event: ready\nretry: 2000\ndata: {"session":"ses_1","status":"idle"}\n\n')
        await writer.drain()
        await go_on.wait()
        writer.write(b'event: run_completed\ndata: {"seq":1,"type":"run_completed"}\nid: 1\n\n')
        writer.close()

    run = Run("bench-run-0123456789abcdef")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(WAIT_SECONDS_MAX):
        port: int = server.sockets[0].getsockname()[1]
        request = Stream.request(port, "stream", run.token)
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: Stream(run, request), "127.0.0.1", port)
        while not run.session:  # noqa: ASYNC110 - a run is a record, and tells nobody when it changes
            await asyncio.sleep(0.001)
        assert not run.first_event
        go_on.set()
        await stream.done
    assert run.session == "ses_1"
    assert run.first_event
    assert not run.problem


def test_what_the_model_says_of_a_run_in_two_windows_is_one_record() -> None:
    known: dict[str, dict[str, Any]] = {}
    merged(known, {"one": {"steps": [{"late": 1}], "tools": []}})
    merged(known, {"one": {"steps": [{"late": 2}], "tools": [[1, 2]]}, "two": {"steps": [{"late": 3}], "tools": []}})
    assert known["one"] == {"steps": [{"late": 1}, {"late": 2}], "tools": [[1, 2]]}
    assert known["two"]["steps"] == [{"late": 3}]


def test_sessions_begin_evenly_are_all_whole_over_all_windows_and_every_second_is_closed(tmp_path: Path) -> None:
    with start_provider(tmp_path) as provider, start_system("embedded", provider, tmp_path, None) as system:
        ports = ["--ports", str(system.port), "--provider", str(provider.port)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", *ports, "--rate", "8", "--seconds", "2", "--window", "1"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=LOAD_SECONDS_MAX,
            check=True,
        )
    windows: list[dict[str, Any]] = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert len(windows) >= 3
    assert [problem for window in windows for problem in window["problems"]] == []
    assert sum(window["began"] for window in windows) == 16
    assert sum(window["ended"] for window in windows) == 16
    assert sum(window["closed"] for window in windows) == 8
    assert windows[0]["began"] in range(7, 11)
    assert windows[-1]["left_open"] == 0
    assert min(window["delta_ms"]["p50"] for window in windows if window["delta_ms"]) > 0
