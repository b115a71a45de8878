"""The tables of the documentation are those of the results that are kept with it, as `bench.report` writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench.report import joined
from bench.rows import ROWS
from bench.systems import ROOT
from bench.table import wide

PUBLISHED = ROOT / "bench" / "published"


@pytest.mark.parametrize(
    ("page", "options"), [("docs/performance.md", ["--wide"]), ("README.md", ["--wide", "--medians"])]
)
def test_a_page_has_the_table_of_the_run_that_it_names(page: str, options: list[str]) -> None:
    command = [sys.executable, "-m", "bench.report", *options, str(PUBLISHED / "bench.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    assert done.stdout in (ROOT / page).read_text(), f"{page} is not what `{' '.join(options)}` prints"


def test_the_published_run_was_whole_and_has_every_row() -> None:
    result = joined([orjson.loads((PUBLISHED / "bench.json").read_bytes())])
    assert not result.problems
    table = wide(ROWS, result.figures)
    assert [row.title for row in ROWS if f"| {row.title} |" not in table] == []


@pytest.mark.parametrize("path", sorted(PUBLISHED.iterdir()), ids=lambda path: path.name)
def test_a_published_result_says_on_what_machine_and_nothing_of_its_paths(path: Path) -> None:
    text = path.read_text()
    assert orjson.loads(text)["machine"]["cores"]
    assert not [word for word in ("/home/", "/root/", "/tmp/", "/work/", "/Users/") if word in text]
