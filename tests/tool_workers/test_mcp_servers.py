"""MCP servers as they are met: programs that others wrote, from PyPI and npm, and ones that die or cannot start.

What comes from npm needs node and npm (and, once, the registry). Without them it is skipped; with
PLAYHEAD_REQUIRE_NODE=1 it fails.
"""

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
from typing import cast

import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from playhead import ToolFailed
from playhead.agents import Agent
from playhead.commands import ReportProgress, ReportResult
from playhead.content import File, Image
from playhead.errors import Misconfigured, Unavailable
from playhead.events import ToolResult
from playhead_tool_workers.mcp.host import McpHost
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.servers import Offer, servers_of
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.clients.support import installed_at
from tests.orchestrator.stage import Actor, Stage, answer
from tests.orchestrator.stage import use as ask_for
from tests.tool_workers.foreign import BRISK, Heard, use
from tests.tool_workers.workshop import Workshop, within

TRIES_MAX = 50
SECONDS_MAX = 60
"""Programs start in about a second each; a machine under load takes longer."""

DYING = Path(__file__).with_name("dying_server.py")
EVERYTHING = Path(__file__).with_name("everything")
TIME = f"time={Path(sys.executable).with_name('mcp-server-time')} --local-timezone Europe/Oslo"

SAID = {"SECRET": "token-0123456789", "WRONG": "wrong-0123456789"}

OFFER = Offer(pool="default", timeout_seconds=20)


def host_of(
    *specs: str,
    variables: tuple[str, ...] = (),
    headers: tuple[str, ...] = (),
    offer: Offer = OFFER,
    limits: McpLimits = BRISK,
) -> McpHost:
    servers = servers_of(specs, variables=variables, headers=headers, environment=SAID)
    return McpHost(servers, offer, limits=limits, chance=lambda: 0.5)


def dying(*arguments: str) -> str:
    return " ".join((f"dying={sys.executable} {DYING}", *arguments))


async def test_a_server_that_dies_fails_its_calls_and_comes_back():
    async with asyncio.timeout(SECONDS_MAX), host_of(dying()) as host:
        before = await use(host, "dying__pid")
        with pytest.raises(Unavailable, match="whether the tool ran is unknown"):
            await use(host, "dying__die")
        after = await use(host, "dying__pid")
        assert before != after
        os.kill(process_of(after), signal.SIGKILL)
        again = await tried(host, "dying__pid")  # the first may be sent before it is known
        assert again not in (before, after)
    with pytest.raises(ProcessLookupError):
        os.kill(process_of(again), 0)


def process_of(told: object) -> int:
    return int(cast("dict[str, str]", told)["result"])


async def tried(host: McpHost, name: str, **given: int) -> object:
    """Call until it works, as a worker's retries would."""
    for _ in range(TRIES_MAX):
        try:
            return await use(host, name, heard=None, answer=None, **given)
        except Unavailable:
            await asyncio.sleep(0.05)  # the wait between tries
    raise AssertionError("no try worked")


async def test_a_command_inherits_no_environment_and_its_secret_is_seen_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLAYHEAD_LEASE_SECRET", "not for servers")
    async with asyncio.timeout(SECONDS_MAX), host_of(dying(), variables=("TOKEN=env:SECRET",)) as host:
        told = cast("dict[str, str]", await use(host, "dying__environment"))
    names, _, secret = told["result"].partition(" / ")
    assert secret == "[secret TOKEN]"
    assert "PATH" in names.split()
    assert "TOKEN" in names.split()
    assert "PLAYHEAD" not in names


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (dying("--broken"), r"dying.*cannot be used.*\n  \| cannot start: the token \[secret TOKEN\] is refused"),
        ("none=/no/such/program", r"none \(`program`\) cannot be used: FileNotFoundError"),
    ],
)
async def test_a_server_that_does_not_start_is_said_with_its_last_words(spec: str, why: str):
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(Misconfigured, match=why):
            async with host_of(spec, variables=("TOKEN=env:SECRET",)):
                pass


async def test_a_server_that_says_nothing_is_given_up_on_in_time():
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(Misconfigured, match=r"mute .*has not started within 0\.5 s"):
            async with host_of("mute=sleep 60", limits=McpLimits(start_seconds=0.5)):
                pass


async def test_a_server_is_ended_also_when_it_is_given_up_on_twice(tmp_path: Path):
    noted = tmp_path / "pid"
    deaf = f"deaf=sh -c 'cat > {tmp_path}/said; echo $$ > {noted}.new; mv {noted}.new {noted}; exec sleep 600'"
    async with asyncio.timeout(SECONDS_MAX):
        entering = asyncio.create_task(host_of(deaf, limits=McpLimits(start_seconds=0.5)).__aenter__())
        while not noted.exists():  # noqa: ASYNC110 - a file; once it is there, the SDK is ending the program
            await asyncio.sleep(0.01)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)


async def test_a_worker_runs_the_tools_of_a_server_from_pypi():
    shop = Workshop()
    async with asyncio.timeout(SECONDS_MAX), host_of(TIME) as host, shop.worker(*host.tools):
        result = await shop.run("time__convert_time", **CONVERT)
        wrong = await shop.run("time__convert_time", **{**CONVERT, "target_timezone": "Nowhere"})
        lacking = await shop.run("time__convert_time", time="12:00")
    assert result.status == "ok"
    assert json.loads(result.output)["target"]["timezone"] == "Asia/Tokyo"
    assert (wrong.status, json.loads(wrong.output)["type"]) == ("error", "ToolFailed")
    assert "Nowhere" in json.loads(wrong.output)["message"]
    assert (lacking.status, json.loads(lacking.output)["type"]) == ("error", "InvalidArguments")


CONVERT: Mapping[str, str] = {"source_timezone": "Europe/Oslo", "time": "12:00", "target_timezone": "Asia/Tokyo"}


async def test_a_session_uses_a_server_that_nobody_here_wrote():
    actor = Actor([ask_for(("time__convert_time", CONVERT)), answer("It is evening there.")])
    agent = Agent("guide", model="stage:one", tools=["time__convert_time"], default=True)
    stage, shop = Stage(actor, [agent]), Workshop()
    shop.queue, shop.topics = stage.queue, stage.topics
    async with asyncio.timeout(SECONDS_MAX), host_of(TIME) as host, shop.worker(*host.tools), stage.orchestrator():
        session = await stage.start("When it is noon in Oslo, what is it in Tokyo?")
        seen = await stage.until(session, "tool_call", "tool_result", "run_completed")
    (result,) = [each.event for each in seen if isinstance(each.event, ToolResult)]
    assert result.status == "ok"
    assert json.loads(result.output)["target"]["timezone"] == "Asia/Tokyo"
    first, second = actor.asked
    assert [tool.name for tool in first.tools] == ["time__convert_time"]
    assert "Asia/Tokyo" in json.dumps(second.messages, default=str)


@pytest.fixture
async def everything(request: pytest.FixtureRequest) -> str:
    """Give the command of the reference server, installed as the lock file says, kept between runs."""
    folder = await installed_at(request.config, EVERYTHING, "@modelcontextprotocol/server-everything")
    program = folder / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    return f"all=node {program} stdio"


async def test_the_reference_server_from_npm_is_hosted_with_all_that_its_tools_return(everything: str):
    heard = Heard()
    async with asyncio.timeout(SECONDS_MAX), host_of(everything) as host:
        effects = {tool.name: tool.effect for tool in host.tools}
        assert effects["all__echo"] == "read"
        assert effects["all__gzip-file-as-resource"] == "write"
        assert effects["all__toggle-simulated-logging"] == "once"
        assert "all__simulate-research-query" not in effects  # can only be called as a task
        assert await use(host, "all__echo", message="hello") == "Echo: hello"
        parts = cast("list[object]", await use(host, "all__get-tiny-image"))
        assert [type(part) for part in parts] == [str, Image, str]
        assert await use(host, "all__get-structured-content", location="Chicago") is not None
        told = await use(host, "all__get-resource-reference", resourceType="Blob", resourceId=1)
        parts = cast("list[object]", told)
        assert any(isinstance(part, File) for part in parts)
        await use(host, "all__trigger-long-running-operation", heard=heard, duration=0.2, steps=2)
        assert await within(heard.said.get()) == (1, 2, None)
        with pytest.raises((ToolFailed, Unavailable), match="asks users between calls"):
            await use(host, "all__trigger-elicitation-request")


async def test_a_worker_shows_the_progress_of_a_server_from_npm(everything: str):
    shop = Workshop()
    async with asyncio.timeout(SECONDS_MAX), host_of(everything) as host, shop.worker(*host.tools):
        call = await shop.ask("all__trigger-long-running-operation", duration=0.5, steps=5)
        seen = await shop.reports(call, lambda seen: any(isinstance(one, ReportResult) for one in seen))
    assert any(isinstance(one, ReportProgress) for one in seen)


class Guarded:
    """A server at a URL, which takes one token, and may be told to end and to begin again on its port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    @asynccontextmanager
    async def serving(self, *, old: bool = False) -> AsyncGenerator[None]:
        server = MCPServer("web")

        @server.tool()
        async def count(to: int, ctx: Context) -> int:
            """Count."""
            await ctx.report_progress(to, to)
            return to

        app = guard(server.streamable_http_app(), old=old)
        config = uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=1, ws="none")
        serving = uvicorn.Server(config)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(serving.serve())
            while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            try:
                yield
            finally:
                serving.should_exit = True
                await task


def guard(app: ASGIApp, *, old: bool) -> ASGIApp:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope.get("headers", ()))
        refused = scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {SAID['SECRET']}".encode()
        ancient = old and headers.get(b"mcp-method") == b"server/discover"
        if refused or ancient:
            await send({"type": "http.response.start", "status": 401 if refused else 400, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return guarded


@pytest.mark.parametrize("old", [False, True])
async def test_a_server_at_a_url_is_called_with_its_token_and_called_again_after_its_restart(old: bool):
    web = Guarded()
    async with asyncio.timeout(SECONDS_MAX):
        async with web.serving(old=old):
            host = host_of(f"web={web.url}", headers=("env:SECRET",))
            await host.__aenter__()
            assert await use(host, "web__count", to=3) == {"result": 3}
        try:
            async with web.serving(old=old):
                assert await tried(host, "web__count", to=5) == {"result": 5}
        finally:
            await host.close()


async def test_a_url_that_refuses_us_is_said_without_the_token():
    web = Guarded()
    async with asyncio.timeout(SECONDS_MAX), web.serving():
        with pytest.raises(Misconfigured, match=r"web \(http://127.0.0.1:\d+\) cannot be used") as refused:
            async with host_of(f"web={web.url}", headers=("env:WRONG",)):
                pass
    assert SAID["WRONG"] not in str(refused.value)
