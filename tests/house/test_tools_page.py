"""docs/tools.md shows code that tests run, and leaves out nothing that a tool author can say or is told."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import playhead
import pytest
from playhead.content import Completed
from playhead.context import ToolContext
from playhead.options import Limit, Sandbox
from playhead.session import DELIVERIES_MAX, STARTS_MAX
from playhead.telemetry import Telemetry
from playhead.tools import ToolOptions
from playhead_orchestrator.parts import Waits
from playhead_tool_workers.confinement import Level
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.output import PREVIEW_CHARS_MAX

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text("utf-8")
SHOWN = re.compile(r"^<!-- (examples/tools/\w+\.py)(?:: (\w+))? -->\n```python\n(.*?)\n```$", re.M | re.S)
EXCERPTS = SHOWN.findall(PAGE)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str, first: str = "") -> list[list[str]]:
    """Give the rows of a section's table, or of the one whose first heading it is."""
    tables = re.findall(r"(?:^\|.*\n)+", section(title), re.M)
    (table,) = [table for table in tables if table.startswith(f"| {first}")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


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


def test_what_limits_can_say_is_shown():
    assert {"least", "most", "length", "deny"} == {field.name for field in fields(Limit)}
    (shown,) = [text for _, part, text in EXCERPTS if part == "safety"]
    assert all(f"{field.name}=" in shown for field in fields(Limit))


def test_what_a_sandbox_can_say_is_in_its_table_with_its_defaults():
    table = rows("Safety", "`Sandbox`")
    told = {name.strip("` "): row[1].strip("`") for row in table for name in row[0].split(",")}
    words: dict[object, str] = {(): "none", 256 * 1024: "256 KiB"}
    assert told == {field.name: words.get(field.default, str(field.default)) for field in fields(Sandbox)}


def test_the_levels_of_confinement_are_in_their_table_best_first():
    assert [row[0].split("`")[1] for row in rows("Safety", "level")] == [level.value for level in Level]


def test_what_a_command_gives_is_spoken_of():
    assert all(f"`{field.name}`" in section("Safety") for field in fields(Completed))


def test_the_bounds_on_the_page_are_those_of_the_code():
    limits = WorkerLimits()
    bounds = section("What bounds what")
    for words in (
        f"every {limits.heartbeat_seconds:g} s",
        f"silent for {Waits().silence:g} s",
        f"at most {DELIVERIES_MAX} times",
        f"{STARTS_MAX} workers",
        f"{limits.backlog_max:,} waiting calls",
        f"more than {limits.old_seconds:g} s ago",
        f"has {limits.cleanup_seconds:g} s to clean up",
        f"{limits.leaked_max} of them",
    ):
        assert words in bounds
    assert f"about {Waits().lost:g} s of silence" in PAGE
    assert f"more than {limits.result_bytes_max // 1024} KiB" in PAGE
    assert f"more than {limits.block_bytes_max // 1024} KiB" in PAGE
    assert f"{limits.archived_bytes_max // 1024**2} MiB is the most" in PAGE
    assert f"first {PREVIEW_CHARS_MAX:,} characters" in PAGE
