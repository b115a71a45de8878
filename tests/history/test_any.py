"""Whatever is done to a history: what matters is found, and nothing of it is too much for the checker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from hypothesis import assume, given, settings
from hypothesis import strategies as some

from tests.history.check import check
from tests.history.lines import History as Writer
from tests.history.lines import merged, read
from tests.history.recorded import broken, true_history
from tests.history.report import percentile

STAYING = ("ann", "bob")
OF_VIEWERS = {"V1", "V5", "V8"}
EXAMPLES = 150


def _sights() -> list[int]:
    """Find where a viewer that stays to the end sees something."""
    lines = true_history()
    return [number for number, line in enumerate(lines) if line["op"] == "seen" and line["node"] in STAYING]


sights = some.deferred(lambda: some.sampled_from(_sights()))
json_values = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-3, 60)
    | some.floats()
    | some.sampled_from(("", "tool_call", "ses_x")),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(sights)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_loss_of_what_a_viewer_saw_is_found(which: int) -> None:
    lines = true_history()
    del lines[which]
    assert broken(lines) & OF_VIEWERS


@given(sights, sights)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_repetition_is_found(which: int, where: int) -> None:
    lines = true_history()
    lines.insert(where, lines[which])
    assert broken(lines) & OF_VIEWERS


@given(sights, sights)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_two_swapped_are_found(one: int, two: int) -> None:
    lines = true_history()
    # In what order different viewers see something says nothing.
    assume(one != two and lines[one]["node"] == lines[two]["node"])
    lines[one], lines[two] = lines[two], lines[one]
    assert broken(lines) & OF_VIEWERS


@given(some.data())
@settings(max_examples=400, deadline=None)
def test_nothing_in_a_history_is_too_much_for_the_checker(data: some.DataObject) -> None:
    lines = true_history()
    where: Any = lines
    while True:
        keys: list[Any] = list(cast("Any", where) if isinstance(where, dict) else range(len(where)))
        key = data.draw(some.sampled_from(keys))
        if not isinstance(where[key], dict | list) or not where[key] or data.draw(some.integers(0, 3)) == 0:
            break
        where = cast("Any", where[key])
    where[key] = data.draw(json_values)
    report = check(lines)
    assert all("\n" not in text for _, text in report.violations)


@given(some.lists(json_values, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_history_may_be_anything_at_all(tmp_path_factory: Any, values: list[object]) -> None:
    path = tmp_path_factory.mktemp("histories") / "history"
    path.write_text("\n".join(json.dumps(value) for value in values))
    assert len(check(read(path)).violations) == len(values)


def test_a_history_that_is_torn_or_of_no_form_is_no_good_history(tmp_path: Path) -> None:
    path = tmp_path / "history"
    times = iter((3.0, 4.0))
    writer = Writer(lambda: next(times), path)
    writer.note("a", "ready")
    writer.note("a", "surprise")
    writer.close()
    with path.open("a") as file:
        file.write('{"at": 5, "no')
    lines = read(path)
    assert lines[:2] == writer.lines
    assert [invariant for invariant, _ in check(lines).violations] == ["H", "H"]
    assert [line["at"] for line in merged(writer.lines, [{"at": 3.5, "node": "b", "op": "ready"}])] == [3.0, 3.5, 4.0]


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (50, 99, 100)
    assert (percentile([7.0], 0.5), percentile([], 0.5)) == (7, 0)
