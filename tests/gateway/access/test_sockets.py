"""Who asks at a WebSocket's handshake: the same credentials, and a cookie from pages of ours only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest
from playhead.ids import SessionId
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.file import AccessFile
from websockets.exceptions import InvalidStatus

from tests.gateway.access.support import ENVIRONMENT, a_key, access_file, key_table
from tests.gateway.support import NOW, OWNED, STARTED, Served, a_world, serving
from tests.gateway.test_sockets import heard, talking

CI, ACME = a_key(1), a_key(2)
APP = "https://app.example"


@dataclass
class There:
    served: Served
    session: SessionId


@pytest.fixture
async def there(tmp_path: Path) -> AsyncGenerator[There, None]:
    world = await a_world()
    path = access_file(tmp_path, key_table(CI), key_table(ACME, more='tenant = "acme"'), top=f'origins = ["{APP}"]')
    authenticate = Authenticator(AccessFile(path, ENVIRONMENT), lambda: NOW)
    session = await world.session_with(STARTED, OWNED)
    async with serving(replace(world.parts(), authenticate=authenticate)) as served:
        yield There(served, session)


async def refusal(there: There, query: str = "", **headers: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with talking(there.served, there.session, query, additional_headers=headers):
            pass
    response = refused.value.response
    return response.status_code, orjson.loads(response.body or b"{}")["code"]


async def test_who_sends_nothing_or_the_wrong_thing_gets_no_socket(there: There) -> None:
    assert await refusal(there) == (401, "unauthenticated")
    assert await refusal(there, Authorization="Bearer phk_wrong") == (401, "unauthenticated")
    assert await refusal(there, "?ticket=wrong") == (401, "unauthenticated")
    assert await refusal(there, Authorization=f"Bearer {ACME.text}") == (404, "unknown-session")


async def test_a_key_opens_one(there: There) -> None:
    headers = {"Authorization": f"Bearer {CI.text}"}
    async with talking(there.served, there.session, additional_headers=headers) as socket:
        assert (await heard(socket))["event"] == "ready"


async def test_a_cookie_opens_one_for_pages_of_ours_only(there: There) -> None:
    """A browser sends it along for any page: what is opened is a way to write, so it counts as writing."""
    made = await there.served.client.post("/v1/auth/cookie", headers={"X-API-Key": CI.text})
    cookie = made.headers["set-cookie"].partition(";")[0]
    assert await refusal(there, Cookie=cookie) == (403, "origin-not-allowed")
    assert await refusal(there, Cookie=cookie, Origin="https://evil.example") == (403, "origin-not-allowed")
    for origin in (APP, f"http://{there.served.address}"):
        headers = {"Cookie": cookie, "Origin": origin}
        async with talking(there.served, there.session, additional_headers=headers) as socket:
            assert (await heard(socket))["event"] == "ready"


async def test_a_ticket_opens_one_to_listen_and_not_to_talk(there: There) -> None:
    url = f"/v1/sessions/{there.session}/ticket"
    ticket = (await there.served.client.post(url, headers={"X-API-Key": CI.text})).json()["ticket"]
    async with talking(there.served, there.session, f"?ticket={ticket}&after=2") as socket:
        assert (await heard(socket))["event"] == "ready"
        await socket.send(orjson.dumps({"type": "message", "ref": "1", "content": "hi"}).decode())
        answer = await heard(socket)
        assert "missing-scope" in orjson.dumps(answer).decode()
