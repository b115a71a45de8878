"""`answer`, `tools ls`, `tools show` and `tools call`, against a gateway that says what the test wrote down."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from playhead.client import Patience, Refused
from playhead_cli import hand
from playhead_cli.talk import Follow
from playhead_cli.terminal import Terminal

from tests.cli.fake_gateway import RUN, SESSION, answer, event, fake_gateway, ready, stream

QUICK = Patience(first_seconds=0.001, most_seconds=0.002, silence_seconds=2.0, lost_seconds=0.05)
CALLED = answer({"id": SESSION, "run_id": RUN}, "202 Accepted")
WEATHER = {"name": "weather", "pool": "default", "effect": "read", "description": "Tells the sky.\nMore."}
PAY = {"name": "pay", "pool": "bank", "effect": "once", "description": "", "breaker": {"state": "half_open"}}
FAILURE = {"code": "tool_failed", "message": "no"}


def terminal() -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, notes = io.StringIO(), io.StringIO()
    return Terminal(out, notes), out, notes


async def call(*frames: str, as_json: bool = False) -> tuple[int, str, str, list[str]]:
    """Call a tool by hand; give the exit code, the result, what was shown on the way, and what was asked."""
    way, shown, _ = terminal()
    out, result, _ = terminal()
    follow = Follow(way, as_json=as_json, echo_user=False, patience=QUICK)
    async with asyncio.timeout(5), fake_gateway(CALLED, stream(ready(), *frames)) as fake:
        code = await hand.call_tool(fake.url, follow, "we/ather", {"city": "Oslo"}, out=out)
    return code, result.getvalue(), shown.getvalue(), [fake.asked[0][0], fake.asked[0][2]]


def result(seq: int, status: str, output: object) -> str:
    return event(seq, "tool_result", call_id="c", status=status, output=output, elapsed_ms=7, cached=False)


def done(seq: int) -> str:
    return event(seq, "run_completed", usage={"input_tokens": 0, "output_tokens": 0})


async def test_a_call_by_hand_is_followed_and_its_result_is_the_answer():
    began = event(1, "tool_call", call_id="c", name="weather", input={"city": "Oslo"})
    code, answered, shown, asked = await call(began, result(2, "ok", {"sky": "clear"}), done(3))
    assert (code, json.loads(answered)) == (0, {"sky": "clear"})
    assert shown.startswith('→ weather(city="Oslo")\n← weather (7 ms)')
    assert asked[0].startswith("POST /v1/tools/we%2Father/calls ")
    assert json.loads(asked[1]) == {"input": {"city": "Oslo"}}


async def test_a_text_is_printed_as_it_is_and_without_what_moves_the_cursor():
    assert (await call(result(1, "ok", "clear\x1b[2J"), done(2)))[1] == "clear\N{REPLACEMENT CHARACTER}[2J\n"


async def test_a_call_that_did_not_work_is_exit_code_1():
    code, answered, _, _ = await call(result(1, "error", "no"), event(2, "run_failed", error=FAILURE))
    assert (code, answered) == (1, "no\n")
    assert (await call(event(1, "run_cancelled", reason="requested")))[:2] == (1, "")
    assert (await call(result(1, "fallback", 0), done(2)))[0] == 0


async def test_with_json_the_answer_is_one_line_that_says_how_it_ended():
    code, answered, _, _ = await call(result(1, "timeout", None), event(2, "run_failed", error=FAILURE), as_json=True)
    told = {"session": SESSION, "call_id": "c", "status": "timeout", "output": None, "elapsed_ms": 7, "cached": False}
    assert (code, answered.count("\n"), json.loads(answered)) == (1, 1, told)


async def test_tools_are_listed_a_line_each_with_their_breakers():
    to, out, _ = terminal()
    async with asyncio.timeout(5), fake_gateway(answer({"tools": [PAY, WEATHER]})) as fake:
        assert await hand.list_tools(fake.url, to, as_json=False) == 0
    assert out.getvalue() == (
        "pay      bank     once   half_open\nweather  default  read   -          Tells the sky.\n"
    )


async def test_no_tools_is_a_note_and_json_is_what_the_gateway_said():
    to, out, notes = terminal()
    async with asyncio.timeout(5), fake_gateway(answer({"tools": []}), answer({"tools": []})) as fake:
        assert await hand.list_tools(fake.url, to, as_json=False) == 0
        assert (out.getvalue(), "playhead worker" in notes.getvalue()) == ("", True)
        assert await hand.list_tools(fake.url, to, as_json=True) == 0
    assert json.loads(out.getvalue()) == {"tools": []}


async def test_a_tool_is_shown_member_by_member():
    to, out, _ = terminal()
    async with asyncio.timeout(5), fake_gateway(answer(PAY), answer(PAY)) as fake:
        assert await hand.show_tool(fake.url, to, "pay", as_json=False) == 0
        assert 'breaker          {"state": "half_open"}' in out.getvalue().splitlines()
        assert await hand.show_tool(fake.url, to, "pay", as_json=True) == 0
    assert json.loads(out.getvalue().splitlines()[-1]) == PAY
    assert fake.asked[0][0].startswith("GET /v1/tools/pay ")


async def test_a_question_is_answered_with_json_or_a_text():
    to, out, notes = terminal()
    given = answer({"id": SESSION, "question_id": "q_1"}, "202 Accepted")
    async with asyncio.timeout(5), fake_gateway(given) as fake:
        assert await hand.answer(fake.url, to, SESSION, "q_1", hand.value_of("true")) == 0
    (first, headers, body) = fake.asked[0]
    assert first.startswith(f"POST /v1/sessions/{SESSION}/answers/q_1 ")
    assert headers["idempotency-key"]
    assert json.loads(body) == {"content": True}
    assert out.getvalue() == ""
    assert SESSION in notes.getvalue()
    assert [hand.value_of(text) for text in ("yes", '"yes"', "[1]", "")] == ["yes", "yes", [1], ""]


async def test_what_the_gateway_refuses_is_said():
    to, _, _ = terminal()
    refused = answer({"title": "Conflict", "detail": "q_1 is answered"}, "409 Conflict")
    async with asyncio.timeout(5), fake_gateway(refused) as fake:
        with pytest.raises(Refused, match="q_1 is answered"):
            await hand.answer(fake.url, to, SESSION, "q_1", 1)


def test_arguments_are_a_json_object():
    assert hand.object_of('{"a": 1}') == {"a": 1}
    assert [hand.object_of(text) for text in ("[1]", "city=Oslo", "{", "1")] == [None] * 4
