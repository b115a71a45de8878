"""docs/tools.md shows code that tests run, and leaves out nothing that a tool author can say or is told."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import playhead
import pytest
from playhead.context import ToolContext
from playhead.options import Limit, Sandbox
from playhead.telemetry import Telemetry
from playhead.tools import ToolOptions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text("utf-8")
SHOWN = re.compile(r"^<!-- (examples/tools/\w+\.py)(?:: (\w+))? -->\n```python\n(.*?)\n```$", re.M | re.S)
EXCERPTS = SHOWN.findall(PAGE)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def test_every_block_of_python_says_where_it_is_from():
    assert len(EXCERPTS) == PAGE.count("```python\n") >= 10


@pytest.mark.parametrize(("path", "part", "text"), EXCERPTS, ids=[f"{path}:{part}" for path, part, _ in EXCERPTS])
def test_a_block_is_what_the_file_says(path: str, part: str, text: str):
    source = (ROOT / path).read_text("utf-8")
    if part:
        found = re.search(rf"^# begin: {part}\n(.*?)\n+# end: {part}$", source, re.M | re.S)
        assert found is not None and found[1].rstrip() == text
    else:
        assert source.split('"""\n', 1)[1].strip() == text


def test_every_option_is_in_the_table():
    assert [row[0].strip("`") for row in rows("Every option")] == list(ToolOptions.__annotations__)


def test_every_member_of_the_context_is_in_its_table():
    shown = re.findall(r"`(\w+)[`(]", " ".join(row[0] for row in rows("What a tool knows and says")))
    methods = {"cancelled", "remaining", "progress", "emit", "run", "deliver"}
    known = {field.name for field in fields(ToolContext)} - {"running"} | methods
    assert set(shown) == known


def test_every_metric_of_tools_is_in_its_table():
    text = Telemetry().exposition().decode()
    known = set(re.findall(r"^# TYPE (playhead_(?:tool_\w+?|dead_letters))(?:_total|_created)? ", text, re.M))
    assert {row[0].strip("`") for row in rows("What to watch")} == known


@pytest.mark.parametrize("name", sorted(set(playhead.__all__) - {"Agent", "tool", "ToolContext", "lifespan"}))
def test_every_public_name_is_spoken_of(name: str):
    assert re.search(rf"\b{name}\b", PAGE)


def test_what_limits_and_sandboxes_can_say_is_spoken_of():
    assert {"least", "most", "length", "deny"} == {field.name for field in fields(Limit)}
    for field in ("network", "read", "write", "unconfined"):
        assert field in {each.name for each in fields(Sandbox)} and field in section("Safety")
