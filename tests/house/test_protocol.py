"""`docs/protocol.md` is the law: each clause has a test, and its tables say what the code says."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playhead.accept import advance, genesis
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.adapters.sqlite import open_sqlite
from playhead.codec import Codec, Context, record_of
from playhead.commands import command_types
from playhead.errors import Undecodable
from playhead.events import (
    Budget,
    Event,
    Failure,
    Json,
    OwnerChanged,
    Range,
    SessionClosed,
    SessionStarted,
    Usage,
    event_types,
    wire_name,
)
from playhead.ids import CallId, SessionId
from playhead.queue import Topics
from playhead.schema import avro_name, field_kinds
from playhead_gateway.app import create_app
from playhead_gateway.projections.sse import HIDDEN
from starlette.routing import Route

from examples.verify_chain import accepted
from tests.gateway.support import World

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
CLAUSE = re.compile(r"^\*\*P([0-9]+)\*\* \S", re.M)
MARK = re.compile(r"protocol:P([0-9]+)\b")
PLACES = ("run_id", "step", "attempt")


def part(name: str) -> str:
    """Give what stands between two comments."""
    found = re.search(rf"<!-- {name} -->\n(.*)<!-- end of {name} -->", TEXT, re.S)
    assert found is not None
    return found[1]


def rows(name: str) -> list[list[str]]:
    """Give the cells of a table."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part(name).splitlines()[2:]]


# --- clauses and tests


def marked(path: Path) -> Iterator[tuple[str, set[int]]]:
    """Name each test of a file with the clauses that its docstring says it is the test of."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, {int(number) for number in MARK.findall(ast.get_docstring(node) or "")}


def clauses_with_a_test() -> set[int]:
    return {number for path in (ROOT / "tests").rglob("test_*.py") for _, numbers in marked(path) for number in numbers}


def test_clauses_are_numbered_in_order_and_each_once():
    """protocol:P1"""
    numbers = [int(number) for number in CLAUSE.findall(TEXT)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_clause_has_a_test_and_no_test_names_a_clause_that_is_not_there():
    clauses = {int(number) for number in CLAUSE.findall(TEXT)}
    assert clauses - clauses_with_a_test() == set()
    assert clauses_with_a_test() - clauses == set()


def test_the_search_finds_marks_in_docstrings_of_tests_alone(tmp_path: Path):
    file = tmp_path / "test_some.py"
    file.write_text(
        'def test_a():\n    """protocol:P7 protocol:P70"""\n\n\ndef test_b():\n    assert "protocol:P8"\n', "utf-8"
    )
    assert list(marked(file)) == [("test_a", {7, 70}), ("test_b", set())]


def test_each_line_of_prose_is_one_sentence():
    prose = [
        line for line in re.sub(r"```.*?```", "", TEXT, flags=re.S).splitlines() if line[:1] not in ("", "#", "|", "<")
    ]
    assert [line for line in prose if re.search(r"[.!?] [A-Z]", line.replace("etc. ", ""))] == []


# --- tables


def written(hint: Any) -> str:
    """Name a type as the table does."""
    known = {
        Json: "JSON",
        Usage: "{input_tokens, output_tokens, cache_read_tokens, cache_write_tokens}",
        Failure: "{code, message}",
        Budget: "{steps?, calls?, tokens?, wall_seconds?}",
        Range: "{first, last}",
        tuple[CallId, ...]: "[string]",
    }
    if NoneType in get_args(hint):
        (hint,) = (arm for arm in get_args(hint) if arm is not NoneType)
    if hint in known:
        return known[hint]
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]


def row(kind: type[Event]) -> str:
    """Write the table's row on a type."""
    fields = list(field_kinds(kind))
    place = [f"`{name}`" for name, *_ in fields if name in PLACES]
    own = [
        f"`{wire}{'?' if NoneType in get_args(hint) else ''}` {written(hint)}"
        for _, wire, hint, _ in fields
        if wire not in PLACES and wire not in HIDDEN.get(kind.__name__, ())
    ]
    return f"| `{wire_name(kind)}` | {' '.join(place)} | {', '.join(own)} |"


def test_the_table_of_types_says_what_the_classes_say():
    """protocol:P9"""
    head = "| type | of a run, a step | its own members |\n|---|---|---|\n"
    assert part("types") == head + "".join(f"{row(kind)}\n" for kind in event_types())


def test_what_can_be_absent_and_in_which_order_members_stand_is_the_same_for_all_types():
    """protocol:P8"""
    for kind in event_types():
        names = [wire for _, wire, _, _ in field_kinds(kind)]
        place = [name for name in names if name in PLACES]
        assert names[: len(place)] == list(PLACES[: len(place)])
        assert len(place) in (0, 1, 3)


def test_the_table_of_routes_has_those_of_the_application():
    """protocol:P24"""
    app = create_app(World(MemorySessionLog(), MemoryQueue()).parts())
    routes = [route for route in app.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"}
    table = rows("routes")
    assert {(method.strip("`"), path.strip("`")) for method, path, _ in table} == served
    assert len(table) == len(served)


def test_the_table_of_codes_has_those_that_the_gateway_raises():
    """protocol:P28"""
    raised: set[tuple[str, str]] = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                status, code = node.args[:2]
                assert isinstance(code, ast.Constant)
                raised.add((str(code.value), str(status.value) if isinstance(status, ast.Constant) else "other"))
    assert {(code.strip("`"), status) for code, status, _ in rows("codes")} == raised


def test_the_table_of_topics_has_those_of_a_deployment():
    """protocol:P58"""
    topics = Topics()
    specs = [*topics.fixed, topics.tools("<pool>"), topics.control("<pool>")]
    known = {
        (spec.name, str(spec.partitions), "the last of each key" if spec.compacted else f"{spec.kept_hours} hours")
        for spec in specs
    }
    table = {(name.strip("`"), partitions, kept) for name, _, partitions, kept in rows("topics")}
    assert table == known | {(topics.session("<id>"), "1", "for ever")}


def calls_in(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """Give each call in the code of some folders, with the name that is called."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


def test_the_codes_of_failed_runs_are_those_that_the_session_gives_them():
    """protocol:P17"""
    given = {
        str(node.args[0].value)
        for name, node in calls_in("core/playhead/session", "orchestrator")
        if name in ("Failure", "fail") and node.args and isinstance(node.args[0], ast.Constant)
    }
    (clause,) = re.findall(r"^\*\*P17\*\* .*? are (.*), and all others", TEXT, re.M)
    assert set(re.findall(r"`([a-z_]+)`", clause)) == given - {"worker_lost"}  # which is said of a call


def test_what_is_said_to_be_said_by_nothing_is_said_by_nothing():
    """protocol:P65"""
    (clause,) = re.findall(r"^\*\*P65\*\* (.*)$", TEXT, re.M)
    named = set(re.findall(r"`([a-z_]+)`", clause))
    made = {name for name, _ in calls_in("core/playhead/session", "orchestrator", "tool_workers")}
    said = {wire_name(kind) for kind in event_types() if kind.__name__ in made}
    assert {wire_name(kind) for kind in event_types()} - said == named


# --- the chain, by the example


def test_the_example_in_the_text_is_the_one_that_is_tested():
    """protocol:P62"""
    example = (ROOT / "examples" / "verify_chain.py").read_text("utf-8")
    shown = example[example.index("PLACE = {") : example.index("def schemas_in(")].strip()
    assert part("example") == f"```python\n{shown}\n```\n"


@pytest.mark.parametrize("name", ["types", "routes", "codes", "topics", "example"])
def test_each_part_is_there_once(name: str):
    assert TEXT.count(f"<!-- {name} -->") == TEXT.count(f"<!-- end of {name} -->") == 1


SESSION = SessionId("ses_" + "a" * 26)
SAID = [SessionStarted("support", "1", "scripted", Json("{}")), OwnerChanged(1, "one"), SessionClosed("requested")]


def sealed(codec: Codec) -> list[bytes]:
    records = codec.seal(genesis(SESSION), SAID, Context(SESSION, 1, None, 1))
    return [record.value for record in records]


@pytest.mark.parametrize("registered", [False, True])
def test_a_stranger_accepts_what_we_accept_in_either_frame(*, registered: bool):
    """protocol:P59 protocol:P61 protocol:P62"""
    numbers = {avro_name(kind): number for number, kind in enumerate((*event_types(), *command_types()), start=1)}
    codec = Codec(numbers if registered else None)
    values = sealed(codec)
    assert (values[0][:1] == b"\x00") == registered
    zombie = codec.seal(genesis(SESSION), SAID[:2], Context(SESSION, 9, None, 2))[1].value
    noise = [b"", b"\x00", b"\xc3\x01" + bytes(8), values[0][:40], bytes(60)]
    stored = [noise[0], values[0], *noise, zombie, values[0], values[1], values[2], values[1]]
    found = list(accepted(SESSION, stored))
    assert [value for _, value in found] == values
    assert [cursor for cursor, _ in found] == [str(record_of(value).cursor) for value in values]


@settings(deadline=None)  # what it takes depends on what else the machine does
@given(st.lists(st.binary(max_size=80), max_size=4), st.integers(0, 200), st.integers(0, 7))
def test_a_stranger_and_we_agree_on_damage(noise: list[bytes], place: int, bit: int):
    """protocol:P62"""
    values = sealed(Codec())
    damaged = bytearray(values[1])
    damaged[place % len(damaged)] ^= 1 << bit
    stored = [*noise, values[0], bytes(damaged), values[2]]
    ours: list[bytes] = []
    head = genesis(SESSION)
    for value in stored:
        with suppress(Undecodable):
            head, more = advance(head, [record_of(value)])
            ours += [record.value for record in more]
    assert [value for _, value in accepted(SESSION, stored)] == ours


def test_the_file_of_an_embedded_deployment_can_be_checked_by_a_stranger(tmp_path: Path):
    """protocol:P60 protocol:P63"""
    file = tmp_path / "log.db"

    async def write() -> None:
        async with open_sqlite(file) as store:
            await store.log.create(SESSION)
            await store.log.append(SESSION, genesis(SESSION), [record_of(value) for value in sealed(Codec())])

    asyncio.run(write())
    told = [sys.executable, "examples/verify_chain.py", str(file), SESSION, "schemas/playhead_schemas"]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [(cursor.split("-")[0], kind) for cursor, kind, _ in lines] == [
        ("1", "SessionStarted"),
        ("2", "OwnerChanged"),
        ("3", "SessionClosed"),
    ]
    assert list(json.loads(lines[0][2])["stamp"]) == ["session", "seq", "epoch", "prev", "cause", "at", "trace"]
    with closing(sqlite3.connect(file)) as damaging, damaging:
        damaging.execute("DELETE FROM records WHERE seq = 2")
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, f"only 1 of 2 stored values are in the log of {SESSION}\n")
