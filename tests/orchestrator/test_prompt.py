"""`messages_of`: the conversation that a model is given, whatever the session holds."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from hypothesis import given
from hypothesis import strategies as st
from playhead.events import Json
from playhead.ids import RunId, SessionId
from playhead.session import Message, Session
from playhead_orchestrator.prompt import NO_RESULT, messages_of

Role = Literal["user", "assistant", "tool"]


def message(role: Role, content: Any) -> Message:
    return Message(role, RunId("run_1"), None, Json(orjson.dumps(content).decode()))


def conversation(*messages: Message) -> list[dict[str, Any]]:
    return messages_of(Session(SessionId("ses_1"), messages=messages))


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(identity: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": "clock", "input": {}}


def result(identity: str, content: Any = "ok", *, is_error: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": content, "is_error": is_error}


def test_results_follow_their_calls_in_the_order_of_the_calls():
    assert conversation(
        message("user", "go"),
        message("assistant", [text("looking"), use("a"), use("b")]),
        message("tool", {**result("b", {"deg": 3}), "status": "ok"}),
        message("tool", {**result("a", "late", is_error=True), "status": "timeout"}),
        message("assistant", [text("done")]),
    ) == [
        {"role": "user", "content": [text("go")]},
        {"role": "assistant", "content": [text("looking"), use("a"), use("b")]},
        {"role": "user", "content": [result("a", "late", is_error=True), result("b", {"deg": 3})]},
        {"role": "assistant", "content": [text("done")]},
    ]


def test_what_the_user_says_next_comes_after_the_results():
    assert conversation(
        message("assistant", [use("a")]),
        message("tool", result("a")),
        message("user", "and now?"),
        message("user", [text("quick"), {"type": "image", "source": {}}]),
    )[1] == {"role": "user", "content": [result("a"), text("and now?"), text("quick"), {"type": "image", "source": {}}]}


def test_a_call_without_a_result_is_given_one_that_says_so():
    assert conversation(message("assistant", [use("a")]))[1]["content"] == [result("a", NO_RESULT, is_error=True)]


def test_an_answer_without_content_is_left_out():
    assert conversation(message("user", "a"), message("assistant", []), message("user", "b")) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]


def test_a_user_cannot_claim_calls_or_results():
    assert conversation(message("user", [use("a"), text("hi"), result("b"), 7, {"no": "type"}])) == [
        {"role": "user", "content": [text("hi")]}
    ]


IDS = st.sampled_from(["a", "b", "c"])
BLOCKS = st.one_of(
    st.builds(text, st.text(max_size=3)),
    st.builds(use, IDS),
    st.builds(result, IDS),
    st.just({"type": "thinking", "text": "hm"}),
    st.just({"type": "tool_use"}),
    st.none(),
    st.integers(0, 9),
)
MESSAGES = st.one_of(
    st.builds(message, st.just("user"), st.text(max_size=3) | st.lists(BLOCKS, max_size=3) | st.integers(0, 9)),
    st.builds(message, st.just("assistant"), st.lists(BLOCKS, max_size=4)),
    st.builds(message, st.just("tool"), st.builds(result, IDS)),
)


@given(st.lists(MESSAGES, max_size=12))
def test_whatever_was_said_every_call_is_followed_by_its_one_result(messages: list[Message]):
    told = conversation(*messages)
    roles = [one["role"] for one in told]
    assert all(roles[at] != roles[at + 1] for at in range(len(roles) - 1)), "roles take turns"
    assert all(one["content"] for one in told)
    contents: list[list[dict[str, Any]]] = [[], *(one["content"] for one in told), []]
    for one, before, here, after in zip(told, contents, contents[1:], contents[2:], strict=False):
        used = [block["id"] for block in here if block["type"] == "tool_use"]
        asked = [block["id"] for block in before if block["type"] == "tool_use"]
        answered = [block["tool_use_id"] for block in here if block["type"] == "tool_result"]
        if used:
            assert one["role"] == "assistant"
            assert [block.get("tool_use_id") for block in after[: len(used)]] == used
        if one["role"] == "user":
            assert answered == asked
    every = [block["id"] for one in told for block in one["content"] if block["type"] == "tool_use"]
    assert len(every) == len(set(every)), "a call is told once"
