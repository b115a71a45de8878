"""The stages of chaos: a folder for the embedded system, or a broker and a prefix of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.chaos.processes import Stage
from tests.chaos.tool_scenario import TOOL_SCENARIO

TOOL_APP = "tests.chaos.tool_app"


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncGenerator[Stage, None]:
    """A data folder for `playhead dev`."""
    stage = Stage(tmp_path)
    yield stage
    await stage.close()
    print(stage.last_words())  # noqa: T201 - shown with a test that failed


@pytest.fixture
async def cluster(tmp_path: Path, kafka_bootstrap: str) -> AsyncGenerator[Stage, None]:
    """Topics on a real broker for the roles."""
    stage = Stage(tmp_path, kafka_bootstrap)
    yield stage
    await stage.close()
    print(stage.last_words())  # noqa: T201


@pytest.fixture
async def tools(tmp_path: Path) -> AsyncGenerator[Stage, None]:
    """A data folder for `playhead dev` with the tools of every effect."""
    stage = Stage(tmp_path, app=TOOL_APP, scenario=TOOL_SCENARIO)
    stage.pace(0)
    yield stage
    await stage.close()
    print(stage.last_words())  # noqa: T201


@pytest.fixture
async def pool(tmp_path: Path, kafka_bootstrap: str) -> AsyncGenerator[Stage, None]:
    """Topics on a real broker for roles with the tools of every effect."""
    stage = Stage(tmp_path, kafka_bootstrap, TOOL_APP, TOOL_SCENARIO)
    stage.pace(0)
    yield stage
    await stage.close()
    print(stage.last_words())  # noqa: T201
