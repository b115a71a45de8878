"""What the documentation shows can be done: its commands and flags exist, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from playhead.loading import load_app

from tests.house.test_compose import flag_variables, parse

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
README = DOCUMENTS[0].read_text("utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
BLOCKS = [
    text for path in DOCUMENTS for language, text in FENCED.findall(path.read_text("utf-8")) if language in {"", "sh"}
]
SHOWN = "\n".join(BLOCKS)
COMMANDS = [line.partition("  #")[0].strip() for line in SHOWN.splitlines() if re.match(r"playhead \S", line)]
TARGETS = sorted(set(re.findall(r"^make (\w+)", SHOWN, re.M)))


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 7
    assert {"demo", "test"} <= set(TARGETS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_exists_with_the_flags_it_is_shown_with(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLAYHEAD_KAFKA", "broker:9092")
    assert parse(shlex.split(command)[1:]) is not None


@pytest.mark.parametrize("target", TARGETS)
def test_each_make_target_exists(target: str):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_to_files_lead_to_files(path: Path):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_tests_and_benchmarks_that_are_named_exist(path: Path):
    named = re.findall(r"`((?:tests|bench)/[\w./]*)`", path.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_example_is_an_app(tmp_path: Path):
    (example,) = [text for language, text in FENCED.findall(README) if language == "python"]
    (tmp_path / "readme_example.py").write_text(example, "utf-8")
    app = load_app(str(tmp_path / "readme_example.py"))
    assert [agent.name for agent in app.agents] == ["support"]
    assert {tool.pool for tool in app.tools} == {"default", "billing"}


def test_variables_that_the_documentation_names_are_settings_or_flags():
    from playhead.settings import Settings  # noqa: PLC0415  beside its only use
    from playhead_cli.asking import TOKEN  # noqa: PLC0415

    known = {f"PLAYHEAD_{name.upper()}" for name in Settings.model_fields} | flag_variables() | {TOKEN}
    text = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
    assert set(re.findall(r"PLAYHEAD_[A-Z_]+[A-Z]", text)) - known == set()
