"""A dead letter is run again by processes that knew nothing of the call, with the key that it had."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.client import WAIT_SECONDS, Viewer, ask, get, viewing
from tests.chaos.executions import executions
from tests.chaos.processes import Stage
from tests.chaos.tool_app import TRIES
from tests.history.folding import Event

LOOK_SECONDS = 0.05


async def failed(url: str) -> str:
    """Call by hand a tool that fails; give the session."""
    async with asyncio.timeout(WAIT_SECONDS):
        while "fails" not in [tool["name"] for tool in (await get(url, "/v1/tools"))["tools"]]:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    called = await ask(url, "/v1/tools/fails/calls", {"input": {"number": 1, "seconds": 0, "text": "x"}})
    session = str(called["id"])
    async with viewing(url, session) as viewer:
        await viewer.until_type("run_failed")
    return session


async def letters(url: str, count: int) -> list[Event]:
    """Wait for so many letters, newest first."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found: list[Event] = (await get(url, "/v1/deadletters"))["letters"]
            if len(found) >= count:
                return found
            await asyncio.sleep(LOOK_SECONDS)


def held(stage: Stage, viewer: Viewer, found: list[Event], session: str) -> None:
    """Check that the call was run twice as one, and that its session was told of both ends."""
    begun = [one for one in executions(stage.journal) if one.what == "begun"]
    assert len(begun) == 2 * TRIES
    assert len({(one.call, one.key) for one in begun}) == 1
    ends = [event for event in viewer.events if event["type"] in ("tool_result", "tool_result_late")]
    assert [(event["type"], event["status"]) for event in ends] == [
        ("tool_result", "error"),
        ("tool_result_late", "error"),
    ]
    assert [(one["state"], one["session"], one["call_id"]) for one in found] == [
        ("new", session, begun[0].call),
        ("retried", session, begun[0].call),
    ]


async def test_a_letter_is_run_again_after_the_one_process_was_started_anew(tools: Stage) -> None:
    dev = await tools.dev()
    session = await failed(dev.url)
    (letter,) = await letters(dev.url, 1)
    assert await dev.stop() == 0  # killed, it might not have said yet that it is done with the call
    dev = await tools.dev(dev.port)
    await ask(dev.url, f"/v1/deadletters/{letter['id']}/retry", {})
    async with viewing(dev.url, session) as viewer:
        await viewer.until_type("tool_result_late")
    held(tools, viewer, await letters(dev.url, 2), session)


@pytest.mark.kafka
async def test_a_letter_is_run_again_by_another_worker_for_another_owner(pool: Stage) -> None:
    roles = await pool.roles()
    session = await failed(roles[2].url)
    (letter,) = await letters(roles[2].url, 1)
    for process in roles:
        assert await process.stop() == 0
    _, _, gateway = await pool.roles()
    await ask(gateway.url, f"/v1/deadletters/{letter['id']}/retry", {})
    async with viewing(gateway.url, session) as viewer:
        await viewer.until_type("tool_result_late")
    held(pool, viewer, await letters(gateway.url, 2), session)
