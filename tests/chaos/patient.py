"""A client that asks again, with the same key, until somebody lives long enough to answer; and what it asks for.

What it asks for is everything by which a gateway leaves something behind.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx2

from tests.chaos.client import RETRY_SECONDS, WAIT_SECONDS
from tests.chaos.executions import executions
from tests.chaos.processes import Stage
from tests.chaos.tool_app import TRIES
from tests.history.folding import ENDS, Event

__all__ = ["Patient"]

NOT_YET = (404, 503)
"""Who has just been started does not know yet what others announced."""


class Patient:
    """Someone who has a key, and time."""

    def __init__(self, stage: Stage, key: str) -> None:
        self.url = ""
        self._stage = stage
        self._headers = {"Authorization": f"Bearer {key}"}

    async def promised(self, name: str) -> str:
        """Ask for what a tool promises, bring it, and give the session.

        Where the gateway's death is also the worker's, nobody may know whether anything was promised.
        """
        begun = await self.surely("POST", "/v1/sessions", {"input": "A promise, please."}, f"{name}-promise")
        session = str(begun["id"])
        came = await self.until(session, "tool_pending", "tool_result")
        call = came["call_id"]
        if came["type"] == "tool_pending":
            (ticket,) = {one.ticket for one in executions(self._stage.journal) if one.call == call}
            await self.surely("POST", f"/v1/calls/{call}/result", {"output": name}, ticket=ticket)
        else:
            assert came["status"] == "unknown"
        assert (await self.until(session, *ENDS))["type"] == "run_completed"
        return session

    async def failed(self, name: str) -> str:
        """Call a tool that fails, have it run again from its dead letter, and give the session."""
        given = {"input": {"number": 1, "seconds": 0, "text": name}}
        session = str((await self.surely("POST", "/v1/tools/fails/calls", given, f"{name}-fails"))["id"])
        call = (await self.until(session, "tool_result"))["call_id"]
        async with asyncio.timeout(WAIT_SECONDS):
            while not (letters := await self._letters(call)):  # noqa: ASYNC110 - a letter is written after the end
                await asyncio.sleep(RETRY_SECONDS)
        await self.surely("POST", f"/v1/deadletters/{letters[0]}/retry", {})
        await self.until(session, "tool_result_late")
        assert len([one for one in executions(self._stage.journal) if (one.what, one.call) == ("begun", call)]) > TRIES
        return session

    async def log_of(self, session: str) -> list[Event]:
        """Read a session's log: it is short."""
        return (await self.surely("GET", f"/v1/sessions/{session}/events"))["events"]

    async def _letters(self, call: str) -> list[str]:
        """Give the names of the letters about a call."""
        letters = (await self.surely("GET", "/v1/deadletters"))["letters"]
        return [letter["id"] for letter in letters if letter.get("call_id") == call]

    async def until(self, session: str, *kinds: str) -> Event:
        """Wait for an event of one of these types."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                page = await self.surely("GET", f"/v1/sessions/{session}/events?types={','.join(kinds)}")
                if page["events"]:
                    return cast("Event", page["events"][0])
                await asyncio.sleep(RETRY_SECONDS)

    async def surely(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str = "", ticket: str = ""
    ) -> dict[str, Any]:
        """Ask until there is an answer."""
        headers = {"Authorization": f"Bearer {ticket}"} if ticket else self._headers
        headers |= {"Idempotency-Key": key} if key else {}
        async with (
            asyncio.timeout(WAIT_SECONDS),
            httpx2.AsyncClient(base_url=self.url, verify=False, trust_env=False) as client,
        ):
            while True:
                try:
                    response = await client.request(method, path, json=body, headers=headers)
                    if response.status_code not in NOT_YET:
                        assert response.is_success, (path, response.status_code, response.text)
                        return cast("dict[str, Any]", response.json())
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(RETRY_SECONDS)
