"""`ScriptedModel`: scenarios, and what it makes up without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from playhead.errors import Misconfigured
from playhead_orchestrator.adapters.scripted import ScriptedModel
from playhead_orchestrator.model import Finished, ModelRequest, TextSaid, ThinkingSaid, ToolInputSaid, ToolOffer

from tests.orchestrator.hearing import failure, hear


def offer(name: str, description: str, required: Mapping[str, Any]) -> ToolOffer:
    return ToolOffer(name, description, {"type": "object", "properties": dict(required), "required": list(required)})


STRING = {"type": "string"}
CLOCK = offer("clock", "Tell what time it is in a city, such as Oslo, New York or Asia/Tokyo.", {"city": STRING})
CALCULATE = offer("calculate", "Work out an arithmetic expression.", {"expression": STRING})
COUNT = offer("word_statistics", "Count the words of a text.", {"text": STRING})
TOOLS = (CLOCK, CALCULATE, COUNT)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def results(*contents: Any) -> dict[str, Any]:
    blocks = [
        {"type": "tool_result", "tool_use_id": "x", "content": content, "is_error": False} for content in contents
    ]
    return {"role": "user", "content": blocks}


ASSISTANT: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": "…"}]}


def request(*messages: dict[str, Any], tools: Sequence[ToolOffer] = TOOLS, attempt: int = 1) -> ModelRequest:
    return ModelRequest("", "", messages, tools, attempt=attempt)


def scenario(folder: Path, *turns: Any) -> ScriptedModel:
    path = folder / "scenario.json"
    path.write_text(json.dumps(turns))
    return ScriptedModel(path, pace=0)


def uses(finished: Finished) -> list[tuple[str, Any]]:
    return [(block["name"], block["input"]) for block in finished.content if block["type"] == "tool_use"]


def text_of(finished: Finished) -> str:
    return "".join(block["text"] for block in finished.content if block["type"] == "text")


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ("What time is it in Oslo, and how many seconds are in a leap year?", [("clock", {"city": "Oslo"})]),
        ("Time in New York and Tokyo?", [("clock", {"city": "New York"}), ("clock", {"city": "Tokyo"})]),
        ("the time in 'Asia/Tokyo' please", [("clock", {"city": "Asia/Tokyo"})]),
        ("What is (12 + 3) * 7?", [("calculate", {"expression": "(12 + 3) * 7"})]),
        (
            "The time in Oslo, and 12*7?",
            [("clock", {"city": "Oslo"}), ("calculate", {"expression": "12*7"})],
        ),
        ('Count the words of "to be or not"', [("word_statistics", {"text": "to be or not"})]),
        ("Who are you?", []),
        ("", []),
    ],
)
async def test_without_a_scenario_it_uses_the_tools_whose_words_match(asked: str, called: list[tuple[str, Any]]):
    said, finished = await hear(ScriptedModel(pace=0), request(user(asked)))
    assert uses(finished) == called
    assert finished.stop_reason == ("tool_use" if called else "end_turn")
    for index, (_, given) in enumerate(called):
        pieces = [one.json for one in said if isinstance(one, ToolInputSaid) and one.index == index]
        assert json.loads("".join(pieces)) == given
        assert len(pieces) > 1, "the input comes in pieces"
    assert any(isinstance(one, ThinkingSaid) for one in said)
    assert "".join(one.text for one in said if isinstance(one, TextSaid)) == text_of(finished)


async def test_it_tells_what_the_tools_returned_and_that_it_is_a_script():
    conversation = (user("the time in Oslo?"), ASSISTANT, results({"time": "12:00"}, "plain text"))
    _, finished = await hear(ScriptedModel(pace=0), request(*conversation))
    assert uses(finished) == []
    assert '{"time":"12:00"}' in text_of(finished)
    assert "plain text" in text_of(finished)
    assert "no language model" in text_of(finished)


async def test_without_a_matching_tool_it_says_what_it_is_and_what_it_has():
    _, finished = await hear(ScriptedModel(pace=0), request(user("Who are you?")))
    assert "no language model" in text_of(finished)
    assert "clock, calculate, word_statistics" in text_of(finished)


async def test_arguments_are_made_up_from_the_schema_and_from_what_was_said():
    schema = {
        "type": "object",
        "$defs": {"Place": {"type": "object", "properties": {"name": STRING}, "required": ["name"]}},
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "unit": {"enum": ["kelvin", "celsius"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 5},
            "share": {"anyOf": [{"type": "null"}, {"type": "number"}]},
            "loud": {"type": "boolean"},
            "tags": {"type": "array", "items": STRING},
            "kind": {"const": "fixed"},
            "given": {"type": "string", "default": "as it is"},
            "optional": STRING,
        },
        "required": ["place", "unit", "days", "share", "loud", "tags", "kind", "given"],
    }
    tool = ToolOffer("forecast", "", schema)
    _, finished = await hear(
        ScriptedModel(pace=0), request(user("a forecast for Oslo in celsius, 9 days, 0.5"), tools=[tool])
    )
    assert uses(finished) == [
        (
            "forecast",
            {
                "place": {"name": "Oslo"},
                "unit": "celsius",
                "days": 5,
                "share": 0.5,
                "loud": True,
                "tags": ["Oslo"],
                "kind": "fixed",
                "given": "as it is",
            },
        )
    ]


async def test_a_schema_that_refers_to_itself_comes_to_an_end():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "required": ["next"]}
    tool = ToolOffer("chain", "", {**node, "$defs": {"Node": node}})
    _, finished = await hear(ScriptedModel(pace=0), request(user("chain it"), tools=[tool]))
    assert uses(finished)[0][0] == "chain"


async def test_the_same_request_gets_the_same_answer_from_a_fresh_model():
    asked = request(user("Time in Oslo and Tokyo?"))
    assert await hear(ScriptedModel(pace=0), asked) == await hear(ScriptedModel(pace=0), asked)


TURN = {
    "steps": [
        {"think": "hm"},
        {"say": "looking"},
        {"use": {"tool": "clock", "input": {"city": "Oslo"}}},
        {"use": {"tool": "calculate", "json": '{"broken'}},
        {"say": "first answer"},
        {"use": {"tool": "clock"}},
        {"say": "second answer"},
    ]
}


async def test_a_turn_goes_on_from_what_was_answered_whatever_process_runs_it(tmp_path: Path):
    conversation = [user("go")]
    answers: list[Finished] = []
    for _ in range(4):
        _, finished = await hear(scenario(tmp_path, TURN), request(*conversation))
        answers.append(finished)
        conversation += [ASSISTANT, results("done")]
    assert [text_of(one) for one in answers[:3]] == ["looking", "first answer", "second answer"]
    assert "nothing more" in text_of(answers[3])
    assert answers[0].content[2:3] == ({"type": "tool_use", "name": "clock", "input": {"city": "Oslo"}},)
    assert answers[0].content[3]["input"] == '{"broken'
    assert answers[0].content[3]["invalid"]
    assert [one.stop_reason for one in answers] == ["tool_use", "tool_use", "end_turn", "end_turn"]


async def test_turns_answer_in_order_unless_their_words_are_said(tmp_path: Path):
    turns: list[dict[str, Any]] = [
        {"steps": [{"say": "one"}]},
        {"when": "Weather", "steps": [{"say": "sunny"}]},
        {"steps": [{"say": "two"}]},
    ]
    model = scenario(tmp_path, *turns)
    conversation: list[dict[str, Any]] = []
    heard: list[str] = []
    for asked in ("hi", "how is the WEATHER?", "and now?", "more?"):
        conversation.append(user(asked))
        _, finished = await hear(model, request(*conversation))
        heard.append(text_of(finished))
        conversation.append(ASSISTANT)
    assert heard[:3] == ["one", "sunny", "two"]
    assert "scripted model" in heard[3], "when the turns have run out, it makes up an answer"


async def test_a_step_may_fail_the_first_attempts_in_the_middle(tmp_path: Path):
    fail = {"code": "overloaded", "after": 2, "times": 2, "retry_after": 0.5}
    model = scenario(tmp_path, {"steps": [{"fail": fail}, {"delta_characters": 2}, {"say": "abcdef"}]})
    for attempt in (1, 2):
        failed, said = await failure(model, request(user("go"), attempt=attempt))
        assert (failed.code, failed.retryable, failed.retry_after_seconds) == ("overloaded", True, 0.5)
        assert said == [TextSaid("ab"), TextSaid("cd")]
    said, finished = await hear(model, request(user("go"), attempt=3))
    assert said == [TextSaid("ab"), TextSaid("cd"), TextSaid("ef")]
    assert text_of(finished) == "abcdef"


async def test_a_step_may_fail_for_good(tmp_path: Path):
    model = scenario(tmp_path, {"steps": [{"fail": {"code": "refused", "retryable": False, "message": "no"}}]})
    failed, said = await failure(model, request(user("go")))
    assert (failed.code, failed.message, failed.retryable, said) == ("refused", "no", False, [])


async def test_a_pause_can_be_cancelled(tmp_path: Path):
    model = scenario(tmp_path, {"steps": [{"say": "a"}, {"pause": 3600}, {"say": "b"}]})
    async with asyncio.timeout(5), aclosing(model.stream(request(user("go")))) as stream:
        assert list(await anext(stream)) == [TextSaid("a")]


@pytest.mark.parametrize("text", ["", "one", "one  two\n\nthree ", "   ", "a" * 100, "tab\tand\u2028more  "])
async def test_no_character_is_lost_between_deltas(tmp_path: Path, text: str):
    said, finished = await hear(scenario(tmp_path, {"steps": [{"say": text}]}), request(user("go")))
    assert "".join(one.text for one in said if isinstance(one, TextSaid)) == text == text_of(finished)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{", "line 1, column 2"),
        ("{}", "the scenario: a list"),
        ('[{"steps": []}, 7]', "turn 2: an object"),
        ('[{"when": "x"}]', "turn 1: `steps` is missing"),
        ('[{"steps": [{"say": "a"}, {"sing": "b"}]}]', "turn 1, step 2: no such key: sing"),
        ('[{"steps": [{"say": 7}]}]', "turn 1, step 1, `say`: a text"),
        ('[{"steps": [{"say": "a", "think": "b"}]}]', "turn 1, step 1: a step has one key"),
        ('[{"steps": [{"use": {"input": {}}}]}]', "turn 1, step 1, `use`: give `tool`"),
        ('[{"steps": [{"pause": -1}]}]', "turn 1, step 1, `pause`: a number"),
        ('[{"steps": [{"fail": {"code": "x", "after": 1.5}}]}]', "`after`: a whole number"),
        ('[{"steps": [{"fail": {}}]}]', "`code`: a text"),
    ],
)
def test_a_bad_scenario_is_named_with_the_place(tmp_path: Path, content: str, place: str):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(Misconfigured) as caught:
        ScriptedModel(path)
    assert str(path) in str(caught.value)
    assert place in str(caught.value)


def test_a_scenario_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(Misconfigured, match=r"nowhere\.json"):
        ScriptedModel(tmp_path / "nowhere.json")
