"""The roles as processes on a real Kafka: the deployment that `docker-compose.yml` describes, without containers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from playhead_cli.child import Child, start

from tests.cli.test_dev import playhead, until

pytestmark = pytest.mark.kafka

APP = """
from playhead import Agent, tool

@tool
def order(number: int) -> str:
    "Look an order up."
    return f"order {number} was delivered"

@tool(pool="billing", effect="write")
def refund(number: int) -> str:
    "Refund an order."
    return f"refunded order {number}"

agent = Agent("support", tools=[order, refund])
"""
SCENARIO = [
    {
        "steps": [
            {"use": {"tool": "order", "input": {"number": 17}}},
            {"use": {"tool": "refund", "input": {"number": 17}}},
            {"say": "Done: " + "one word after the other, " * 12},
        ]
    }
]
SECONDS_MAX = 60


class Deployment:
    """Processes of one deployment, with topics of their own."""

    def __init__(self, folder: Path, kafka: str, stack: AsyncExitStack) -> None:
        self.app = folder / "app.py"
        self.app.write_text(APP)
        scenario = folder / "scenario.json"
        scenario.write_text(json.dumps(SCENARIO))
        self.variables = {
            "PLAYHEAD_KAFKA": kafka,
            "PLAYHEAD_TOPIC_PREFIX": f"test{os.urandom(4).hex()}",
            "PLAYHEAD_LEASE_SECRET": "a secret of this test",
            "PLAYHEAD_SCENARIO": str(scenario),
            "PLAYHEAD_SCRIPTED_PACE": "0.03",
            "PLAYHEAD_SESSION_TIMEOUT_SECONDS": "2",
            "PLAYHEAD_SESSION_PARTITIONS": "4",
            "PLAYHEAD_POOL_PARTITIONS": "4",
            "PLAYHEAD_METRICS_PORT": "0",
        }
        self._stack = stack

    async def start(self, *arguments: str) -> Child:
        child = await start(arguments, self.variables)
        self._stack.push_async_callback(child.stop)
        return child

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        return await playhead(*arguments, **self.variables)


async def test_a_deployment_of_roles_answers_and_outlives_its_orchestrator(tmp_path: Path, kafka_bootstrap: str):
    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        there = Deployment(tmp_path, kafka_bootstrap, stack)
        app = str(there.app)
        assert (await there.run("doctor"))[0] == 1  # the topics are missing
        code, made, _ = await there.run("topics", "create", "--pool", "default", "--pool", "billing")
        assert (code, made.count("created")) == (0, 10)
        code, again, _ = await there.run("topics", "create", "--pool", "default", "--pool", "billing")
        assert (code, again.count("there already")) == (0, 10)
        code, found, _ = await there.run("doctor", "--pool", "billing", "--data", str(tmp_path))
        assert code == 0, found

        orchestrator = await there.start("orchestrator", app)
        workers = [await there.start("worker", app, "--pool", pool) for pool in ("default", "billing")]
        gateway = await there.start("gateway", "--port", "0")
        for child, metric in ((orchestrator, "playhead_runs"), (gateway, "playhead_stream_clients")):
            async with httpx2.AsyncClient(base_url=child.url, trust_env=False) as http:
                assert (await http.get("/readyz")).status_code == 200
                assert (await http.get("/livez")).status_code == 200
                assert metric in (await http.get("/metrics")).text

        code, session, notes = await there.run("send", "refund 17", "--no-follow", "--url", gateway.url)
        assert code == 0, notes
        await until(gateway.url, session.strip(), "text_delta")
        await orchestrator.kill()
        await there.start("orchestrator", app)
        code, out, notes = await there.run("tail", session.strip(), "--json", "--until-idle", "--url", gateway.url)
        assert code == 0, notes
        events = [json.loads(line) for line in out.splitlines()]
        types = [event["type"] for event in events]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert types.count("run_completed") == types.count("model_call_abandoned") == 1
        assert types.count("tool_result") == types.count("tool_call") == 2

        for child in (gateway, *workers):
            assert await child.stop() == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has loaded is read from /proc")
async def test_an_orchestrator_has_loaded_its_models_sdk_before_it_takes_part(tmp_path: Path, kafka_bootstrap: str):
    """Else whoever speaks when a deploy gives it another's sessions falls silent for as long as that takes."""
    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        there = Deployment(tmp_path, kafka_bootstrap, stack)
        there.variables |= {"ANTHROPIC_API_KEY": "a key of this test"}
        there.app.write_text('from playhead import Agent\nagent = Agent("support", model="anthropic:some")\n')
        orchestrator = await there.start("orchestrator", str(there.app))
        assert "/jiter" in loaded_by(orchestrator)  # the SDK's own part that is compiled


def loaded_by(child: Child) -> str:
    return Path(f"/proc/{child.pid}/maps").read_text()


async def test_a_metrics_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path, kafka_bootstrap: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
            there = Deployment(tmp_path, kafka_bootstrap, stack)
            port = str(taken.getsockname()[1])
            code, out, notes = await there.run("worker", str(there.app), "--pool", "billing", "--metrics-port", port)
    assert (code, out) == (1, "")
    assert "--metrics-port" in notes.splitlines()[-1]


async def test_a_pool_that_no_tool_is_in_is_said(tmp_path: Path, kafka_bootstrap: str):
    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        there = Deployment(tmp_path, kafka_bootstrap, stack)
        code, out, notes = await there.run("worker", str(there.app), "--pool", "nobody")
    assert (code, out) == (1, "")
    assert "nobody" in notes.splitlines()[-1]
    assert "billing" in notes.splitlines()[-1]
