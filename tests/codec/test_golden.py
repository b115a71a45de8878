"""What any release wrote is read, and means the same, for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from playhead.accept import advance, genesis
from playhead.codec import Codec, record_of
from playhead.commands import command_types
from playhead.events import event_types
from playhead.ids import SessionId
from playhead.session import empty, fold

from tests.codec.make_golden import FOLDER, a_session, as_json, main, sample_lines, state_as_json
from tests.session import driving
from tests.session.invariants import audit

CODEC = Codec()
SAMPLES = sorted(path for path in FOLDER.glob("v*.jsonl") if ".session." not in path.name)
SESSIONS = sorted(FOLDER.glob("v*.session.jsonl"))
COMMANDS = {kind.__name__: kind for kind in command_types()}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def agrees(expected: Any, found: Any) -> bool:
    """Tell whether all that was said then is said now; what was added since is not held against it."""
    if isinstance(expected, dict) and isinstance(found, dict):
        wanted, given = cast("dict[str, Any]", expected), cast("dict[str, Any]", found)
        return all(name in given and agrees(value, given[name]) for name, value in wanted.items())
    if isinstance(expected, list) and isinstance(found, list):
        pairs = list(zip(cast("list[Any]", expected), cast("list[Any]", found), strict=False))
        return len(cast("list[Any]", expected)) == len(cast("list[Any]", found)) and all(agrees(*one) for one in pairs)
    return expected == found


def test_there_are_golden_files():
    assert SAMPLES and len(SAMPLES) == len(SESSIONS)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_type_of_every_release_is_decoded_to_what_it_said(path: Path):
    """protocol:P1 protocol:P60"""
    for line in lines(path):
        value = bytes.fromhex(line["value"])
        kind, fields = CODEC.fields(value)
        assert kind.__name__ == line["name"]
        assert agrees(line["fields"], as_json(fields)), line["name"]
        if kind.__name__ in COMMANDS:
            assert type(CODEC.command(value)) is kind
        else:
            stamped = CODEC.event(value)
            assert type(stamped.event) is kind
            assert record_of(value).seq == stamped.stamp.seq


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)
def test_the_log_of_every_release_folds_to_the_state_that_it_had(path: Path):
    session = SessionId(driving.SESSION)
    values = [bytes.fromhex(line["value"]) for line in lines(path)]
    head, accepted = advance(genesis(session), [record_of(value) for value in values])
    assert head.seq == len(accepted) == len(values)
    state = empty(session)
    for record in accepted:
        state = fold(state, CODEC.event(record.value))
    expected = json.loads(path.with_name(path.name.replace(".session.jsonl", ".state.json")).read_text("utf-8"))
    assert agrees(expected, state_as_json(state))


def test_the_next_golden_file_will_have_every_type_that_there_is():
    kinds = [kind.__name__ for kind in (*event_types(), *command_types())]
    assert [line["name"] for line in sample_lines()] == kinds


def test_the_golden_session_shows_what_a_session_can_go_through():
    driven, values = a_session()
    assert len(values) == len(driven.events)
    state = empty(SessionId(driving.SESSION))
    for value in values:
        state = fold(state, CODEC.event(value))
    assert state == driven.session, "what is written is what was"
    happened = {type(event).__name__ for event in driven.events}
    assert happened >= {
        "ToolRetry",
        "ModelCallFailed",
        "ModelCallAbandoned",
        "RunCompleted",
        "RunCancelled",
        "RunFailed",
        "ToolPending",
        "ToolResultLate",
        "QuestionAsked",
        "QuestionAnswered",
    }
    promised, asking, lost, blocked = driven.session.open_calls
    assert promised.pending and asking.question and lost.is_lost and blocked.waits_for and driven.session.unheard
    audit(driven.events, driven.session, driven.budget, [cause for _, _, cause in driven.log])
    assert driven.session.run is not None and driven.session.open_calls and driven.session.waiting


def test_golden_files_are_never_written_again(capsys: pytest.CaptureFixture[str]):
    before = {path: path.read_bytes() for path in FOLDER.iterdir()}
    assert main(SAMPLES[0].name.removeprefix("v").removesuffix(".jsonl")) == 1
    assert "never written again" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in FOLDER.iterdir()} == before


def test_agreement_sees_a_difference_and_forgives_an_addition():
    assert agrees({"a": [1]}, {"a": [1], "b": 2})
    assert not agrees({"a": [1], "b": 2}, {"a": [1]})
    assert not agrees({"a": [1]}, {"a": [1, 2]})
    assert not agrees({"a": 1}, {"a": 2})
