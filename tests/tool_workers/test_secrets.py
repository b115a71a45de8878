"""Secrets are told to their tools and to nobody else, and commands of tools are confined."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from playhead import ToolContext, ToolFailed, tool
from playhead.adapters.archive import FolderArchive
from playhead.commands import Command
from playhead.content import Pending, Question
from playhead.errors import Misconfigured
from playhead_tool_workers.confinement import Level
from playhead_tool_workers.sandbox import Sandboxes

from tests.tool_workers.workshop import QUICK, Workshop, kinds


@tool
async def echo(text: str = "") -> str:
    """Give back what was said."""
    return text


CANARY = "canary-5ecret-value"


ERRORS: Mapping[str, Callable[[str], Exception]] = {
    "error": lambda key: ConnectionError(f"refused for {key}"),
    "cut": lambda key: ConnectionError("x" * (2_000 - 10) + key),
    "failed": lambda key: ToolFailed(f"not with {key}"),
    "key": KeyError,
}
RESULTS: Mapping[str, Callable[[str], object]] = {
    "result": lambda key: {"deep": [key, json.dumps({"inner": key})], key: 1},
    "pending": lambda key: Pending(60, "y" * (2_000 - 10) + key),
    "question": lambda key: Question(f"is {key} right?", schema={"default": key}, state={"key": key}),
    "archive": lambda key: [key] * 1_000,
}
HOWS = (*ERRORS, *RESULTS, "chunk", "progress", "repr")


class Leaky:
    """A tool that tells its secret wherever it can."""

    def __init__(self) -> None:
        self.seen = list[str]()

        @tool(secrets={"KEY": "env:BILLING_KEY"}, retries=1)
        async def leak(how: str, ctx: ToolContext) -> object:
            """Tell."""
            key = ctx.secrets["KEY"]
            self.seen.append(key)
            if how in ERRORS:
                raise ERRORS[how](key)
            if how == "chunk":
                await ctx.emit({"part": f"<{key}>"})
            if how == "progress":
                await ctx.progress(1, 2, "x" * (2_000 - 10) + key)
                await asyncio.sleep(0.1)
            return RESULTS[how](key) if how in RESULTS else str(ctx.secrets)

        self.tool = leak


def _texts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


def _half_told(text: str) -> bool:
    return any(CANARY[start : start + 8] in text for start in range(len(CANARY) - 7))


async def test_a_secret_is_told_to_its_tool_and_to_nobody_else(tmp_path: Path) -> None:
    leaky = Leaky()
    shop = Workshop(environment={"BILLING_KEY": CANARY}, archive=FolderArchive(tmp_path))
    async with shop.worker(leaky.tool, limits=replace(QUICK, result_bytes_max=4_000)):
        for how in HOWS:
            call = await shop.ask("leak", how=how)
            await shop.reports(call, _has_ended)
        letters = await shop.letters(3)  # error, cut, key
        told = [letter.error for letter in letters]
        told += [repr(one) for one in await shop.read(shop.topics.results.name, lambda seen: _ends(seen) == len(HOWS))]
    archived = _texts(tmp_path)
    assert set(leaky.seen) == {CANARY}
    assert {"ReportChunk", "ReportProgress", "ReportRetry"} <= {text.partition("(")[0] for text in told}
    assert archived
    for text in (*told, *archived):
        assert not _half_told(text), text[:200]
    assert any("[secret KEY]" in text for text in archived)
    assert sum("[secret KEY]" in text for text in told) >= len(HOWS) - 2, "all but what was cut, and the repr"


def _has_ended(seen: Sequence[Command]) -> bool:
    return _ends(seen) > 0


def _ends(seen: Sequence[Command]) -> int:
    return sum(kind in ("ReportResult", "ReportPending", "ReportQuestion") for kind in kinds(seen))


@pytest.mark.parametrize("reference", ["env:NOT_THERE", "file:/not/there"])
async def test_a_worker_whose_tools_secret_is_missing_says_which_and_does_not_start(reference: str) -> None:
    @tool(secrets={"KEY": reference})
    async def needy() -> None:
        """Need a secret."""

    with pytest.raises(Misconfigured, match=f"secret KEY: {reference}"):
        async with Workshop().worker(needy):
            pass


async def test_an_offer_whose_secret_is_missing_changes_nothing() -> None:
    @tool(secrets={"KEY": "env:NOT_THERE"})
    async def needy() -> None:
        """Need a secret."""

    shop = Workshop()
    async with shop.worker(echo) as worker:
        with pytest.raises(Misconfigured, match="secret KEY: env:NOT_THERE"):
            await worker.offer([needy])
        assert (await shop.run("echo", text="still here")).output == '"still here"'


# --- commands ---


async def test_a_command_runs_in_the_sandbox_that_its_tool_declares() -> None:
    if await Sandboxes().level() is Level.LIMITS:
        pytest.skip("this system offers nothing that confines a command")

    @tool(sandbox=True)
    async def inspect(ctx: ToolContext) -> dict[str, object]:
        """Run a command that looks around."""
        script = "import os, sys; print(sorted(os.environ), os.listdir('.')); sys.exit(3)"
        done = await ctx.run([sys.executable, "-I", "-c", script], stdin=b"", env={"MODE": "test"})
        return {"code": done.exit_code, "out": done.stdout}

    @tool
    async def undeclared(ctx: ToolContext) -> None:
        """Run a command without saying so before."""
        await ctx.run(["true"])

    shop = Workshop(environment={"BILLING_KEY": CANARY})
    async with shop.worker(inspect, undeclared):
        result = await shop.run("inspect")
        assert result.status == "ok", result.output
        told = json.loads(result.output)
        assert told["code"] == 3
        assert "MODE" in told["out"]
        assert "BILLING_KEY" not in told["out"]
        assert "declares no sandbox" in (await shop.run("undeclared")).output
