"""OpenAI Responses as a pure dialect: held against the types of the stock client, and against every cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState  # what `client.responses.stream` runs on
from openai.types.responses import Response, ResponseStreamEvent
from playhead.events import (
    ApprovalRequested,
    Event,
    Failure,
    FinalResponse,
    GuardrailTripped,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    OwnerChanged,
    QuestionAnswered,
    QuestionAsked,
    Range,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, MessageId, RunId, Seq, call_id, message_id, run_id
from playhead_gateway.projections.response_name import ResponseName, ToolItems, parse_response_name
from playhead_gateway.projections.responses import ResponseStream, WholeResponse
from playhead_gateway.projections.responses_run import About, Telling
from playhead_gateway.projections.sse import event_of
from pydantic import TypeAdapter

from tests.gateway.agui_model import SESSION, frames_of, logs
from tests.gateway.support import CLOSED, NOW, OWNED, RUN, STARTED

OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)  # Any: a union of the client's own types
NAME = ResponseName(SESSION, RUN)
MESSAGE = MessageId("msg_" + "m" * 26)
ASKED: list[Event] = [STARTED, OWNED, UserMessage(RUN, MESSAGE, Json('"hello"')), RunStarted(RUN, MESSAGE)]
CALLS = [call_id(SESSION, RUN, 1, index) for index in range(3)]
DONE = [FinalResponse(RUN, "", MESSAGE), RunCompleted(RUN, Usage())]

Said = dict[str, Any]


def calling(step: int = 1, attempt: int = 1) -> Event:
    return ModelCallStarted(RUN, step, attempt, "scripted:plain", "scripted")


def says(*texts: str, step: int = 1, attempt: int = 1) -> list[Event]:
    return [TextDelta(RUN, step, attempt, text) for text in texts]


def completed(*blocks: Said | str, step: int = 1, attempt: int = 1, stop: str = "end_turn") -> Event:
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    message = Json(orjson.dumps({"role": "assistant", "content": content}).decode())
    return ModelCallCompleted(RUN, step, attempt, message, Usage(3, 5, 2, 1), stop, 12)


def call(number: int = 0, *after: CallId) -> Event:
    return ToolCall(RUN, 1, 1, CALLS[number], "weather", Json('{"city": "Oslo"}'), "read", "team", after)


def result(number: int = 0, status: str = "ok", output: str = '{"sky":"clear"}') -> Event:
    return ToolResult(RUN, 1, 1, CALLS[number], status, Json(output), 7)


def asks(number: int = 0) -> Event:
    return QuestionAsked(RUN, 1, 1, f"q_{number}", Json('"Sure?"'), None, CALLS[number])


def answers(number: int = 0) -> Event:
    return QuestionAnswered(RUN, 1, 1, f"q_{number}", Json('"yes"'), "user")


def events_in(stream: bytes) -> list[Said]:
    """Read a stream as strictly as the client does: `event` and `data`, nothing else, and its types' very members."""
    assert not any(end.encode() in stream for end in ("\r", "\u2028", "\u2029", "\u0085"))
    blocks = stream.split(b"\n\n")
    assert blocks.pop() == b""
    told: list[Said] = []
    for block in blocks:
        name, data = block.split(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name.decode() == f"event: {event['type']}"
        assert "error" not in event  # the client raises on it
        OFFICIAL.validate_python(event)
        told.append(event)
    return told


def told(events: Sequence[Event], name: ResponseName = NAME, starting_after: int = -1) -> list[Said]:
    dialect = ResponseStream(Telling(name), starting_after)
    return events_in(dialect.opening() + dialect.say(frames_of(events)))


def response(events: Sequence[Event], name: ResponseName = NAME) -> Said:
    """Give the response as it stands after these events, as a poll does."""
    telling = Telling(name)
    for frame in frames_of(events):
        telling.take(orjson.loads(event_of(frame)))
    shown = orjson.loads(orjson.dumps(telling.response()))
    Response.model_validate(shown)
    return shown


def text_of(shown: Said) -> str:
    return Response.model_validate(shown).output_text


def check_stream(events: Sequence[Said]) -> None:
    """Hold a whole stream against what the stock client's helper, and any other client, builds from it."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    state = ResponseStreamState[None](text_format=omitted(), input_tools=())
    for event in events:
        state.handle_event(OFFICIAL.validate_python(event))
    items: list[Said] = []
    open_items = set[int]()
    for event in events:
        if "output_index" not in event:
            continue
        kind, index = event["type"], int(event["output_index"])
        if kind == "response.output_item.added":
            assert index == len(items)
            items.append(event["item"])
            open_items.add(index)
        assert index in open_items, f"{kind} outside of its item"
        if "item_id" in event:
            assert event["item_id"] == items[index]["id"]
        if kind == "response.output_item.done":
            assert event["item"]["id"] == items[index]["id"]
            items[index] = event["item"]
            open_items.discard(index)
    if events and events[-1]["type"] in ("response.completed", "response.failed", "response.incomplete"):
        assert not open_items
        assert events[-1]["response"]["output"] == items
    assert len({item["id"] for item in items}) == len(items)


def omitted() -> Any:
    from openai import omit  # noqa: PLC0415 - its type is not public

    return omit


def runs_of(events: Iterable[Event]) -> list[RunId]:
    return [event.run_id for event in events if isinstance(event, UserMessage)]


FORMS: st.SearchStrategy[ToolItems] = st.sampled_from(["mcp", "function"])
LOGS = logs().filter(lambda events: any(isinstance(event, UserMessage) for event in events))
QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@QUICK
@given(LOGS, FORMS)
def test_whatever_happens_the_stream_is_one_that_the_stock_client_takes_and_the_object_is_its_last_word(
    events: list[Event], form: ToolItems
):
    for run in runs_of(events):
        for part in (1, 2, 3):
            name = ResponseName(SESSION, run, part, form)
            said = told(events, name)
            if said and said[0]["type"] == "error":
                assert part > 1  # the run ended without it
                continue
            check_stream(said)
            if said and "response" in said[-1]:
                assert said[-1]["response"] == response(events, name)


@QUICK
@given(LOGS, FORMS, st.data())
def test_starting_after_any_number_gives_the_rest_and_nothing_else(
    events: list[Event], form: ToolItems, data: st.DataObject
):
    name = ResponseName(SESSION, data.draw(st.sampled_from(runs_of(events))), 1, form)
    whole = told(events, name)
    for number in range(-1, len(whole) + 1):
        assert told(events, name, number) == whole[number + 1 :]


@QUICK
@given(LOGS, st.data())
def test_the_bytes_are_the_same_in_whatever_portions_the_log_comes_and_wherever_reading_begins(
    events: list[Event], data: st.DataObject
):
    name = ResponseName(SESSION, data.draw(st.sampled_from(runs_of(events))))
    frames = frames_of(events)
    at_once = ResponseStream(Telling(name)).say(frames)
    one_by_one, about = ResponseStream(Telling(name)), About.of("support", {"team": "blue"})
    assert b"".join(one_by_one.say((frame,)) for frame in frames) == at_once
    cut = data.draw(st.integers(0, len(frames)))
    in_two = ResponseStream(Telling(name))
    assert in_two.say(frames[:cut]) + in_two.say(frames[cut:]) == at_once
    first = next(place for place, event in enumerate(events) if getattr(event, "run_id", None) == name.run)
    assert ResponseStream(Telling(name, about)).say(frames[first:]) == at_once


@QUICK
@given(LOGS)
def test_the_text_of_a_runs_responses_is_what_the_log_accepted_of_its_messages(events: list[Event]):
    for run in runs_of(events):
        accepted = [event for event in events if isinstance(event, ModelCallCompleted) and event.run_id == run]
        blocks = [block for event in accepted for block in orjson.loads(event.message)["content"]]
        expected = "".join(block["text"] for block in blocks if block["type"] == "text")
        if not any(
            isinstance(event, RunCompleted | RunFailed | RunCancelled) and event.run_id == run for event in events
        ):
            continue  # what is still being said is not accepted yet
        parts = [response(events, ResponseName(SESSION, run, part)) for part in range(1, 12)]
        assert "".join(text_of(part) for part in parts) == expected


def test_a_run_is_told_in_the_apis_words():
    blocks = [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "Let me see"}]
    step = [calling(), Thinking(RUN, 1, 1, "hm"), *says("Let me", " see"), completed(*blocks, stop="tool_use")]
    last = [calling(2), *says("Clear", step=2), completed("Clear", step=2), *DONE]
    events = [*ASKED, *step, call(), result(), *last]
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in told(events)] == [
        ("created", None),
        ("queued", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("reasoning_summary_part.added", 0),
        ("reasoning_summary_text.delta", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.delta", 1),
        ("reasoning_summary_text.done", 0),
        ("reasoning_summary_part.done", 0),
        ("output_item.done", 0),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("mcp_call.in_progress", 2),
        ("mcp_call_arguments.delta", 2),
        ("mcp_call_arguments.done", 2),
        ("mcp_call.completed", 2),
        ("output_item.done", 2),
        ("output_item.added", 3),
        ("content_part.added", 3),
        ("output_text.delta", 3),
        ("output_text.done", 3),
        ("content_part.done", 3),
        ("output_item.done", 3),
        ("completed", None),
    ]
    shown = response(events)
    assert shown["status"] == "completed"
    assert shown["model"] == "support"
    assert shown["metadata"] == {"team": "blue"}
    assert shown["created_at"] == shown["completed_at"] == NOW / 1_000_000
    assert shown["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 22,
    }
    made = shown["output"][2]
    assert (made["type"], made["server_label"], made["name"]) == ("mcp_call", "team", "weather")
    assert orjson.loads(made["arguments"]) == {"city": "Oslo"}
    assert orjson.loads(made["output"]) == {"sky": "clear"}


def test_a_call_can_be_told_as_a_function_call_and_its_output():
    name = ResponseName(SESSION, RUN, tool_items="function")
    events = [*ASKED, calling(), completed(stop="tool_use"), call(), result(), *DONE]
    check_stream(told(events, name))
    made, output = response(events, name)["output"]
    assert (made["type"], made["call_id"], made["status"]) == ("function_call", CALLS[0], "completed")
    assert (output["type"], output["call_id"], output["output"]) == (
        "function_call_output",
        CALLS[0],
        '{"sky":"clear"}',
    )


def test_a_call_that_did_not_work_is_a_failed_item_with_what_the_tool_said():
    failed = response([*ASKED, call(), result(status="denied", output='"no budget"'), *DONE])["output"][0]
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert failed["error"]["content"] == [{"type": "text", "text": "denied: no budget"}]


LOST: list[Event] = [
    ModelCallAbandoned(RUN, 1, 1, "owner_lost"),
    ModelCallFailed(RUN, 1, 1, Failure("overloaded", "later"), 10),
    OwnerChanged(2, "other"),  # as if a newer version had another word for it
]


@pytest.mark.parametrize("lost", LOST)
def test_what_a_lost_attempt_said_is_emptied_and_keeps_its_place(lost: Event):
    begun = [*ASKED, calling(), Thinking(RUN, 1, 1, "wrong thought"), *says("wrong text")]
    lost_and_known = [*begun, lost, calling(1, 2)]
    again = [calling(1, 2), *says("right", attempt=2), completed("right", attempt=2), *DONE]
    events = [*begun, lost, OwnerChanged(2, "other"), *again]
    said = told(events)
    check_stream(said)
    shown = said[-1]["response"]
    assert [(item["type"], item["status"]) for item in shown["output"]] == [
        ("reasoning", "incomplete"),
        ("message", "incomplete"),
        ("message", "completed"),
    ]
    assert text_of(shown) == "right"
    final = [event for event in said if not event["type"].endswith(".delta")]
    assert b"wrong" not in orjson.dumps(final)
    assert text_of(response(lost_and_known)) == ""
    assert text_of(response(begun)) == "wrong text"  # so far nobody knows


def test_the_accepted_message_has_the_last_word_on_what_was_streamed():
    rest = [*ASKED, calling(), *says("Hel"), completed("Hello"), *DONE]
    assert text_of(response(rest)) == "Hello"
    assert len(response(rest)["output"]) == 1
    silent = [*ASKED, calling(), completed({"type": "thinking", "text": "hm"}, "Hello"), *DONE]
    assert [item["type"] for item in response(silent)["output"]] == ["reasoning", "message"]
    other = [*ASKED, calling(), Thinking(RUN, 1, 1, "hm"), *says("Bye"), completed("Hello"), *DONE]
    assert [item["status"] for item in response(other)["output"]] == ["completed", "incomplete", "completed"]
    assert text_of(response(other)) == "Hello"
    for events in (rest, silent, other):
        check_stream(told(events))


def test_what_a_guardrail_withdraws_is_not_shown_again_also_after_the_end():
    events = [*ASKED, calling(), *says("secret"), completed("secret"), *DONE]
    withdrawn = GuardrailTripped(RUN, 1, 1, "secrets", "leak", Range(Seq(6), Seq(6)))
    assert text_of(response(events)) == "secret"
    assert text_of(response([*events, withdrawn])) == ""
    pieces = [*ASKED, calling(), *says("a", "secret"), completed("asecret"), *DONE]
    for seq, shown in ((6, ""), (7, ""), (5, "asecret"), (8, "asecret")):
        one = GuardrailTripped(RUN, 1, 1, "secrets", "leak", Range(Seq(seq), Seq(seq)))
        assert text_of(response([*pieces, one])) == shown
    early = [*ASKED, calling(), *says("secret"), withdrawn, *DONE]
    check_stream(told(early))
    assert text_of(response(early)) == ""


def test_a_run_that_waits_for_its_user_ends_one_response_and_goes_on_in_the_next():
    events = [*ASKED, calling(), completed(stop="tool_use"), call(), asks()]
    first = told(events)
    check_stream(first)
    assert first[-1]["type"] == "response.incomplete"
    shown = first[-1]["response"]
    assert shown["status"] == "incomplete"
    assert shown["output"][0]["status"] == "incomplete"
    assert shown["metadata"] == {
        "team": "blue",
        "playhead_session": SESSION,
        "playhead_run": RUN,
        "playhead_call": CALLS[0],
        "playhead_question": "q_0",
        "playhead_asks": "Sure?",
        "playhead_answer": f"POST /v1/sessions/{SESSION}/answers/q_0",
        "playhead_next_response": str(NAME.next),
    }
    following = parse_response_name(shown["metadata"]["playhead_next_response"])
    assert following == NAME.next
    assert response(events, NAME.next)["status"] == "queued"
    events += [answers(), result(), calling(2), *says("Done", step=2), completed("Done", step=2), *DONE]
    assert told(events) == first
    assert response(events) == shown
    check_stream(told(events, NAME.next))
    resumed = response(events, NAME.next)
    assert [(item["type"], item["status"]) for item in resumed["output"]] == [
        ("mcp_call", "completed"),
        ("message", "completed"),
    ]
    assert resumed["usage"]["output_tokens"] == 5  # its own, not the run's


def test_a_response_goes_on_while_another_call_does():
    asked = [*ASKED, calling(), completed(stop="tool_use"), call(0), call(1), call(2, CALLS[1]), asks(0)]
    assert response(asked)["status"] == "in_progress"
    assert response([*asked, asks(1)])["status"] == "incomplete"  # the third waits for the second
    assert response([*asked, result(1)])["status"] == "in_progress"
    assert response([*asked, result(1), result(2)])["status"] == "incomplete"


def test_an_approval_that_is_asked_for_is_told_like_a_question():
    asked = [*ASKED, call(), ApprovalRequested(RUN, 1, 1, CALLS[0], "it costs money")]
    shown = response(asked)
    assert shown["status"] == "incomplete"
    assert shown["metadata"]["playhead_answer"] == f"POST /v1/sessions/{SESSION}/approvals/{CALLS[0]}"
    assert shown["metadata"]["playhead_asks"] == "it costs money"


def test_how_a_run_ends_is_how_its_response_does():
    failed = told([*ASKED, calling(), *says("half"), RunFailed(RUN, Failure("overloaded", "later"))])[-1]
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "later"}
    assert failed["response"]["metadata"]["playhead_error"] == "overloaded"
    kept = [calling(), *says("half"), completed("half", stop="cancelled"), RunCancelled(RUN, "requested")]
    cancelled = told([*ASKED, *kept])[-1]
    assert cancelled["type"] == "response.incomplete"
    assert cancelled["response"]["status"] == "cancelled"
    assert text_of(cancelled["response"]) == "half"
    assert cancelled["response"]["output"][0]["status"] == "incomplete"
    cut = told([*ASKED, calling(), *says("half"), completed("half", stop="max_tokens"), *DONE])[-1]
    assert cut["type"] == "response.incomplete"
    assert cut["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    early = told([*ASKED[:3], RunCancelled(RUN, "requested")])
    assert [event["type"] for event in early] == ["response.created", "response.queued", "response.incomplete"]


def test_an_id_says_its_session_and_run_and_no_other_spelling_of_it_is_taken():
    for name in (NAME, NAME.next, ResponseName(SESSION, RUN, 12, "function")):
        assert parse_response_name(str(name)) == name
    assert len(str(NAME)) == len("resp_") + 26 + 1 + 26
    for wrong in ("", "resp_1", f"{NAME}_1", f"{NAME}_0", f"{NAME}_02", f"{NAME}_mcp", f"{NAME} ", str(NAME).upper()):
        assert parse_response_name(wrong) is None


def test_a_stream_that_ends_early_says_after_which_number_to_go_on():
    events = [*ASKED, calling(), *says("one", "two")]
    dialect = ResponseStream(Telling(NAME))
    before = events_in(dialect.say(frames_of(events)))
    assert not dialect.done
    (farewell,) = events_in(dialect.farewell("draining"))
    assert (farewell["type"], farewell["code"]) == ("error", "stream_draining")
    events += [*says("three"), completed("onetwothree"), *DONE]
    rest = told(events, starting_after=farewell["sequence_number"])
    assert before + rest == told(events)


def test_a_response_that_will_never_be_is_not_waited_for():
    dialect = ResponseStream(Telling(NAME))
    assert dialect.say(frames_of([STARTED, OWNED, CLOSED])) == b""
    assert events_in(dialect.ending(3))[0]["code"] == "response_not_found"
    later = ResponseStream(Telling(NAME.next))
    assert events_in(later.say(frames_of([*ASKED, *DONE])))[0]["code"] == "response_not_found"
    assert later.done
    whole = WholeResponse(Telling(NAME))
    assert whole.say(frames_of([STARTED, OWNED, CLOSED])) == b""
    assert orjson.loads(whole.ending(3))["status"] == "failed"


def test_a_whole_response_is_said_once_it_is_over_or_as_it_stands_when_it_must_be():
    events = [*ASKED, calling(), *says("Hello"), completed("Hello"), *DONE]
    whole = WholeResponse(Telling(NAME))
    assert whole.opening() + whole.say(frames_of(events[:-1])) == b""
    assert orjson.loads(b"\n" + whole.farewell("expired"))["status"] == "in_progress"
    assert orjson.loads(whole.say(frames_of(events)[-1:])) == response(events)
    assert whole.done
    unheard = orjson.loads(WholeResponse(Telling(NAME, About("support"), 12.5)).farewell("draining"))
    assert (unheard["status"], unheard["created_at"], unheard["model"]) == ("queued", 12.5, "support")


def test_other_runs_of_the_session_are_left_out_also_if_they_name_this_one():
    other = message_id(SESSION, "other")
    running = run_id(SESSION, other)
    noise = [
        UserMessage(running, other, Json(f'"{RUN}"')),
        RunStarted(running, other),
        RunCompleted(running, Usage(9, 9)),
    ]
    events = [*ASKED[:2], *noise, *ASKED[2:], calling(), *says("Hello"), completed("Hello"), *DONE]
    assert told(events) == told([*ASKED, *events[7:]])
