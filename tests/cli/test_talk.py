"""`send`, `tail`, `ls` and `show`, against a gateway that says what the test wrote down."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from playhead.client import Patience, Refused
from playhead.errors import Unavailable
from playhead_cli import talk
from playhead_cli.terminal import Terminal

from tests.cli.fake_gateway import RUN, SESSION, answer, end, event, fake_gateway, ready, stream

QUICK = Patience(first_seconds=0.001, most_seconds=0.002, silence_seconds=2.0, lost_seconds=0.05)
MADE = answer({"id": SESSION, "run_id": RUN, "status": "running", "last_seq": 0}, "201 Created")
ERROR = {"code": "refused", "message": "no"}


def follow(**options: Any) -> tuple[talk.Follow, io.StringIO, io.StringIO]:
    out, notes = io.StringIO(), io.StringIO()
    return talk.Follow(Terminal(out, notes), patience=QUICK, **options), out, notes


async def test_send_shows_the_answer_until_its_run_is_over():
    said = stream(
        ready(),
        event(1, "text_delta", text="Hel"),
        event(2, "text_delta", text="lo"),
        event(3, "run_completed", usage={"input_tokens": 1, "output_tokens": 2}),
    )
    shown, out, notes = follow(echo_user=False)
    async with asyncio.timeout(5), fake_gateway(MADE, said) as fake:
        assert await talk.send(fake.url, talk.Message("hi", agent="a"), shown, wait=True) == 0
    assert out.getvalue() == "Hello\n✓ 1 tokens in, 2 out\n"
    assert notes.getvalue() == f"session {SESSION}\n"
    first, headers, body = fake.asked[0]
    assert first.startswith("POST /v1/sessions ")
    assert headers["idempotency-key"]
    assert json.loads(body) == {"input": "hi", "agent": "a"}


@pytest.mark.parametrize(("kind", "fields"), [("run_failed", {"error": ERROR}), ("run_cancelled", {"reason": "asked"})])
async def test_send_fails_when_its_run_does(kind: str, fields: dict[str, Any]):
    shown, _, _ = follow()
    async with asyncio.timeout(5), fake_gateway(MADE, stream(ready(), event(1, kind, **fields))) as fake:
        assert await talk.send(fake.url, talk.Message("hi"), shown, wait=True) == 1


async def test_send_to_a_session_follows_from_where_the_session_was_and_only_its_own_run():
    state = answer({"id": SESSION, "status": "running", "last_seq": 7, "cursor": "7-00000007"})
    said = answer({"run_id": "run_2", "message_id": "msg_2"}, "202 Accepted")
    usage = {"input_tokens": 1, "output_tokens": 2}
    other = event(8, "run_completed", usage=usage)
    own = event(9, "run_failed", error=ERROR).replace(RUN, "run_2")
    shown, _, _ = follow()
    async with asyncio.timeout(5), fake_gateway(state, said, stream(ready(), other, own)) as fake:
        message = talk.Message("hi", session=SESSION, mode="interrupt")
        assert await talk.send(fake.url, message, shown, wait=True) == 1
    assert json.loads(fake.asked[1][2]) == {"content": "hi", "mode": "interrupt"}
    assert fake.asked[2][1]["last-event-id"] == "7-00000007"


async def test_send_without_following_prints_the_session_and_nothing_else():
    shown, out, _ = follow()
    async with asyncio.timeout(5), fake_gateway(MADE) as fake:
        assert await talk.send(fake.url, talk.Message("hi"), shown, wait=False) == 0
    assert out.getvalue() == f"{SESSION}\n"


async def test_a_lost_answer_to_send_is_asked_for_again_with_the_same_key():
    shown, _, _ = follow()
    async with asyncio.timeout(5), fake_gateway(b"", MADE) as fake:
        assert await talk.send(fake.url, talk.Message("hi"), shown, wait=False) == 0
    assert len({headers["idempotency-key"] for _, headers, _ in fake.asked}) == 1
    assert len(fake.asked) == 2


async def test_tail_as_json_prints_each_event_as_it_came_across_a_drop():
    frames = [event(seq, "text_delta", text="é\u2028x") for seq in (1, 2, 3)]
    shown, out, notes = follow(as_json=True, session=SESSION)
    async with (
        asyncio.timeout(5),
        fake_gateway(stream(ready(), *frames[:2]), stream(ready(), frames[2], end())) as fake,
    ):
        assert await talk.tail(fake.url, shown, until_idle=False) == 0
    assert [json.loads(line)["seq"] for line in out.getvalue().strip().split("\n")] == [1, 2, 3]
    assert notes.getvalue().endswith("resuming after 2-00000002\n")
    assert len(notes.getvalue().splitlines()) == 1
    assert shown.cursor == "3-00000003"


async def test_tail_until_idle_stops_at_the_end_of_what_is_there_if_nothing_goes_on():
    idle = answer({"status": "idle", "last_seq": 2})
    frames = stream(ready("idle", 2), event(1, "text_delta", text="a"), event(2, "text_delta", text="b"))
    shown, out, _ = follow(session=SESSION)
    async with asyncio.timeout(5), fake_gateway(frames, idle) as fake:
        assert await talk.tail(fake.url, shown, until_idle=True) == 0
    assert out.getvalue() == "ab\n"


async def test_tail_until_idle_goes_on_while_another_message_waits():
    usage = {"input_tokens": 1, "output_tokens": 2}
    frames = stream(ready("running", 0), event(1, "run_completed", usage=usage), event(2, "run_completed", usage=usage))
    busy, idle = answer({"status": "running", "last_seq": 1}), answer({"status": "idle", "last_seq": 2})
    shown, _, _ = follow(session=SESSION)
    async with asyncio.timeout(5), fake_gateway(frames, busy, idle) as fake:
        assert await talk.tail(fake.url, shown, until_idle=True) == 0
    assert shown.cursor == "2-00000002"


async def test_ls_prints_a_line_a_session_and_how_to_see_more():
    page = {"sessions": [{"id": SESSION, "status": "idle", "agent": "a\x1b", "last_seq": 3}], "next_cursor": "xyz"}
    out, notes = io.StringIO(), io.StringIO()
    async with asyncio.timeout(5), fake_gateway(answer(page), answer(page)) as fake:
        assert await talk.ls(fake.url, Terminal(out, notes), {"limit": 1}, as_json=False) == 0
        assert out.getvalue().startswith(SESSION)
        assert "\x1b" not in out.getvalue()
        assert notes.getvalue() == "more: --cursor xyz\n"
        out.truncate(out.seek(0))
        assert await talk.ls(fake.url, Terminal(out, notes), {"limit": 1}, as_json=True) == 0
    assert json.loads(out.getvalue()) == page


async def test_show_prints_the_messages():
    state = {
        "status": "idle",
        "last_seq": 9,
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "Hello"}]},
            {"role": "tool", "content": {"type": "tool_result", "content": {"time": 1}, "status": "ok"}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 0},
    }
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(answer(state)) as fake:
        assert await talk.show(fake.url, Terminal(out), SESSION, as_json=False) == 0
    assert '› hi\nhm\nHello\n← {"time": 1}\n5 input tokens\n' in out.getvalue()


async def test_a_problem_is_said_in_its_own_words():
    problem = answer({"title": "No such session", "detail": "there is no session x"}, "404 Not Found")
    async with asyncio.timeout(5), fake_gateway(problem) as fake:
        with pytest.raises(Refused, match="No such session: there is no session x"):
            await talk.show(fake.url, Terminal(io.StringIO()), SESSION, as_json=False)


async def test_no_gateway_is_said_with_what_to_do():
    async with fake_gateway() as fake:
        pass
    with pytest.raises(Unavailable, match="playhead dev"):
        await talk.ls(fake.url, Terminal(io.StringIO()), {}, as_json=False)


async def test_when_patience_is_over_tail_says_how_to_go_on():
    shown, _, _ = follow(session=SESSION)
    async with asyncio.timeout(5), fake_gateway(stream(ready(), event(1, "text_delta", text="a"))) as fake:
        with pytest.raises(Unavailable, match=f"`playhead tail {SESSION} --after 1-00000001`"):
            await talk.tail(fake.url, shown, until_idle=False)
