"""The archive that the settings name, and what goes through it from a tool to a client and to the model."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playhead.adapters.archive import FolderArchive
from playhead.errors import Misconfigured
from playhead.settings import Settings
from playhead_cli.child import start
from playhead_cli.opening import open_archive

from tests.cli.test_dev import until

SECONDS_MAX = 30
APP = """
from playhead import Agent, tool
from playhead.content import Image

@tool
def export() -> list[int]:
    "Export everything."
    return list(range(60_000))

@tool
def photo() -> Image:
    "Take a photo."
    return Image(b"x" * 100_000)

agent = Agent("support", model="scripted", tools=[export, photo])
"""
SCENARIO: list[dict[str, Any]] = [
    {"steps": [{"use": {"tool": "export", "input": {}}}, {"use": {"tool": "photo", "input": {}}}]}
]


def settings(archive: str | None) -> Settings:
    return Settings.model_validate({"archive": archive})


def test_without_the_setting_there_is_no_archive():
    assert open_archive(settings(None)) is None


def test_a_folder_is_an_archive_and_is_made(tmp_path: Path):
    assert isinstance(open_archive(settings(str(tmp_path / "a" / "b"))), FolderArchive)
    assert (tmp_path / "a" / "b").is_dir()


def test_what_this_version_does_not_speak_is_refused():
    with pytest.raises(Misconfigured, match=r"PLAYHEAD_ARCHIVE is a folder; this version speaks no s3://"):
        open_archive(settings("s3://bucket/prefix"))


async def test_what_is_too_large_for_an_event_is_referred_to_and_given_whole(tmp_path: Path):
    """protocol:P68"""
    app, scenario = tmp_path / "app.py", tmp_path / "scenario.json"
    app.write_text(APP)
    scenario.write_text(json.dumps(SCENARIO))
    variables = {"PLAYHEAD_SCENARIO": str(scenario), "PLAYHEAD_SCRIPTED_PACE": "0"}
    async with asyncio.timeout(SECONDS_MAX):
        child = await start(("dev", str(app), "--port", "0", "--data", str(tmp_path / "data")), variables)
        try:
            async with httpx2.AsyncClient(base_url=child.url, timeout=SECONDS_MAX) as client:
                session: str = (await client.post("/v1/tasks", json={"input": "all of it"})).json()["id"]
                await until(child.url, session, "run_completed")
                page = (await client.get(f"/v1/sessions/{session}/events")).json()
                results: list[Any] = [one["output"] for one in page["events"] if one["type"] == "tool_result"]
                reference, (picture,) = sorted(results, key=lambda output: isinstance(output, list))
                names: list[str] = [reference["name"], picture["source"]["name"]]
                given = [await client.get(f"/v1/sessions/{session}/outputs/{name}") for name in names]
        finally:
            await child.stop()
    assert [sha256(one.content).hexdigest() for one in given] == names
    assert given[0].json() == list(range(60_000))
    assert {path.name for path in (tmp_path / "data" / "archive" / session).iterdir()} == set(names)
