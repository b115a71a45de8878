"""`dlq ls`, `dlq show`, `dlq retry` and `dlq drop`, against a gateway that says what the test wrote down."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from playhead.client import Refused
from playhead_cli import letters
from playhead_cli.terminal import Terminal

from tests.cli.fake_gateway import SESSION, answer, fake_gateway

CALL: dict[str, Any] = {
    "id": "0-17",
    "state": "new",
    "at": 0,
    "topic": "agent.tools.default",
    "type": "RunTool",
    "tool": "weather",
    "session": SESSION,
    "error": "ConnectionError:\ndown " + "x" * 100,
    "input": {"city": "Oslo"},
}
NOISE: dict[str, Any] = {"id": "0-2", "state": "dropped", "at": 0, "topic": "agent.requests", "error": "\x1b[2J"}
DONE = answer({"id": "0-17", "state": "retried"}, "202 Accepted")
REFUSED = answer({"title": "Conflict", "detail": "0-2 cannot be sent again"}, "409 Conflict")


def terminal() -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, notes = io.StringIO(), io.StringIO()
    return Terminal(out, notes), out, notes


async def test_letters_are_listed_a_line_each_and_how_to_see_more():
    to, out, notes = terminal()
    page = answer({"letters": [CALL, NOISE], "next_cursor": "0-2"})
    async with asyncio.timeout(5), fake_gateway(page) as fake:
        assert await letters.list_letters(fake.url, to, {"state": "new", "limit": 2}, as_json=False) == 0
    assert fake.asked[0][0].startswith("GET /v1/deadletters?state=new&limit=2 ")
    call, noise = out.getvalue().splitlines()
    assert call.startswith("0-17 ")
    assert f" new      weather              {SESSION} ConnectionError: down xx" in call
    assert call.endswith("…")
    assert " dropped  agent.requests " in noise
    assert "\x1b" not in noise
    assert notes.getvalue() == "more: --cursor 0-2\n"


async def test_no_letters_is_a_note_and_json_is_what_the_gateway_said():
    to, out, notes = terminal()
    page = {"letters": list[str]()}
    async with asyncio.timeout(5), fake_gateway(answer(page), answer(page)) as fake:
        assert await letters.list_letters(fake.url, to, {}, as_json=False) == 0
        assert (out.getvalue(), notes.getvalue()) == ("", "no such dead letters\n")
        assert await letters.list_letters(fake.url, to, {}, as_json=True) == 0
    assert json.loads(out.getvalue()) == page


async def test_a_letter_is_shown_member_by_member():
    to, out, _ = terminal()
    async with asyncio.timeout(5), fake_gateway(answer(CALL), answer(CALL)) as fake:
        assert await letters.show_letter(fake.url, to, "0-17", as_json=False) == 0
        assert 'input            {"city": "Oslo"}' in out.getvalue().splitlines()
        assert await letters.show_letter(fake.url, to, "0/17", as_json=True) == 0
    assert json.loads(out.getvalue().splitlines()[-1]) == CALL
    assert [asked[0].split()[1] for asked in fake.asked] == ["/v1/deadletters/0-17", "/v1/deadletters/0%2F17"]


async def test_one_that_is_refused_holds_up_none_of_the_others_and_is_exit_code_1():
    to, out, notes = terminal()
    async with asyncio.timeout(5), fake_gateway(REFUSED, DONE) as fake:
        assert await letters.handle(fake.url, to, ["0/2", "0-17"], "retry") == 1
    assert [asked[0].split()[1] for asked in fake.asked] == [
        "/v1/deadletters/0%2F2/retry",
        "/v1/deadletters/0-17/retry",
    ]
    assert out.getvalue() == "0-17 retried\n"
    assert notes.getvalue() == "Conflict: 0-2 cannot be sent again\n"


@pytest.mark.parametrize(
    ("how", "raw", "path"), [("retry", True, "retry?raw=true"), ("retry", False, "retry"), ("drop", True, "drop")]
)
async def test_what_cannot_be_read_is_only_sent_again_if_that_is_said(how: Any, raw: bool, path: str):
    to, _, _ = terminal()
    async with asyncio.timeout(5), fake_gateway(DONE) as fake:
        assert await letters.handle(fake.url, to, ["0-17"], how, raw=raw) == 0
    assert fake.asked[0][0].startswith(f"POST /v1/deadletters/0-17/{path} ")


async def test_without_names_all_that_are_new_are_dealt_with_page_by_page():
    to, out, _ = terminal()
    first, second = answer({"letters": [CALL], "next_cursor": "0-17"}), answer({"letters": [NOISE]})
    async with asyncio.timeout(5), fake_gateway(first, DONE, second, DONE) as fake:
        assert await letters.handle(fake.url, to, (), "drop") == 0
    assert [asked[0].split()[1] for asked in fake.asked] == [
        "/v1/deadletters?state=new&limit=500",
        "/v1/deadletters/0-17/drop",
        "/v1/deadletters?state=new&limit=500&cursor=0-17",
        "/v1/deadletters/0-2/drop",
    ]
    assert len(out.getvalue().splitlines()) == 2


async def test_where_none_are_new_there_is_nothing_to_deal_with():
    to, out, notes = terminal()
    async with asyncio.timeout(5), fake_gateway(answer({"letters": []})) as fake:
        assert await letters.handle(fake.url, to, (), "retry") == 0
    assert (out.getvalue(), notes.getvalue()) == ("", "no new dead letters\n")


async def test_what_the_gateway_refuses_is_said():
    to, _, _ = terminal()
    missing = answer({"title": "Not Found", "detail": "there is no dead letter 0-9"}, "404 Not Found")
    async with asyncio.timeout(5), fake_gateway(missing) as fake:
        with pytest.raises(Refused, match="no dead letter 0-9"):
            await letters.show_letter(fake.url, to, "0-9", as_json=False)
