"""The benchmark's floods, replays and kills: what is counted as whole, and times that are known are found again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import orjson
import pytest

from bench.crash import Follower, measure
from bench.footprint import bytes_of_folder, bytes_of_topics, memory_of
from bench.run import QUICK
from bench.scenarios import SAMPLES, parse
from bench.stage import Result, Stage
from bench.systems import ROOT, Process, start_provider, start_system
from bench.taking import Taken, examine

SECOND = 1_000_000_000
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HOLD_SECONDS = 0.3


def frame(seq: int, kind: str, **fields: object) -> bytes:
    body = orjson.dumps({"seq": seq, "type": kind, **fields})
    return b"event: %b\ndata: %b\nid: %d-0011aabb\n\n" % (kind.encode(), body, seq)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def delta(seq: int) -> bytes:
    return chunk(frame(seq, "text_delta", text=f"@{seq * SECOND:019d} word"))


MESSAGE = chunk(frame(4, "model_call_completed", message=f"@{2 * SECOND:019d} @{3 * SECOND:019d}"))


def test_a_flood_is_timed_from_the_models_first_delta_to_the_read_of_the_last() -> None:
    pieces = [(9 * SECOND, HEAD + chunk(frame(1, "session_started", session="ses_a")) + delta(2)[:50])]
    pieces += [(10 * SECOND, delta(2)[50:] + delta(3)), (15 * SECOND, MESSAGE)]
    examined = examine(Taken(SECOND, pieces))
    assert (examined.session, examined.last_seq, examined.deltas, examined.problem) == ("ses_a", 4, 2, "")
    assert examined.flood_seconds == 8
    assert examined.seconds == 14


@pytest.mark.parametrize("seqs", [(1, 3), (2, 3), (1, 1, 2), (2, 1)])
def test_a_stream_with_an_event_missing_or_twice_is_worth_nothing(seqs: Sequence[int]) -> None:
    examined = examine(Taken(0, [(1, HEAD + b"".join(delta(seq) for seq in seqs))]))
    assert examined.problem == "an event is missing, came twice or out of order"


async def ask(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.taking", *arguments]
    asked = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await asked.communicate()
    return orjson.loads(said)


async def test_a_model_that_writes_at_a_known_pace_is_a_flood_of_that_pace(tmp_path: Path) -> None:
    script = parse(SAMPLES["paced"])
    with start_provider(tmp_path) as provider, start_system("memory", provider, tmp_path, None) as memory:
        await ask("--port", str(memory.port), "--agent", "paced")  # pays for the server's lazy imports
        said = await ask("--port", str(memory.port), "--agent", "paced")
    assert (said["problem"], said["deltas"]) == ("", script.deltas)
    assert said["deltas"] / said["flood_seconds"] == pytest.approx(script.rate, rel=0.3)


async def test_a_delay_before_the_end_of_a_replay_is_part_of_its_time_when_cold_and_not_when_warm() -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + chunk(b"event: ready\ndata: {}\n\n") + b"".join(map(delta, range(1, 500))))
        if asked == 1:
            await asyncio.sleep(HOLD_SECONDS)
        writer.write(delta(500))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        said = await ask("--port", port, "--session", "ses_a", "--last", "500", "--again", "3")
    assert said["problems"] == []
    assert HOLD_SECONDS <= said["cold_seconds"] < 2 * HOLD_SECONDS
    assert said["warm_seconds"] < HOLD_SECONDS / 2
    assert asked == 4


async def test_a_server_that_hangs_up_is_a_problem_and_no_figure() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + delta(1))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        said = await ask("--port", port, "--session", "ses_a", "--last", "2")
    assert said["problems"]


def told(follower: Follower, kinds: Sequence[tuple[str, int]], deltas: int) -> None:
    """Tell a client of attempts, the last with so many deltas."""
    seq, stamp = 1, 0
    follower.take(frame(seq, "owner_changed", owner="vm-12-77-0a1b2c3d"))
    for kind, attempt in kinds:
        if kind == "deltas":
            for _ in range(deltas):
                seq, stamp = seq + 1, stamp + 1
                follower.take(frame(seq, "text_delta", attempt=attempt, text=f"@{stamp:019d} word"))
            continue
        seq += 1
        follower.take(frame(seq, kind, attempt=attempt))


WHOLE = (
    ("model_call_started", 1),
    ("deltas", 1),
    ("model_call_abandoned", 1),
    ("model_call_started", 2),
    ("deltas", 2),
    ("run_completed", 0),
)


async def test_a_client_says_what_a_kill_did_to_its_run() -> None:
    def problem(kinds: Sequence[tuple[str, int]], deltas: int = 300) -> str:
        follower = Follower(0)
        told(follower, kinds, deltas)
        assert follower.owner() == 77
        return follower.problem()

    assert problem(WHOLE) == ""
    assert problem(WHOLE, 299) == "299 of 300 deltas arrived"
    assert problem(WHOLE[:-1]) == "the run did not complete"
    assert problem((*WHOLE[:2], *WHOLE[3:])) == "a lost attempt is not marked"
    assert problem((*WHOLE[:2], WHOLE[-1])) == "nothing was lost: it was killed too late"


async def test_a_client_that_has_an_event_twice_or_not_at_all_says_so() -> None:
    for seqs in ((1, 1), (1, 3), (2,)):
        follower = Follower(0)
        for seq in seqs:
            follower.take(frame(seq, "owner_changed", owner="vm-1-0a"))
        follower.take(frame(seqs[-1] + 1, "run_completed"))
        assert follower.problem() == "an event is missing, came twice or out of order"


def test_a_killed_system_is_measured_by_clients_whose_runs_end_whole(tmp_path: Path) -> None:
    with start_provider(tmp_path) as provider:
        stage = Stage(QUICK, ["embedded"], provider, None, tmp_path, "anthropic", Result())
        measure(stage, ["embedded"])
    assert stage.result.problems == []
    figures = stage.result.figures["embedded"]
    assert figures["crash_whole"] == [100.0]
    (gap,), (ready,), (after,) = (figures[row] for row in ("crash_gap", "crash_ready", "crash_next"))
    # Ready is looked for now and then, so that a client may have its next event a little before.
    assert 0 < gap == pytest.approx(ready + after, abs=0.2)


def test_a_process_holds_what_it_was_made_to_hold(tmp_path: Path) -> None:
    code = "import sys; held = bytearray(b'x' * (64 << 20)); print('ready', flush=True); sys.stdin.read()"
    with Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        now, peak = memory_of(Process("holder", popen, tmp_path / "log"))
        popen.kill()
    assert 64 <= now < 120
    assert peak is None or peak >= now


def test_the_bytes_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 24)
    assert bytes_of_folder(tmp_path) == 1024


@pytest.mark.kafka
async def test_the_bytes_of_topics_are_those_that_the_broker_has(kafka_bootstrap: str) -> None:
    from aiokafka import AIOKafkaProducer  # pyright: ignore[reportMissingTypeStubs] # noqa: PLC0415 - only with a broker
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # pyright: ignore[reportMissingTypeStubs] # noqa: PLC0415

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("bytes-of-topics-x", 1, 1)])  # pyright: ignore[reportUnknownMemberType]
    await admin.close()
    before = bytes_of_topics(kafka_bootstrap, "bytes-of-topics-")
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        await producer.send_and_wait("bytes-of-topics-x", b"x" * 10_000)  # pyright: ignore[reportUnknownMemberType]
    after = bytes_of_topics(kafka_bootstrap, "bytes-of-topics-")
    assert sum(before.values()) == 0
    assert 10_000 <= after["bytes-of-topics-x"] < 10_200
