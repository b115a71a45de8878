"""The comparison: its table, what is on the screen of a killed system's viewer, LangGraph's wire; one real peer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.client import Run
from bench.compare.__main__ import lines, together
from bench.compare.comparison import render
from bench.compare.crash import Outcome, Viewer
from bench.compare.langgraph_client import LangGraphStream
from bench.compare.peers import PEERS, environment, pins
from bench.systems import ROOT, NotStarted
from bench.table import Figures

COMPARE_SECONDS_MAX = 300.0
WAIT_SECONDS_MAX = 20.0


def test_a_cell_has_the_median_the_range_and_how_many_times_the_reference_it_is() -> None:
    figures: Figures = {
        "plain": {"delta_p50": [0.5, 0.4, 0.6]},
        "memory": {"burst": [10.0]},
        "redis": {"delta_p50": [1.0, 2.0, 0.9], "burst": [2.5], "crash_twice": [0.0]},
    }
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in render(figures).splitlines()]
    assert table[0] == ["what", "plain", "memory", "redis"]
    assert table[2][1:] == ["0.50 (0.40–0.60)", "–", "1.00 (0.90–2.00), 2.00 ×"]
    assert table[3][1:] == ["–", "10.0", "2.50, 0.25 ×"]
    assert table[4][1:] == ["–", "–", "0"]
    assert len(table) == 5


def stored(**changes: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"figures": {}, "notes": [], "problems": []}
    about: dict[str, Any] = {"machine": {"cores": 2}, "rounds": 5, "versions": {}, "commands": {}, "skipped": {}}
    return {**about, "result": empty, **changes}


def test_what_could_not_be_run_is_named_with_the_reason() -> None:
    said = lines(stored(skipped={"redis": "no such binary"}))
    assert "redis could not be run here: no such binary" in said


def test_parts_measured_one_after_another_make_one_table() -> None:
    crowd = {"figures": {"redis": {"sessions": [40.0]}}, "notes": ["a"], "problems": []}
    stream = {"figures": {"redis": {"delta_p50": [1.0]}}, "notes": ["b"], "problems": ["c"]}
    both = together([stored(result=crowd, versions={"redis": "8"}), stored(result=stream)])
    assert both["result"]["figures"] == {"redis": {"sessions": [40.0], "delta_p50": [1.0]}}
    assert both["result"]["notes"] == ["a", "b"]
    assert both["result"]["problems"] == ["c"]
    assert both["versions"] == {"redis": "8"}


def test_every_peer_pins_what_it_says_it_is() -> None:
    for peer in PEERS.values():
        pinned = pins((ROOT / "bench" / "compare" / "requirements" / f"{peer.requirements}.txt").read_text())
        assert set(peer.packages) <= set(pinned)


def test_a_peer_whose_environment_cannot_be_made_gives_the_reason(tmp_path: Path) -> None:
    (tmp_path / "peer.txt").write_text("./there-is-no-such-package\n")
    with pytest.raises(NotStarted, match="there-is-no-such-package"):
        environment(tmp_path / "peer.txt", tmp_path / "cache")


def delta(stamp: int, **attempt: int) -> dict[str, Any]:
    return {"type": "text_delta", "text": f"@{stamp:019d} so it goes, ", **attempt}


def test_a_viewer_who_sees_the_answer_begin_again_sees_its_beginning_twice() -> None:
    viewer = Viewer()
    for stamp in (1, 2, 11, 12, 13):
        viewer.take("text_delta", "", delta(stamp))
    viewer.take("run_completed", "", {})
    outcome = viewer.outcome(killed=10, ready=10, deltas=3)
    assert (outcome.ended, outcome.missing, outcome.twice) == (True, 0, 2)


def test_text_of_an_attempt_that_is_said_to_be_lost_is_not_on_the_screen() -> None:
    viewer = Viewer()
    viewer.take("text_delta", "1", delta(1, step=1, attempt=1))
    viewer.take("model_call_abandoned", "2", {"step": 1, "attempt": 1})
    viewer.take("text_delta", "3", delta(11, step=1, attempt=2))
    outcome = viewer.outcome(killed=10, ready=10, deltas=1)
    assert (outcome.missing, outcome.twice, viewer.last) == (0, 0, "3")


def test_a_viewer_who_hears_nothing_more_misses_the_rest() -> None:
    viewer = Viewer()
    viewer.take("text_delta", "", delta(1))
    viewer.take("ready", "", {})
    [read] = viewer.reads
    assert viewer.outcome(killed=read + 1, ready=read + 1, deltas=3) == Outcome(False, None, 2, 0)


def message(kind: str, content: object) -> bytes:
    return (
        b"event: messages\r\ndata: " + orjson.dumps([{"type": kind, "content": content}, {}]) + b"\r\nid: 1-0\r\n\r\n"
    )


async def test_tokens_of_langgraph_are_deltas_and_the_results_of_its_tools_are_none() -> None:
    frames = [
        b'event: metadata\r\ndata: {"run_id":"r"}\r\n\r\n',
        b": heartbeat\r\n\r\n",
        message("AIMessageChunk", []),
        message("AIMessageChunk", [{"type": "text", "text": f"@{7:019d} so"}]),
        message("tool", f"@{8:019d}"),
        message("AIMessageChunk", [{"type": "tool_use"}, {"type": "text", "text": f"@{9:019d}"}]),
    ]
    body = b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    run = Run("bench-run-0123456789abcdef")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(WAIT_SECONDS_MAX):
        port: int = server.sockets[0].getsockname()[1]
        request = LangGraphStream.request(port, "stream", run.token)
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: LangGraphStream(run, request), "127.0.0.1", port
        )
        await stream.done
    assert [stamp for stamp, _ in run.delays] == [7, 9]
    assert run.posted < run.first_event <= run.first_delta <= run.ended
    assert not run.problem


@pytest.mark.skipif(
    os.environ.get("PLAYHEAD_COMPARE") != "1", reason="installs a peer from a package registry: set PLAYHEAD_COMPARE=1"
)
def test_a_peer_is_installed_started_and_measured_beside_plain() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare", "--rounds", "1", "--only", "stream,crash", "--systems", "plain,redis"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMPARE_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "redis: redis " in done.stdout
    [latency] = [line for line in done.stdout.splitlines() if "added latency of a delta at the client, p50" in line]
    assert latency.rstrip("| ").endswith("×")
