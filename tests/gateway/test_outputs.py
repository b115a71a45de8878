"""What was too large for an event is given whole to who names it, and never as a page of ours."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from playhead.adapters.archive import MemoryArchive
from playhead.ids import SessionId

from tests.gateway.support import World, client_of

SESSION = SessionId("ses_" + "a" * 26)
NAME = "0" * 64


async def test_an_output_is_given_whole_and_as_nothing_that_a_browser_runs(world: World) -> None:
    """protocol:P68 protocol:P29"""
    archive = MemoryArchive()
    await archive.put(SESSION, NAME, b"<script>alert(1)</script>")
    async with client_of(replace(world.parts(), archive=archive)) as client:
        answer = await client.get(f"/v1/sessions/{SESSION}/outputs/{NAME}")
        assert (answer.status_code, answer.content) == (200, b"<script>alert(1)</script>")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-disposition"] == f'attachment; filename="{NAME}"'
        other = await client.get(f"/v1/sessions/ses_{'b' * 26}/outputs/{NAME}")
        assert (other.status_code, other.json()["code"]) == (404, "unknown-output")


@pytest.mark.parametrize("name", [NAME, "x", "..", "%2e%2e", "a%2fb", "a%00b", "x" * 200])
async def test_what_there_is_not_is_not_found(client: httpx2.AsyncClient, name: str) -> None:
    """protocol:P68"""
    answer = await client.get(f"/v1/sessions/{SESSION}/outputs/{name}")
    assert answer.status_code == 404


async def test_what_is_larger_than_the_limit_is_refused(world: World) -> None:
    archive = MemoryArchive()
    await archive.put(SESSION, NAME, b"12345")
    async with client_of(replace(world.parts(output_bytes_max=4), archive=archive)) as client:
        answer = await client.get(f"/v1/sessions/{SESSION}/outputs/{NAME}")
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
