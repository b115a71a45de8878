"""`playhead dev` and `demo`, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playhead.client import Event
from playhead.errors import PlayheadError, Unavailable
from playhead_cli.child import Child, start, start_dev
from playhead_cli.demo import evidence

QUICK = {"PLAYHEAD_SCRIPTED_PACE": "0", "ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""}
SLOW = {**QUICK, "PLAYHEAD_SCRIPTED_PACE": "0.05"}
SECONDS_MAX = 60
"""Processes start in about a second each; a machine under load takes longer."""


@asynccontextmanager
async def dev(data: Path, port: int = 0, variables: Mapping[str, str] = QUICK) -> AsyncGenerator[Child, None]:
    child = await start_dev(data, port, variables)
    try:
        yield child
    finally:
        await child.stop()


async def playhead(*arguments: str, **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "playhead_cli", *arguments),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, notes = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()  # the test gave up on it
    return await process.wait(), out.decode(), notes.decode()


async def test_dev_answers_for_this_machine_and_for_no_name_that_a_stranger_gave_it(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path) as child, httpx2.AsyncClient(base_url=child.url) as client:
        assert (await client.get("/v1/agents")).status_code == 200
        assert (await client.get("/v1/agents", headers={"Host": "evil.example"})).status_code == 421
        assert (await client.get("/v1/agents", headers={"Origin": "http://evil.example"})).status_code == 403


async def test_dev_serves_the_example_and_the_clients_show_it(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path) as child:
        code, out, notes = await playhead("send", "What time is it in Oslo?", "--url", child.url)
        assert code == 0, notes
        assert '→ clock(city="Oslo")' in out
        assert "Europe/Oslo" in out
        session = notes.split()[-1]
        code, out, _ = await playhead("tail", session, "--json", "--until-idle", "--url", child.url)
        events = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        code, later, _ = await playhead("tail", session, "--json", "--until-idle", "--after", "5", "--url", child.url)
        assert later.splitlines() == out.splitlines()[5:]
        code, listed, _ = await playhead("ls", "--url", child.url)
        assert code == 0
        assert listed.startswith(session)
        code, shown, _ = await playhead("show", session, "--url", child.url)
        assert code == 0
        assert "› What time is it in Oslo?" in shown


async def test_a_killed_dev_goes_on_where_it_was_and_a_stopped_one_exits_with_0(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX):
        async with dev(tmp_path, variables=SLOW) as child:
            code, session, _ = await playhead("send", "What time is it in Oslo?", "--no-follow", "--url", child.url)
            assert code == 0
            await until(child.url, session.strip(), "text_delta")
            await child.kill()
        async with dev(tmp_path, child.port) as again:
            code, out, _ = await playhead("tail", session.strip(), "--json", "--until-idle", "--url", again.url)
            assert code == 0
            assert await again.stop() == 0
    types = [json.loads(line)["type"] for line in out.splitlines()]
    assert types.count("model_call_abandoned") == 1
    assert types.count("run_completed") == 1


async def test_a_stopped_dev_sends_its_viewers_away_and_exits_with_0(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path) as child:
        _, session, _ = await playhead("send", "hello", "--no-follow", "--url", child.url)
        async with stream_of(child.url, session.strip()) as source, asyncio.TaskGroup() as group:
            frames = aiter(source)
            assert (await anext(frames)).event == "ready"
            stopping = group.create_task(child.stop())
            assert "draining" in [frame.event async for frame in frames]
        assert stopping.result() == 0


async def test_ctrl_c_ends_a_tail_with_the_cursor_to_resume_from(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path) as child:
        _, session, _ = await playhead("send", "hello", "--no-follow", "--url", child.url)
        tail = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "playhead_cli", "tail", session.strip(), "--json", "--url", child.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert tail.stdout is not None
        assert tail.stderr is not None
        seq = 0
        while json.loads(line := await tail.stdout.readline())["type"] != "run_completed":
            seq = json.loads(line)["seq"]
        tail.send_signal(signal.SIGINT)
        assert f"playhead tail {session.strip()} --after {seq + 1}-" in (await tail.stderr.read()).decode()
        assert await tail.wait() == 0


async def test_a_pipe_that_is_closed_ends_a_tail_quietly(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path, variables=SLOW) as child:
        _, session, _ = await playhead("send", "hello", "--no-follow", "--url", child.url)
        tail = f"{sys.executable} -m playhead_cli tail {session.strip()} --until-idle --json --url {child.url}"
        shell = await asyncio.create_subprocess_shell(
            f"{tail} | head -1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, notes = await shell.communicate()
    assert json.loads(out)["seq"] == 1
    assert notes == b""


async def test_a_second_dev_on_the_same_folder_says_so(tmp_path: Path):
    async with asyncio.timeout(SECONDS_MAX), dev(tmp_path) as child:
        code, out, notes = await playhead("dev", "--port", "0", "--data", str(tmp_path))
        assert (code, out) == (1, "")
        assert notes.startswith("playhead: another `playhead dev` (process ")
        assert f"process {child.pid})" in notes
        assert "--data" in notes


async def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with asyncio.timeout(SECONDS_MAX):
            port = taken.getsockname()[1]
            code, out, notes = await playhead("dev", "--port", str(port), "--data", str(tmp_path))
    assert (code, out) == (1, "")
    assert "--port" in notes.splitlines()[-1]


async def test_dev_serves_an_app_of_ones_own_and_follows_a_scenario(tmp_path: Path):
    (tmp_path / "mine.py").write_text('from playhead import Agent\nagent = Agent("mine")\n')
    (tmp_path / "scenario.json").write_text(json.dumps([{"steps": [{"say": "as written"}]}]))
    arguments = ("dev", str(tmp_path / "mine.py"), "--port", "0", "--data", str(tmp_path / "data"))
    async with asyncio.timeout(SECONDS_MAX):
        child = await start((*arguments, "--scenario", str(tmp_path / "scenario.json")), QUICK)
        try:
            code, out, _ = await playhead("send", "hi", "--agent", "mine", "--url", child.url)
        finally:
            await child.stop()
    assert code == 0
    assert out.startswith("as written\n")


async def test_an_app_that_cannot_be_imported_is_said_with_its_line(tmp_path: Path):
    (tmp_path / "broken.py").write_text("x = 1\nraise RuntimeError('ouch')\n")
    code, out, notes = await playhead("dev", str(tmp_path / "broken.py"), "--data", str(tmp_path / "data"))
    assert (code, out) == (1, "")
    assert len(notes.splitlines()) == 1
    assert "broken.py:2" in notes


async def test_the_demo_survives_its_own_kill_and_proves_it():
    async with asyncio.timeout(SECONDS_MAX):
        code, out, notes = await playhead("demo")
    assert (code, notes) == (0, "")
    assert "kill -9" in out
    assert "none lost, none repeated" in out.splitlines()[-3]


async def test_a_child_that_does_not_become_ready_tells_its_last_words(tmp_path: Path):
    with pytest.raises(Unavailable, match=r"there is no file nothing\.py"):
        async with asyncio.timeout(SECONDS_MAX):
            await start(("dev", "nothing.py", "--data", str(tmp_path)), QUICK)


def told(*events: dict[str, Any]) -> list[Event]:
    return [Event(seq, event["type"], "", {"seq": seq, **event}, "") for seq, event in enumerate(events, 1)]


GOOD = (
    {"type": "tool_call", "call_id": "call_1"},
    {"type": "tool_call", "call_id": "call_2"},
    {"type": "tool_result", "call_id": "call_2"},
    {"type": "tool_result", "call_id": "call_1"},
    {"type": "model_call_abandoned"},
    {"type": "run_completed"},
)


def test_the_evidence_holds_for_a_session_that_is_whole():
    seen = told(*GOOD)
    assert len(evidence(seen, [one.data for one in seen])) == 3


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_the_evidence_notices_an_event_that_is_missing_or_repeated(place: int):
    seen = told(*GOOD)
    stored = [one.data for one in seen]
    for wrong in (seen[:place] + seen[place + 1 :], seen[: place + 1] + seen[place:]):
        with pytest.raises(PlayheadError, match="the demo failed"):
            evidence(wrong, stored)
    with pytest.raises(PlayheadError, match="the demo failed"):
        evidence(seen, [*stored[:place], {"seq": place + 1, "type": "other"}, *stored[place + 1 :]])


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_the_evidence_notices_what_did_not_happen(place: int):
    seen = told(*GOOD[:place], {"type": "owner_changed"}, *GOOD[place + 1 :])
    with pytest.raises(PlayheadError, match="the demo failed"):
        evidence(seen, [one.data for one in seen])


@asynccontextmanager
async def stream_of(url: str, session: str) -> AsyncGenerator[httpx2.EventSource, None]:
    async with (
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        http.sse(f"/v1/sessions/{session}/events") as source,
    ):
        yield source


async def until(url: str, session: str, kind: str) -> None:
    """Wait until the session's stream tells an event of a type."""
    async with stream_of(url, session) as source:
        async for frame in source:
            if frame.event == kind:
                return
