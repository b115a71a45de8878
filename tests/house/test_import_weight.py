"""What must start fast loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

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


BEFORE_READY = ("anthropic", "openai", "aiokafka", "grpc", "mcp", "duckdb", "numpy", "httpx2")


def test_a_development_server_is_ready_before_it_loads_what_is_heavy(tmp_path: Path):
    """Also with a model whose SDK it will need: that is loaded once the process serves."""
    (tmp_path / "an_app.py").write_text('from playhead import Agent\nagent = Agent("a", model="anthropic:any")\n')
    command = [sys.executable, "-X", "importtime", "-m", "playhead_cli", "dev", "an_app.py", "--port", "0"]
    said: list[str] = []
    with subprocess.Popen(
        [*command, "--data", str(tmp_path)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith("ready in"):
                    break
        finally:
            process.kill()
    assert said[-1].startswith("ready in"), said[-20:]
    imported = {line.rpartition("|")[2].strip() for line in said if line.startswith("import time:")}
    assert {"asyncio", "playhead_gateway.app"} <= imported
    assert imported & set(BEFORE_READY) == set()
