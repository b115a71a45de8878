"""`playhead worker --mcp`, as a process: what it says of servers that do not start, and a session that uses one."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.cli.test_dev import playhead
from tests.cli.test_roles import SECONDS_MAX, Deployment

TIME = Path(sys.executable).with_name("mcp-server-time")
APP = """
from playhead import Agent

agent = Agent("guide", tools=["time__convert_time"])
"""
CONVERT = {"source_timezone": "Europe/Oslo", "time": "12:00", "target_timezone": "Asia/Tokyo"}
SCENARIO = [{"steps": [{"use": {"tool": "time__convert_time", "input": CONVERT}}, {"say": "It is evening there."}]}]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--mcp", "none=/no/such/program"), 1, "none (`program`) cannot be used"),
        (("--mcp", "a=x", "--mcp-env", "K=token-0123456789"), 1, "secret K: its reference reads like"),
        (("--mcp", "a=x", "--mcp-effect", "a__b=maybe"), 1, "--mcp-effect"),
        ((), 2, "--mcp"),
    ],
)
async def test_what_cannot_be_hosted_is_said_in_a_line_before_any_broker_is_asked(
    arguments: tuple[str, ...], code: int, words: str
):
    async with asyncio.timeout(SECONDS_MAX):
        ended, out, notes = await playhead("worker", *arguments, "--kafka", "127.0.0.1:1", "--metrics-port", "0")
    assert (ended, out) == (code, "")
    assert words in " ".join(notes.split())
    assert "Traceback" not in notes
    assert "token-0123456789" not in notes


async def test_servers_in_the_variable_are_one_a_line():
    async with asyncio.timeout(SECONDS_MAX):
        servers = "one=/no/such/program with arguments\none=/another/program"
        code, _, notes = await playhead("worker", "--kafka", "127.0.0.1:1", PLAYHEAD_MCP=servers)
    assert code == 1
    assert "two MCP servers are named 'one'" in notes


@pytest.mark.kafka
async def test_a_session_uses_the_tool_of_a_server_in_a_worker_process(tmp_path: Path, kafka_bootstrap: str):
    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        there = Deployment(tmp_path, kafka_bootstrap, stack)
        there.app.write_text(APP)
        (tmp_path / "scenario.json").write_text(json.dumps(SCENARIO))
        worker = await there.start("worker", "--mcp", f"time={TIME} --local-timezone Europe/Oslo")
        await there.start("orchestrator", str(there.app))
        gateway = await there.start("gateway", "--port", "0")
        code, session, notes = await there.run("send", "noon in Oslo", "--no-follow", "--url", gateway.url)
        assert code == 0, notes
        code, out, notes = await there.run("tail", session.strip(), "--json", "--until-idle", "--url", gateway.url)
        assert code == 0, notes
        (result,) = [event for event in map(json.loads, out.splitlines()) if event["type"] == "tool_result"]
        assert result["status"] == "ok"
        assert "Asia/Tokyo" in json.dumps(result)
        assert await worker.stop() == 0
