"""Dead letters over HTTP: which there are, which are sent again, and how."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from playhead.commands import Command, DeadLetter, Heartbeat, LetterHandled, RunTool, Say
from playhead.events import Json
from playhead.ids import CallId, MessageId, RunId, SessionId
from playhead.queue import Message
from playhead_gateway.letters import Letterbox
from playhead_gateway.limits import Limits

from tests.gateway.support import CODEC, NOW, World, client_of

SESSION = SessionId("ses_" + "a" * 26)
RUN, CALL = RunId("run_" + "r" * 26), CallId("call_" + "c" * 26)
POOL = "agent.tools.default"
RUN_TOOL = RunTool(
    session=SESSION,
    run_id=RUN,
    call_id=CALL,
    name="weather",
    input=Json('{"city":"Oslo"}'),
    effect="write",
    pool="default",
    lease="a lease that is nobody's business",
    idempotency_key="key",
    dispatched_at=1,
)
SAY = Say("req_1", SESSION, MessageId("msg_1"), RUN, Json('"hello"'))
URL = "/v1/deadletters"


async def bury(world: World, said: Command | bytes, topic: str = POOL, key: str = CALL, error: str = "down") -> None:
    value = said if isinstance(said, bytes) else CODEC.encode(said)
    await world.queue.prepare(world.topics.tools("default"))
    letter = DeadLetter(topic, 3, 17, key, value, error, NOW)
    await world.announce(world.topics.deadletter.name, topic, letter)


async def messages(world: World, topic: str = POOL) -> list[Message]:
    """Give what is on a topic."""
    return [message async for batch in world.queue.replay(topic) for message in batch]


async def handled(world: World) -> list[LetterHandled]:
    said = [CODEC.command(message.value) for message in await messages(world, world.topics.deadletter.name)]
    return [one for one in said if isinstance(one, LetterHandled)]


async def test_a_letter_of_a_call_shows_where_it_came_from_why_and_which_call_it_is(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P76"""
    await bury(world, RUN_TOOL)
    (listed,) = (await client.get(URL)).json()["letters"]
    assert (await client.get(f"{URL}/0-0")).json() == listed
    assert listed == {
        "id": "0-0",
        "state": "new",
        "at": NOW,
        "topic": POOL,
        "partition": 3,
        "offset": 17,
        "key": CALL,
        "error": "down",
        "bytes": len(CODEC.encode(RUN_TOOL)),
        "type": "RunTool",
        "session": SESSION,
        "run_id": RUN,
        "call_id": CALL,
        "tool": "weather",
        "pool": "default",
        "effect": "write",
        "input": {"city": "Oslo"},
    }


async def test_what_is_no_call_shows_what_is_known_of_it(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P76"""
    await bury(world, SAY, world.topics.requests.name, SESSION)
    await bury(world, b"noise")
    noise, said = (await client.get(URL)).json()["letters"]
    assert (said["type"], said["session"], said["run_id"]) == ("Say", SESSION, RUN)
    assert said.keys().isdisjoint({"tool", "input", "obstacle"})
    assert noise.keys().isdisjoint({"type", "session"})
    assert (noise["bytes"], "raw=true" in noise["obstacle"]) == (5, True)


async def test_a_letter_of_what_was_never_on_a_topic_has_no_place_there(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P76"""
    letter = DeadLetter(POOL, -1, -1, CALL, CODEC.encode(RUN_TOOL), "its worker was lost", NOW)
    await world.announce(world.topics.deadletter.name, POOL, letter)
    assert (await client.get(f"{URL}/0-0")).json().keys().isdisjoint({"partition", "offset"})


async def test_a_large_input_is_shown_with_its_letter_alone(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P76"""
    for size in (4_096, 4_097):
        text = "x" * (size - len('{"text":""}'))
        await bury(world, replace(RUN_TOOL, input=Json(f'{{"text":"{text}"}}')))
    larger, fits = (await client.get(URL)).json()["letters"]
    assert len(fits["input"]["text"]) == 4_085
    assert "input" not in larger
    assert len((await client.get(f"{URL}/0-1")).json()["input"]["text"]) == 4_086


async def test_letters_are_listed_newest_first_by_state_and_in_pages(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P76 protocol:P77"""
    for _ in range(5):
        await bury(world, RUN_TOOL)
    await client.post(f"{URL}/0-1/drop")
    first = (await client.get(URL, params={"limit": 2})).json()
    second = (await client.get(URL, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in (*first["letters"], *second["letters"])] == ["0-4", "0-3", "0-2", "0-1", "0-0"]
    assert "next_cursor" not in second
    for state, names in (("new", ["0-4", "0-3", "0-2", "0-0"]), ("dropped", ["0-1"]), ("retried", [])):
        assert [one["id"] for one in (await client.get(URL, params={"state": state})).json()["letters"]] == names
    for query in ({"limit": 501}, {"limit": 0}, {"cursor": "x"}, {"state": "odd"}):
        assert (await client.get(URL, params=query)).json()["code"] == "invalid-query"


async def test_the_newest_letters_are_within_reach(world: World) -> None:
    """protocol:P76"""
    for _ in range(4):
        await bury(world, RUN_TOOL)
    size = len(CODEC.encode(RUN_TOOL)) + 1_000
    for limits in ({"letters_max": 2}, {"letters_bytes_max": 2 * size}):
        async with client_of(world.parts(**limits)) as client:
            assert [one["id"] for one in (await client.get(URL)).json()["letters"]] == ["0-3", "0-2"]
            assert (await client.get(f"{URL}/0-1")).json()["code"] == "unknown-letter"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/retry"), ("POST", "/drop")])
@pytest.mark.parametrize("name", ["0-1", "1-0", "x", "0-0x", "0-00"])
async def test_a_letter_that_is_not_there_is_not_found(
    world: World, client: httpx2.AsyncClient, method: str, path: str, name: str
) -> None:
    """protocol:P76"""
    await bury(world, RUN_TOOL)
    refused = await client.request(method, f"{URL}/{name}{path}")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-letter")


async def test_a_call_is_sent_again_by_its_key_as_one_that_is_run_again(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P77 protocol:P79"""
    await bury(world, replace(RUN_TOOL, redriven=True, dispatched_at=5), key="account")
    answer = await client.post(f"{URL}/0-0/retry")
    assert (answer.status_code, answer.json()) == (202, {"id": "0-0", "state": "retried"})
    (sent,) = await messages(world)
    assert sent.key == "account"
    assert CODEC.command(sent.value) == replace(RUN_TOOL, redriven=True, dispatched_at=NOW)
    assert await handled(world) == [LetterHandled(0, 0, "retried", NOW)]
    shown = (await client.get(f"{URL}/0-0")).json()
    assert (shown["state"], shown["handled_at"]) == ("retried", NOW)


async def test_a_call_that_is_run_again_is_another_delivery_whatever_the_clock_says(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P79"""
    await bury(world, replace(RUN_TOOL, redriven=True, dispatched_at=NOW))
    assert (await client.post(f"{URL}/0-0/retry")).status_code == 202
    (sent,) = await messages(world)
    assert CODEC.command(sent.value) == replace(RUN_TOOL, redriven=True, dispatched_at=NOW + 1)


async def test_what_is_no_call_is_sent_again_as_it_was(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P77"""
    await bury(world, SAY, world.topics.requests.name, SESSION)
    assert (await client.post(f"{URL}/0-0/retry")).status_code == 202
    (sent,) = await messages(world, world.topics.requests.name)
    assert (sent.key, sent.value) == (SESSION, CODEC.encode(SAY))


@pytest.mark.parametrize(("done", "other", "state"), [("retry", "drop", "retried"), ("drop", "retry", "dropped")])
async def test_a_letter_is_dealt_with_once(
    world: World, client: httpx2.AsyncClient, done: str, other: str, state: str
) -> None:
    """protocol:P77"""
    await bury(world, RUN_TOOL)
    first, again = [await client.post(f"{URL}/0-0/{done}") for _ in range(2)]
    refused = await client.post(f"{URL}/0-0/{other}")
    assert first.json() == again.json() == {"id": "0-0", "state": state}
    assert [one.headers.get("idempotency-replayed") for one in (first, again)] == [None, "true"]
    assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "letter-handled", state)
    assert len(await messages(world)) == (1 if done == "retry" else 0)
    assert [one.how for one in await handled(world)] == [state]


async def test_what_was_done_first_is_what_was_done(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P77"""
    await bury(world, RUN_TOOL)
    for how in ("dropped", "retried"):
        await world.announce(world.topics.deadletter.name, POOL, LetterHandled(0, 0, how, NOW))
    await world.announce(world.topics.deadletter.name, POOL, LetterHandled(0, 9, "dropped", NOW))
    await world.queue.publish(world.topics.deadletter.name, POOL, b"noise")
    assert [one["state"] for one in (await client.get(URL)).json()["letters"]] == ["dropped"]


async def test_a_letter_that_came_a_moment_ago_and_one_that_was_dealt_with_elsewhere_are_found_in_time(
    world: World,
) -> None:
    """protocol:P77"""
    now = [NOW]
    parts = replace(world.parts(), clock=lambda: now[0])
    await bury(world, RUN_TOOL)
    async with client_of(parts) as client:
        assert len((await client.get(URL)).json()["letters"]) == 1
        await bury(world, RUN_TOOL)
        assert (await client.post(f"{URL}/0-1/drop")).status_code == 202
        await world.announce(world.topics.deadletter.name, POOL, LetterHandled(0, 0, "dropped", NOW))
        now[0] += 2_000_000
        assert (await client.post(f"{URL}/0-0/retry")).json()["code"] == "letter-handled"
    assert await messages(world) == []


CUT = "it is not a call (the first 800000 of 900000 bytes are kept)"


@pytest.mark.parametrize(
    ("said", "topic", "error", "why"),
    [
        (replace(RUN_TOOL, effect="once"), POOL, "unknown", "never started again"),
        (RUN_TOOL, "agent.tools.", "down", "nobody takes"),
        (RUN_TOOL, "agent.control.default", "down", "nobody takes"),
        (RUN_TOOL, "agent.sessions", "down", "nobody takes"),
        (RUN_TOOL, "agent.session.ses_1", "down", "nobody takes"),
        (RUN_TOOL, "another.tools.default", "down", "nobody takes"),
        (RUN_TOOL, "agent.deadletter", "down", "nobody takes"),
        (b"\xc3\x01 and so on", POOL, CUT, "too large"),
        (RUN_TOOL, "agent.tools.gone", "down", "is not there"),
    ],
)
async def test_a_letter_that_must_not_be_sent_again_is_refused_and_stays(
    world: World, client: httpx2.AsyncClient, *, said: Command | bytes, topic: str, error: str, why: str
) -> None:
    """protocol:P78"""
    await bury(world, said, topic, error=error)
    shown = (await client.get(f"{URL}/0-0")).json()
    for query in ({}, {"raw": "true"}):
        refused = await client.post(f"{URL}/0-0/retry", params=query)
        assert (refused.status_code, refused.json()["code"]) == (409, "letter-not-retryable")
        assert why in refused.json()["detail"]
    if topic != "agent.tools.gone":  # whether a topic is there is found out by sending
        assert why in shown["obstacle"]
    assert await messages(world) == []
    assert await handled(world) == []


@pytest.mark.parametrize("said", [b"noise", CODEC.encode(Heartbeat(SESSION, CALL, "lease", "worker")), b""])
async def test_what_cannot_be_read_is_sent_again_as_it_is_to_who_says_so(
    world: World, client: httpx2.AsyncClient, said: bytes
) -> None:
    """protocol:P78"""
    await bury(world, said)
    for raw in ("", "?raw=false"):
        refused = await client.post(f"{URL}/0-0/retry{raw}")
        assert (refused.status_code, refused.json()["code"]) == (409, "letter-not-retryable")
    assert (await client.post(f"{URL}/0-0/retry?raw=perhaps")).json()["code"] == "invalid-query"
    assert (await client.post(f"{URL}/0-0/retry?raw=true")).status_code == 202
    (sent,) = await messages(world)
    assert (sent.key, sent.value) == (CALL, said)


async def test_a_call_that_can_be_read_is_run_again_as_one_whatever_is_asked(
    world: World, client: httpx2.AsyncClient
) -> None:
    """protocol:P79"""
    await bury(world, RUN_TOOL)
    assert (await client.post(f"{URL}/0-0/retry?raw=true")).status_code == 202
    (sent,) = await messages(world)
    assert CODEC.command(sent.value) == replace(RUN_TOOL, redriven=True, dispatched_at=NOW)


async def test_a_misspelt_member_is_refused(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P26"""
    await bury(world, RUN_TOOL)
    assert (await client.post(f"{URL}/0-0/retry", json={"raw": True})).json()["code"] == "invalid-body"
    assert await messages(world) == []


def test_what_a_letterbox_holds_is_bounded_also_when_one_letter_is_larger_than_all_may_be() -> None:
    box = Letterbox(replace(Limits(), letters_bytes_max=2_000))
    for offset in range(3):
        value = b"x" * (5_000 if offset == 1 else 10)
        box.take(Message("", 0, offset, "", b""), DeadLetter(POOL, 0, 0, "", value, "", NOW))
    assert [letter.name for letter in box.page(state=None, limit=9, after=None)[0]] == ["0-2"]
