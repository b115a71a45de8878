"""Results that come from outside: who may give one, and what the session is told of it."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from playhead.commands import Command, ReportResult
from playhead.errors import Invalid
from playhead.events import Json
from playhead.ids import CallId, SessionId
from playhead.leases import is_lease, lease_of, read_ticket

from tests.gateway.support import CODEC, LEASE_KEY, World, client_of

SESSION = SessionId("ses_" + "a" * 26)
CALL = CallId("call_" + "b" * 26)
LEASE = lease_of(LEASE_KEY, CALL)
TICKET = f"{SESSION}.{CALL}.{LEASE}"
URL = f"/v1/calls/{CALL}/result"


def bearer(ticket: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {ticket}"}


async def reported(world: World) -> list[tuple[str, Command]]:
    """Give what was said to sessions of their calls, each with its key."""
    found: list[tuple[str, Command]] = []
    async for batch in world.queue.replay(world.topics.results.name):
        found.extend((message.key, CODEC.command(message.value)) for message in batch)
    return found


async def test_who_has_the_ticket_of_a_call_gives_its_result(world: World, client: httpx2.AsyncClient) -> None:
    """protocol:P66"""
    answer = await client.post(URL, json={"output": {"paid": True}}, headers=bearer(TICKET))
    assert (answer.status_code, answer.json()) == (202, {"call_id": CALL})
    report = ReportResult(f"delivered:{CALL}", SESSION, CALL, LEASE, "ok", Json('{"paid":true}'), 0)
    assert await reported(world) == [(SESSION, report)]


@pytest.mark.parametrize(
    ("body", "status", "output"),
    [
        ({"output": None}, "ok", "null"),
        ({"output": [1]}, "ok", "[1]"),
        ({"error": "the bank said no"}, "error", '{"type":"ToolFailed","message":"the bank said no"}'),
    ],
)
async def test_a_result_is_any_json_or_an_error(
    world: World, client: httpx2.AsyncClient, body: dict[str, object], status: str, output: str
) -> None:
    """protocol:P66"""
    assert (await client.post(URL, json=body, headers=bearer(TICKET))).status_code == 202
    ((_, report),) = await reported(world)
    assert isinstance(report, ReportResult)
    assert (report.status, report.output) == (status, output)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid-body"),
        ({"output": 1, "error": "both"}, "invalid-body"),
        ({"error": None}, "invalid-body"),
        ({"error": ""}, "invalid-body"),
        ({"error": "x" * 2_001}, "invalid-body"),
        ({"error": {"code": 1}}, "invalid-body"),
        ({"output": 1, "status": "ok"}, "invalid-body"),
        ({"output": "x" * 800_000}, "too-large"),
    ],
)
async def test_what_is_no_result_is_refused(
    world: World, client: httpx2.AsyncClient, body: dict[str, object], code: str
) -> None:
    """protocol:P66"""
    answer = await client.post(URL, json=body, headers=bearer(TICKET))
    assert answer.json()["code"] == code
    assert await reported(world) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TICKET},
        {"Authorization": f"Basic {TICKET}"},
        {"Authorization": "Bearer"},
        bearer("nonsense"),
        bearer(f"{SESSION}.{CALL}"),
        bearer(f"{SESSION}.{CALL}.{LEASE}x"),
        bearer(f"{SESSION}.{CALL}.{LEASE[:-1]}"),
        bearer(f"ses_x.{CALL}.{LEASE}"),
        bearer(f"{SESSION}.call_{'c' * 26}.{lease_of(LEASE_KEY, CallId('call_' + 'c' * 26))}"),
        {"Authorization": f"Bearer {SESSION}.{CALL}.\u00fc".encode("latin-1")},
    ],
)
async def test_who_has_another_ticket_or_none_is_refused_whatever_is_sent(
    world: World, client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    """protocol:P66"""
    answers = [await client.post(URL, content=body, headers=headers) for body in (b'{"output":1}', b"{")]
    shown = {(answer.status_code, answer.headers["www-authenticate"], answer.text) for answer in answers}
    shown.add((401, "Bearer", (await client.post(URL, headers=bearer("other"))).text))
    assert len(shown) == 1
    assert answers[0].json()["code"] == "invalid-ticket"
    assert LEASE not in answers[0].text
    assert await reported(world) == []


async def test_a_gateway_without_the_key_says_what_it_lacks(world: World) -> None:
    """protocol:P67"""
    async with client_of(replace(world.parts(), lease_key=None)) as client:
        answer = await client.post(URL, json={"output": 1}, headers=bearer(TICKET))
    assert (answer.status_code, answer.json()["code"]) == (503, "deliveries-not-configured")
    assert "PLAYHEAD_LEASE_SECRET" in answer.json()["detail"]


def test_a_ticket_is_read_as_it_was_made_and_what_is_none_is_not_shown_whole() -> None:
    assert read_ticket(TICKET) == (SESSION, CALL, LEASE)
    assert is_lease(LEASE_KEY, CALL, LEASE)
    assert not is_lease(b"another key", CALL, LEASE)
    assert not is_lease(LEASE_KEY, CALL, "\ud800")
    with pytest.raises(Invalid, match="no ticket") as refused:
        read_ticket(f"{LEASE}{LEASE}")
    assert LEASE not in str(refused.value)
