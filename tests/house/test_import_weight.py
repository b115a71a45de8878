"""What must start fast loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("aiokafka", "anthropic", "openai", "fastapi", "starlette", "uvicorn", "httpx2", "sqlite3", "rich")

SECONDS_MAX = 3.0
"""Ten times what it takes on a machine that does nothing else."""


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_playhead_does_not_load(heavy: str):
    assert heavy not in loaded("import playhead")


@pytest.mark.parametrize("heavy", [*HEAVY, "pydantic", "structlog", "asyncio", "fastavro"])
def test_asking_for_the_version_does_not_load(heavy: str):
    code = (
        "import sys; sys.argv = ['playhead', '--version']\n"
        "from playhead_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as over: assert over.code == 0, over.code"
    )
    assert heavy not in loaded(code)


def test_the_version_is_said_at_once():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from playhead_cli.main import main; main()", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("playhead ")
    assert time.monotonic() - began < SECONDS_MAX


def loaded(code: str) -> set[str]:
    probe = f"{code}\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.splitlines()[-1].split())
