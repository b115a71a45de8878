"""Hot reload in `playhead dev`: what an app defines changes while sessions run and streams are open."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

SECONDS_MAX = 40

APP = '''
from playhead import Agent, tool
from helping import GREETING

@tool
async def greet(name: str) -> str:
    """Greet somebody."""
    return f"{GREETING} {name}"

agent = Agent("helper", tools=[greet])
'''

SCENARIO = [
    {"when": "greet", "steps": [{"use": {"tool": "greet", "input": {"name": "Ada"}}}, {"say": "done"}]},
    {"when": "long", "steps": [{"delta_characters": 2}, {"say": "word " * 60}]},
]


BAD_LIFESPAN = """
from playhead import lifespan

@lifespan()
async def bank():
    raise RuntimeError("no bank")
    yield
"""

NOT_RELOADED = "not reloaded: what was there before is served"


@dataclass
class Served:
    """A `dev` that runs, the folder of its app, and what it says on stderr."""

    folder: Path
    client: httpx2.AsyncClient
    process: asyncio.subprocess.Process
    said: asyncio.Queue[dict[str, Any]]

    def write(self, app: str, name: str = "app.py") -> None:
        (self.folder / name).write_text(app)

    async def reloaded(self, event: str = "reloaded") -> dict[str, Any]:
        while (line := await self.said.get()).get("event") != event:
            pass
        return line

    async def start(self, text: str) -> str:
        answer = await self.client.post("/v1/sessions", json={"input": text})
        return str(answer.json()["id"])

    async def until(self, session: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Follow a session's stream, once and without a cut, until there is enough."""
        events: list[dict[str, Any]] = []
        headers = {"Accept": "text/event-stream"}
        async with self.client.stream("GET", f"/v1/sessions/{session}/events", headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if enough(events):
                        return events
        raise AssertionError("the stream ended")

    async def run(self, text: str) -> list[dict[str, Any]]:
        return await self.until(await self.start(text), completed)


@asynccontextmanager
async def dev(folder: Path, *flags: str) -> AsyncGenerator[Served]:
    (folder / "app.py").write_text(APP)
    (folder / "helping.py").write_text('GREETING = "hello"\n')
    (folder / "scenario.json").write_text(json.dumps(SCENARIO))
    variables = {
        "PLAYHEAD_SCENARIO": str(folder / "scenario.json"),
        "PLAYHEAD_SCRIPTED_PACE": "0.01",
        "PLAYHEAD_LOG_STYLE": "json",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "playhead_cli", "dev", "app.py", "--port", "0", *flags),
        cwd=folder,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def listen(stderr: asyncio.StreamReader) -> None:
        async for line in stderr:
            said.put_nowait(json.loads(line))

    async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listen(process.stderr))
        try:
            url = ""
            async for line in process.stdout:
                if b"http://" in line and not url:
                    url = line.decode().split("/v1")[0].split()[-1]
                if line.startswith(b"ready"):
                    break
            async with httpx2.AsyncClient(base_url=url, timeout=SECONDS_MAX) as client:
                yield Served(folder, client, process, said)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            listening.cancel()


async def began(folder: Path) -> None:
    """Wait for a file that the app makes."""
    while not (folder / "began").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


def completed(events: list[dict[str, Any]]) -> bool:
    return events[-1].get("type") == "run_completed"


def outputs(events: list[dict[str, Any]]) -> list[Any]:
    return [event["output"] for event in events if event.get("type") == "tool_result"]


async def test_a_changed_tool_does_what_it_does_now(tmp_path: Path):
    async with dev(tmp_path) as served:
        assert outputs(await served.run("greet")) == ["hello Ada"]
        served.write(APP.replace('f"{GREETING} {name}"', 'f"{GREETING}, {name}!"'))
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hello, Ada!"]


async def test_a_changed_module_beside_the_app_counts_too(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write('GREETING = "hej"\n', "helping.py")
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hej Ada"]


async def test_an_app_that_is_broken_changes_nothing_until_it_is_mended(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write(APP + "\nx = (\n")
        why = await served.reloaded(NOT_RELOADED)
        assert "app.py is not Python: app.py:" in why["reason"]
        assert outputs(await served.run("greet")) == ["hello Ada"]
        served.write(APP.replace("GREETING}", "GREETING} dear"))
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hello dear Ada"]


async def test_a_module_that_is_imported_for_the_first_time_can_be_mended_too(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write(APP + "\nimport added\n")
        why = await served.reloaded(NOT_RELOADED)
        assert "app.py:12: import added" in why["reason"]
        served.write("x = (\n", "added.py")
        why = await served.reloaded(NOT_RELOADED)
        assert "added.py:1" in why["reason"]
        served.write("x = 1\n", "added.py")
        await served.reloaded()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (APP.replace("@tool", '@tool(secrets=["env:NOBODY_SETS_THIS"])'), "env:NOBODY_SETS_THIS is not set"),
        (APP.replace('Agent("helper"', 'Agent("helper", model="nobody:x"'), "no model provider is named 'nobody'"),
        (APP + BAD_LIFESPAN, "RuntimeError: no bank"),
    ],
    ids=["secret", "provider", "lifespan"],
)
async def test_an_app_that_can_be_loaded_and_not_served_changes_nothing(tmp_path: Path, broken: str, reason: str):
    async with dev(tmp_path) as served:
        served.write(broken)
        assert reason in (await served.reloaded(NOT_RELOADED))["reason"]
        assert outputs(await served.run("greet")) == ["hello Ada"]
        served.write(APP.replace("GREETING}", "GREETING} dear"))
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hello dear Ada"]


async def test_what_the_old_app_does_at_its_end_does_not_stop_the_new_one(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write(APP + BAD_LIFESPAN.replace("raise", "yield 1\n    raise"))
        await served.reloaded()
        served.write(APP)
        why = await served.reloaded("what was there before did not end well")
        assert "failed after it yielded: RuntimeError: no bank" in why["reason"]
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hello Ada"]


async def test_what_changes_while_the_app_is_loaded_is_seen_after_that(tmp_path: Path):
    late = "import pathlib\npathlib.Path('began').touch()\n" + "import time\ntime.sleep(1)\n"
    async with dev(tmp_path) as served:
        served.write(APP + late)
        await began(tmp_path)
        served.write('GREETING = "hej"\n', "helping.py")
        await served.reloaded()
        await served.reloaded()
        assert outputs(await served.run("greet")) == ["hej Ada"]


async def test_the_catalogue_has_what_is_served_now(tmp_path: Path):
    async with dev(tmp_path) as served:
        other = APP.replace("Greet somebody.", "Greet a person.")
        served.write(other.replace("greet(", "welcome(").replace("[greet]", "[welcome]"))
        await served.reloaded()
        tools = (await served.client.get("/v1/tools")).json()["tools"]
        assert [(tool["name"], tool["description"]) for tool in tools] == [("welcome", "Greet a person.")]


async def test_a_call_that_runs_may_finish_and_one_that_takes_too_long_is_run_by_the_new_code(tmp_path: Path):
    slow = APP.replace("    return f", '    open("began", "a").close()\n    await asyncio.sleep(60)\n    return f')
    async with dev(tmp_path) as served:
        served.write("import asyncio\n" + slow.replace("(60)", "(1)"))
        await served.reloaded()
        session = await served.start("greet")
        await began(tmp_path)
        served.write("import asyncio\n" + slow)
        await served.reloaded()
        assert outputs(await served.until(session, completed)) == ["hello Ada"]
        (tmp_path / "began").unlink()
        session = await served.start("greet")
        await began(tmp_path)
        served.write('GREETING = "hej"\n', "helping.py")
        served.write(APP)
        await served.reloaded()
        events = await served.until(session, completed)
        assert outputs(events) == ["hej Ada"]
        assert len([event for event in events if event.get("type") == "tool_call"]) == 1


async def test_tools_and_pools_may_come_and_go(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write(APP.replace("@tool\n", '@tool(pool="other", name="welcome")\n'))
        assert (await served.reloaded())["changes"] == "+welcome -greet"
        answer = await served.run("greet")
        assert "no tool named 'greet'; there are: welcome" in json.dumps(outputs(answer))
        served.write(APP)
        assert (await served.reloaded())["changes"] == "+greet -welcome"
        assert outputs(await served.run("greet")) == ["hello Ada"]


async def test_a_run_and_an_open_stream_go_on_over_a_reload(tmp_path: Path):
    async with dev(tmp_path) as served:
        session = await served.start("long")
        begun = asyncio.Event()

        def look(events: list[dict[str, Any]]) -> bool:
            if events[-1].get("type") == "text_delta":
                begun.set()
            return events[-1].get("type") == "run_completed"

        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(served.until(session, look))
            await begun.wait()
            served.write(APP.replace("Greet somebody.", "Greet a person."))
            await served.reloaded()
        events = [event for event in watching.result() if "seq" in event]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        final = next(event for event in events if event["type"] == "final_response")
        assert final["text"].split() == ["word"] * 60


async def test_what_is_killed_after_a_reload_goes_on_at_the_next_start(tmp_path: Path):
    async with dev(tmp_path) as served:
        served.write(APP.replace("hello", "hi"))
        await served.reloaded()
        session = await served.start("long")
        await served.until(session, lambda events: events[-1].get("type") == "text_delta")
        served.process.kill()
        await served.process.wait()
    async with dev(tmp_path) as served:
        events = await served.until(session, completed)
        assert events[-1]["run_id"].startswith("run_")


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_without_reload_nothing_changes(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch):
    if how == "variable":
        monkeypatch.setenv("PLAYHEAD_RELOAD", "0")
    async with dev(tmp_path, *(["--no-reload"] if how == "flag" else [])) as served:
        served.write(APP.replace("GREETING}", "GREETING} dear"))
        await served.run("long")  # which takes as long as several looks at the files
        assert outputs(await served.run("greet")) == ["hello Ada"]
        assert "reloaded" not in [served.said.get_nowait().get("event") for _ in range(served.said.qsize())]
