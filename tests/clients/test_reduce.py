"""What the JavaScript client shows of a session is what the fold says it is, after every event of any log."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Sequence
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from playhead.accept import genesis
from playhead.codec import Context
from playhead.events import (
    Event,
    Failure,
    FinalResponse,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SessionClosed,
    Stamped,
    TextDelta,
    Thinking,
    ToolCall,
    ToolInputDelta,
    ToolPending,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    ToolResultLate,
    ToolRetry,
    ToolStarted,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, Cursor, MessageId, RunId, Seq, SessionId
from playhead.session import Session, empty, fold
from playhead_gateway.projections.sse import Projection
from playhead_gateway.views import session_view

from tests.clients.support import HERE, ROOT, need_node
from tests.gateway.support import CODEC, OWNED, STARTED

SESSION = SessionId("ses_" + "a" * 26)
MODULE = ROOT / "gateway" / "playhead_gateway" / "static" / "playhead.js"

View = dict[str, Any]


class Reducer:
    """Node, folding logs."""

    def __init__(self) -> None:
        command = ["node", str(HERE / "javascript" / "reduce.mjs"), str(MODULE)]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def views(self, events: Sequence[bytes]) -> list[View]:
        """Give what is shown after each event."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(b"[" + b",".join(events) + b"]\n")
        self._node.stdin.flush()
        return orjson.loads(self._node.stdout.readline())

    def close(self) -> None:
        self._node.communicate(timeout=5)


@pytest.fixture(scope="module")
def reducer() -> Generator[Reducer, None, None]:
    need_node()
    node = Reducer()
    yield node
    node.close()


RUN = RunId("run_1")
CALL = CallId("call_first")
BEGUN: list[Event] = [
    STARTED,
    UserMessage(RUN, MessageId("msg_1"), Json('"hi"')),
    RunStarted(RUN, MessageId("msg_1")),
    ModelCallStarted(RUN, 1, 1, "m", "p"),
]

# --- logs: anything may follow anything, and mostly what there is to follow on

FAILURE = Failure("code", "why")
JSONS = [Json('"text"'), Json('{"a": [1, null]}'), Json("[]")]
MESSAGES = [Json('{"role":"assistant","content":[{"type":"text","text":"x"}]}'), Json('{"content":1}'), Json("[1]")]
STATUSES = ["ok", "error", "fallback", "unknown"]
MESSAGE = MessageId("msg_1")


def a_log(chance: Random) -> list[Event]:
    """Write a log of up to 60 events by chance (hypothesis prefers short ones, in which no call comes far)."""
    log: list[Event] = [STARTED, OWNED, *(BEGUN[1:] if chance.random() < 0.8 else [])]
    for number in range(chance.randrange(60)):
        calls = [event.call_id for event in log if isinstance(event, ToolCall)][-3:] or [CALL]
        run = RUN if chance.random() < 0.9 else RunId("run_2")
        kind = chance.choices((of_run, of_model, of_call), (2, 3, 8))[0]
        log.append(kind(chance, (run, chance.randint(1, 2), chance.randint(1, 2)), calls, number))
    return [*log, SessionClosed("asked")] if chance.random() < 0.2 else log


Step = tuple[RunId, int, int]


def of_run(chance: Random, step: Step, _calls: Sequence[CallId], _number: int) -> Event:
    run = step[0]
    begins = [
        RunStarted(run, MESSAGE),
        UserMessage(run, MESSAGE, chance.choice(JSONS)),
        FinalResponse(run, "x", MESSAGE),
    ]
    return chance.choice([RunCompleted(run, Usage()), RunFailed(run, FAILURE), RunCancelled(run, "asked"), *begins * 3])


def of_model(chance: Random, step: Step, calls: Sequence[CallId], _number: int) -> Event:
    completed = ModelCallCompleted(*step, chance.choice(MESSAGES), Usage(1, 2, 3, 4), "end_turn", 1)
    deltas = [TextDelta(*step, "a"), Thinking(*step, "b"), ToolInputDelta(*step, chance.choice(calls), "{")]
    lost = [ModelCallFailed(*step, FAILURE), ModelCallAbandoned(*step, "crash")]
    return chance.choice([ModelCallStarted(*step, "m", "p"), *deltas, completed, *lost])


def of_call(chance: Random, step: Step, calls: Sequence[CallId], number: int) -> Event:
    call, output, status = chance.choice(calls), chance.choice(JSONS), chance.choice(STATUSES)
    question, waits_for = chance.choice(("q_1", "q_2")), tuple(calls[: chance.randint(0, 1)])
    made = ToolCall(*step, CallId(f"call_{number}"), "weather", output, "read", "default", waits_for)
    return chance.choice(
        [
            *[made] * 2,
            *[ToolStarted(*step, call, "worker")] * 2,
            ToolProgress(*step, call, 1.0),
            ToolResultChunk(*step, call, output),
            ToolRetry(*step, call, 1, 2, FAILURE, chance.choice((None, 2))),
            ToolPending(*step, call, 9),
            ToolResult(*step, call, status, output, 7),
            ToolResultLate(*step, call, status, output, 7),
            QuestionAsked(*step, question, output, None, call),
            QuestionAnswered(*step, question, output, "me"),
        ]
    )


# --- comparing


def folds(events: Sequence[Event]) -> tuple[list[bytes], list[Session]]:
    """Seal the events as an owner does, and give their JSON and the state after each."""
    projection, state, states, shown = Projection(CODEC), empty(SESSION), list[Session](), list[bytes]()
    for record in CODEC.seal(genesis(SESSION), events, Context(SESSION, 1, "cause", 7)):
        stamped = CODEC.event(record.value)
        assert isinstance(stamped, Stamped)
        state = fold(state, stamped)
        states.append(state)
        shown.append(projection.event(record) or b"")
    return shown, states


def of_fold(state: Session) -> View:
    """Give what the gateway shows of a state, as far as the client shows it too."""
    view = orjson.loads(orjson.dumps(session_view(state, Cursor(Seq(1)), {})))
    run, calls = state.run, [one for one in view["pending"] if one["type"] == "tool_call"]
    return {
        "agent": view.get("agent"),
        "status": view["status"],
        "messages": view["messages"],
        "usage": view["usage"],
        "run": None if run is None else [run.run_id, run.message_id, run.step, run.attempt],
        "waiting": [[one["run_id"], one["content"]] for one in view["pending"] if one["type"] == "message"],
        "calls": [
            [one["call_id"], one["run_id"], one["name"], one["input"], one.get("worker"), one.get("until")]
            for one in calls
        ],
        "asking": [call.question for call in state.open_calls],
        "runs": {run: [end.status, end.text, end.error and end.error.code] for run, end in state.runs.items()},
    }


def of_client(view: View) -> View:
    """Give the same of what the client shows."""
    run, calls = view.get("run"), [view["calls"][call] for call in view.get("run", {"calls": []})["calls"]]
    return {
        "agent": view.get("agent"),
        "status": view["status"],
        "messages": [message for message in view["messages"] if "streaming" not in message],
        "usage": view["usage"],
        "run": None if run is None else [run["run_id"], run["message_id"], run["step"], run["attempt"]],
        "waiting": [[one["run_id"], one["content"]] for one in view["waiting"]],
        "calls": [
            [one["call_id"], one["run_id"], one["name"], one["input"], one.get("worker"), one.get("until")]
            for one in calls
        ],
        "asking": [one.get("question_id") for one in calls],
        "runs": {
            run: [end["status"], end.get("text"), end.get("error", {}).get("code")] for run, end in view["runs"].items()
        },
    }


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_what_is_shown_is_what_the_fold_says_after_every_event(reducer: Reducer, seed: int) -> None:
    shown, states = folds(a_log(Random(seed)))
    views = reducer.views(shown)
    assert [of_client(view) for view in views] == [of_fold(state) for state in states]
    assert [view["seq"] for view in views] == list(range(1, len(shown) + 1))


# --- what only the client shows

CALLED = ToolCall(RUN, 1, 1, CALL, "weather", Json("{}"), "read", "default")


def after(reducer: Reducer, *events: Event) -> View:
    return reducer.views(folds([*BEGUN, *events])[0])[-1]


def test_what_a_model_is_saying_is_shown_as_it_comes(reducer: Reducer) -> None:
    view = after(
        reducer,
        Thinking(RUN, 1, 1, "h"),
        Thinking(RUN, 1, 1, "m"),
        TextDelta(RUN, 1, 1, "Hel"),
        TextDelta(RUN, 1, 1, "lo"),
        ToolInputDelta(RUN, 1, 1, CALL, '{"a'),
        ToolInputDelta(RUN, 1, 1, CallId("call_2"), "{"),
        ToolInputDelta(RUN, 1, 1, CALL, '":1}'),
        TextDelta(RUN, 1, 1, "!"),
    )
    assert view["messages"][1:] == [
        {
            "role": "assistant",
            "run_id": RUN,
            "streaming": {"step": 1, "attempt": 1},
            "content": [
                {"type": "thinking", "text": "hm"},
                {"type": "text", "text": "Hello"},
                {"type": "tool_use", "id": CALL, "json": '{"a":1}'},
                {"type": "tool_use", "id": "call_2", "json": "{"},
                {"type": "text", "text": "!"},
            ],
        }
    ]


@pytest.mark.parametrize(
    "lost", [ModelCallAbandoned(RUN, 1, 1, "crash"), ModelCallFailed(RUN, 1, 1, FAILURE), RunCancelled(RUN, "asked")]
)
def test_what_a_lost_attempt_said_is_dropped(reducer: Reducer, lost: Event) -> None:
    """protocol:P20"""
    said = TextDelta(RUN, 1, 1, "lost")
    assert len(after(reducer, said)["messages"]) == 2
    assert [message["role"] for message in after(reducer, said, lost)["messages"]] == ["user"]


def test_a_message_takes_the_place_of_what_was_said_of_it(reducer: Reducer) -> None:
    """protocol:P19"""
    message = Json('{"role":"assistant","content":[{"type":"text","text":"whole"}]}')
    done = ModelCallCompleted(RUN, 1, 1, message, Usage(), "end_turn", 1)
    view = after(reducer, TextDelta(RUN, 1, 1, "who"), done)
    assert view["messages"][1:] == [
        {"role": "assistant", "run_id": RUN, "content": [{"type": "text", "text": "whole"}]}
    ]


def test_a_call_shows_its_progress_and_then_its_result(reducer: Reducer) -> None:
    """protocol:P22"""
    progress = ToolProgress(RUN, 1, 1, CALL, 1.0, 2.0, "half")
    running = [CALLED, ToolStarted(RUN, 1, 1, CALL, "w"), progress, ToolResultChunk(RUN, 1, 1, CALL, Json('"so"'))]
    call = after(reducer, *running)["calls"][CALL]
    assert (call["status"], call["worker"], call["chunks"]) == ("open", "w", ["so"])
    assert call["progress"] == {"progress": 1.0, "total": 2.0, "message": "half"}
    call = after(reducer, *running, ToolResult(RUN, 1, 1, CALL, "ok", Json('"done"'), 7))["calls"][CALL]
    assert (call["status"], call["output"], call["chunks"], call["elapsed_ms"]) == ("ok", "done", [], 7)
    assert not {"worker", "progress"} & call.keys()


def test_what_a_call_brings_late_is_beside_its_result(reducer: Reducer) -> None:
    """protocol:P73"""
    late = ToolResultLate(RUN, 1, 1, CALL, "ok", Json('"late"'), 7)
    view = after(reducer, CALLED, ToolResult(RUN, 1, 1, CALL, "timeout", Json("null"), 7), late)
    assert view["calls"][CALL]["status"] == "timeout"
    assert view["calls"][CALL]["late"] == {"status": "ok", "output": "late"}


@pytest.mark.parametrize(
    "over",
    [
        QuestionAnswered(RUN, 1, 1, "q_1", Json('"yes"'), "me"),
        ToolResult(RUN, 1, 1, CALL, "cancelled", Json("null"), 7),
        RunCancelled(RUN, "asked"),
    ],
)
def test_a_question_is_open_until_it_is_answered_or_nobody_waits_for_it(reducer: Reducer, over: Event) -> None:
    asked = QuestionAsked(RUN, 1, 1, "q_1", Json('"sure?"'), Json('{"type":"boolean"}'), CALL)
    view = after(reducer, CALLED, asked)
    question = {"question_id": "q_1", "run_id": RUN, "content": "sure?", "schema": {"type": "boolean"}, "call_id": CALL}
    assert (view["status"], view["questions"]) == ("waiting", [question])
    assert after(reducer, CALLED, asked, over)["questions"] == []


def test_types_that_are_newer_change_nothing_but_the_place(reducer: Reducer) -> None:
    """protocol:P1"""
    events = folds(BEGUN)[0]
    before, view = reducer.views([*events, b'{"seq":5,"type":"weather","at":0,"run_id":"run_1"}'])[-2:]
    assert view == {**before, "seq": 5, "cursor": "5-00000000"}


def test_what_is_said_of_a_call_after_its_end_is_not_shown(reducer: Reducer) -> None:
    ended = [CALLED, ToolResult(RUN, 1, 1, CALL, "ok", Json("1"), 7)]
    view = after(reducer, *ended, ToolProgress(RUN, 1, 1, CALL, 1.0))
    assert view["calls"] == after(reducer, *ended)["calls"]
