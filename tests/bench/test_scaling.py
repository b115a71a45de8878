"""Scaling out: what is compared with what, and what a client of a hand-over noticed. No broker; figures are given."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bench.fleet import Shape
from bench.handover import BOUND_SECONDS, Change, Story, Told, report
from bench.handover_app import MODEL
from bench.scaling import Measured, table
from bench.scenarios import parse

WAIT_SECONDS_MAX = 20.0
DELTAS = parse(MODEL).deltas_of_run
MS = 1_000_000
SECOND = 1_000 * MS


def cpu(orchestrator: float, worker: float, gateway: float, broker: float = 8.0) -> dict[str, list[float]]:
    return {"orchestrator": [orchestrator], "worker": [worker], "gateway": [gateway], "broker": [broker]}


def measured(**changes: Any) -> Measured:
    idle = cpu(0.01, 0.01, 0.01, 0.05)
    whole = Measured([50.0], [2.0], [9.0], cpu(10.0, 2.0, 8.0), {}, idle)
    return replace(whole, **changes)


def verdict(lines: list[str]) -> str:
    (line,) = [line for line in lines if line.startswith("orchestrators")]
    return line


def test_four_processes_are_compared_with_one_that_has_a_quarter_of_the_load() -> None:
    one = measured(cpu_ms_of_share={4: cpu(15.0, 3.0, 12.0)})
    # More than one process with all of the load needs, and just what one with a quarter does.
    four = measured(cpu_ms=cpu(15.0, 2.0, 8.0))
    assert "scales: 1.00 ×" in verdict(table({Shape(): one, Shape(orchestrators=4): four}))


def test_four_processes_that_need_more_than_one_with_as_much_to_do_share_something() -> None:
    one = measured(cpu_ms_of_share={4: cpu(15.0, 3.0, 12.0)})
    # 15 and 2 and 8 are expected: half of the difference is paid by the gateway, which is one as before.
    four = measured(cpu_ms=cpu(20.0, 2.0, 13.0, 12.0))
    assert verdict(table({Shape(): one, Shape(orchestrators=4): four})).endswith(
        "shares something: 1.40 × the CPU of a session; the broker 1.50 ×"
    )


def test_a_shape_of_which_nothing_was_whole_has_no_figures() -> None:
    lines = table({Shape(): measured(), Shape(4, 4, 4): Measured(problems=["all"])})
    assert any(line.startswith("4/4/4") and line.endswith("nothing was whole") for line in lines)


def heard(*attempts: int, lost: int | None = None) -> Told:
    """A story of which some deltas were told in each attempt, 50 ms apart."""
    told, seq, now = Told(posted=0), 0, 0
    for attempt, count in enumerate(attempts, start=1):
        events: list[dict[str, Any]] = [{"type": "model_call_started", "attempt": attempt}]
        events += [{"type": "text_delta", "text": f"@{now + delta * 50 * MS:019d}"} for delta in range(count)]
        if attempt < len(attempts):
            events.append({"type": "model_call_abandoned", "attempt": attempt})
        for event in events:
            seq += 1
            now += 50 * MS if event["type"] == "text_delta" else 0
            if seq != lost:
                told.take({"seq": seq, **event}, now)
        now += SECOND
    told.ended = now
    return told


def test_a_story_that_another_went_on_with_is_whole_with_its_lost_attempt() -> None:
    told = heard(30, DELTAS)
    assert told.problem() == ""
    assert list(told.abandoned) == [1]


def test_a_story_is_not_whole_if_an_event_a_mark_or_the_end_of_the_last_attempt_is_missing() -> None:
    assert heard(DELTAS, lost=7).problem() == "an event is missing, came twice or out of order"
    unmarked = heard(30, DELTAS)
    unmarked.abandoned.clear()
    assert unmarked.problem() == "a lost attempt is not marked"
    assert heard(30, DELTAS - 1).problem() == f"{DELTAS - 1} of {DELTAS} deltas arrived"
    twice = heard(DELTAS)
    twice.stamps[3] = twice.stamps[2]
    assert twice.problem() == "a delta came twice or out of order"


def test_the_longest_pause_is_that_between_two_deltas_across_attempts_in_the_stretch_that_is_asked_for() -> None:
    told = heard(30, DELTAS)
    assert told.pause(0, 10 * SECOND) == pytest.approx(1.05)
    assert told.pause(0, 1 * SECOND) == pytest.approx(0.05)
    assert told.pause(60 * SECOND, 61 * SECOND) is None
    assert told.wait(-1, 1) == pytest.approx(0.05)
    assert told.wait(1, SECOND) is None


def test_a_wait_beyond_the_bound_is_said() -> None:
    changes = [Change("soon", 2, 0, [0.1], [BOUND_SECONDS]), Change("late", 2, 1, [0.1], [BOUND_SECONDS + 0.1])]
    lines = report(changes)
    assert "BEYOND" not in lines[1]
    assert lines[2].endswith("BEYOND THE BOUND")
    assert f"= {BOUND_SECONDS:.1f} s" in lines[-1]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_client_notes_events_and_not_what_is_about_the_connection(ends: bool) -> None:
    events = [
        {"seq": 1, "type": "model_call_started", "attempt": 1},
        {"seq": 2, "type": "text_delta", "text": "@" + "1" * 19},
    ]
    events += [{"seq": 3, "type": "run_completed"}] if ends else []
    frames = [b'event: ready\nretry: 2000\ndata: {"session":"ses_1"}\n\n', b": hb\n\n"]
    frames += [b"data: %b\n\n" % orjson.dumps(event) for event in events]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"".join(frames))
        await writer.drain()
        writer.close()

    told = Told()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(WAIT_SECONDS_MAX):
        port: int = server.sockets[0].getsockname()[1]
        request = Story.request(port, "story", "Please do.")
        _, story = await asyncio.get_running_loop().create_connection(lambda: Story(told, request), "127.0.0.1", port)
        await story.done
    assert told.seqs == [1, 2, 3][: len(events)]
    assert told.stamps == [int("1" * 19)]
    assert bool(told.failure) is not ends
