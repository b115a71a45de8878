"""What docs/tools.md shows on a command line does what the page says, word for word, against a `dev` that runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text("utf-8")
EXAMPLES = ROOT / "examples" / "tools"

SECONDS_MAX = 40

PARTNER = """
from pathlib import Path
import later
from later import agent

class Partner(list):
    def append(self, ticket):
        Path("ticket").write_text(ticket)

later.TICKETS = Partner()
"""

FLAKY = """
from pathlib import Path
from playhead import Agent, ToolContext, ToolFailed, tool

@tool(effect="write")
async def flaky(number: int, ctx: ToolContext) -> str:
    \"\"\"Fail, until it is mended.\"\"\"
    with Path("keys").open("a") as keys:
        keys.write(f"{ctx.idempotency_key}\\\\n")
    if not Path("mended").exists():
        raise RuntimeError("down")
    Path("ran").touch()
    return "up"

@tool
async def refuse() -> str:
    \"\"\"Say no.\"\"\"
    raise ToolFailed("No.")

agent = Agent("host", tools=[flaky, refuse])
""".replace("\\\\n", "\\n")


def blocks(title: str) -> list[str]:
    """Give what a section of the page shows to be typed."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)


@dataclass(frozen=True)
class Shell:
    """A shell in the folder of the app that is served, in which `playhead` is the one under test."""

    folder: Path
    url: str
    variables: dict[str, str]

    async def begin(self, command: str, variables: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", command.replace("http://127.0.0.1:4141", self.url)),
            cwd=self.folder,
            env={**self.variables, "PLAYHEAD_URL": self.url, **(variables or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def type(self, command: str, variables: Mapping[str, str] | None = None, *, fails: bool = False) -> str:
        process = await self.begin(command, variables)
        out, err = await process.communicate()
        assert (process.returncode != 0) == fails, err.decode()
        return out.decode()

    async def session_that_waits(self) -> dict[str, str]:
        """Find the session of the only call that waits, and what it waits for."""
        async with httpx2.AsyncClient(base_url=self.url) as client:
            while True:
                page = (await client.get("/v1/sessions", params={"status": "waiting"})).json()["sessions"]
                if page:
                    session = (await client.get(f"/v1/sessions/{page[0]['id']}")).json()
                    (call,) = session["pending"]
                    return {"SESSION": session["id"], "QUESTION": call.get("question", {}).get("question_id", "")}
                await asyncio.sleep(0.05)


@asynccontextmanager
async def shell(folder: Path, serve: str) -> AsyncGenerator[Shell]:
    """Serve an app as the page says, on a free port."""
    commands = folder / "bin"
    commands.mkdir()
    playhead = commands / "playhead"
    playhead.write_text(f'#!/bin/sh\nexec {sys.executable} -m playhead_cli "$@"\n')
    playhead.chmod(0o755)
    variables = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PLAYHEAD_PORT": "0"}
    async with asyncio.timeout(SECONDS_MAX):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"exec {serve}"),
            cwd=folder,
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            said = ""
            while "\nready" not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
            found = re.search(r"api +(http://\S+)/v1", said)
            assert found is not None
            yield Shell(folder, found[1], variables)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES, tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tools"


async def test_the_first_tool_is_served_listed_and_called(folder: Path):
    (shown,) = blocks("From nothing to a tool that answers")
    serve, ls, call = shown.splitlines()
    assert "playhead dev first.py" in serve
    async with shell(folder, serve) as typed:
        assert re.fullmatch(r"greet +default +read +- +Greet somebody\.\n", await typed.type(ls))
        assert await typed.type(call) == "Hello, Ada!\n"


async def test_whoever_has_the_ticket_gives_the_result(folder: Path):
    (curl,) = blocks("Results that come later")
    (folder / "partner.py").write_text(PARTNER)
    async with shell(folder, "playhead dev partner.py") as typed:
        calling = await typed.begin("""playhead tools call order_survey '{"address": "High Street 1"}'""")
        await typed.session_that_waits()
        ticket = (folder / "ticket").read_text()
        call = next(part for part in ticket.split(".") if part.startswith("call_"))
        assert "invalid-ticket" in await typed.type(curl, {"CALL": call, "TICKET": ticket[:-1]})
        assert json.loads(await typed.type(curl, {"CALL": call, "TICKET": ticket})) == {"call_id": call}
        out, _ = await calling.communicate()
        assert (calling.returncode, json.loads(out)) == (0, {"damp": False})


async def test_a_question_is_answered_from_a_shell(folder: Path):
    (answer,) = blocks("Questions to the user")
    async with shell(folder, "playhead dev later.py") as typed:
        calling = await typed.begin("""playhead tools call delete_account '{"user": "ada"}'""")
        await typed.type(answer, await typed.session_that_waits())
        out, _ = await calling.communicate()
        assert (calling.returncode, out.decode()) == (0, "ada is deleted\n")


async def test_dead_letters_are_listed_shown_run_again_with_the_same_key_and_dropped(folder: Path):
    (shown,) = blocks("Dead letters")
    ls, show, retry, drop = shown.splitlines()
    (folder / "flaky.py").write_text(FLAKY)
    async with shell(folder, "playhead dev flaky.py") as typed:
        for number in (1, 2):
            await typed.type(f"""playhead tools call flaky '{{"number": {number}}}'""", fails=True)
        await typed.type("playhead tools call refuse", fails=True)
        assert [line.split()[0] for line in (await typed.type(ls)).splitlines()] == ["0-1", "0-0"]
        assert "RuntimeError: down" in await typed.type(show.replace("0-17", "0-0"))
        (folder / "mended").touch()
        assert await typed.type(retry.replace("0-17", "0-0")) == "0-0 retried\n"
        while not (folder / "ran").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        first, second, again = (folder / "keys").read_text().split()
        assert first == again != second
        assert await typed.type(drop.replace("0-17", "0-1")) == "0-1 dropped\n"
        assert await typed.type(ls) == ""
