"""What strangers send: refused early, with a problem that says what to change, and never a look inside."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import httpx2
import orjson
import pytest
from playhead.errors import Unavailable
from playhead.ids import SessionId
from playhead.log import SessionLog

from tests.gateway.support import OWNED, SSE, STARTED, World, client_of

JSON = {"Content-Type": "application/json"}


async def pieces(size: int) -> AsyncGenerator[bytes, None]:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.fixture
async def url(world: World) -> str:
    return f"/v1/sessions/{await world.session_with(STARTED, OWNED)}/messages"


async def test_a_body_over_the_limit_is_refused_with_or_without_a_length(client: httpx2.AsyncClient, url: str) -> None:
    """protocol:P26"""
    told = await client.post(url, content=b" " * 1_100_000, headers=JSON)
    untold = await client.post(url, content=pieces(1_100_000), headers=JSON)
    assert "content-length" not in untold.request.headers
    for answer in (told, untold):
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_message_that_no_record_could_hold_is_refused(client: httpx2.AsyncClient, url: str) -> None:
    answer = await client.post(url, json={"content": "x" * 900_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize("body", [b"{", b"nul", b'{"content": "\xff"}', b'{"content": NaN}', b'{"content": "\\ud800"}'])
async def test_what_is_not_json_is_a_bad_request(client: httpx2.AsyncClient, url: str, body: bytes) -> None:
    """protocol:P26"""
    answer = await client.post(url, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-json")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/content"),
        ({"content": ""}, "/content"),
        ({"content": None}, "/content"),
        ({"content": 3}, "/content"),
        ({"content": []}, "/content"),
        ({"content": ["text"]}, "/content"),
        ({"content": [{"type": 3}]}, "/content"),
        ({"content": "hi", "mode": "shout"}, "/mode"),
        ({"content": "hi", "contnet": "hi"}, "/contnet"),
        ([], ""),
        ("hi", ""),
    ],
)
async def test_a_body_of_the_wrong_shape_is_refused_with_a_pointer_to_what_is_wrong(
    client: httpx2.AsyncClient, url: str, body: object, pointer: str
) -> None:
    """protocol:P26"""
    answer = await client.post(url, content=orjson.dumps(body), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("body", [{"agent": ""}, {"metadata": []}, {"input": ""}, {"metadata": {"x": "y" * 70_000}}])
async def test_a_session_is_not_begun_with_what_is_wrong(
    world: World, client: httpx2.AsyncClient, body: object
) -> None:
    answer = await client.post("/v1/sessions", json=body)
    assert answer.status_code in (413, 422)
    assert await world.published() == []


async def test_json_may_be_nested_only_so_deep(client: httpx2.AsyncClient, url: str) -> None:
    """protocol:P26"""
    for depth, status in ((60, 202), (70, 422), (500, 422)):
        nested = '{"a":' * depth + "1" + "}" * depth
        body = f'{{"content": [{{"type": "x", "y": {nested}}}]}}'
        assert (await client.post(url, content=body, headers=JSON)).status_code == status


async def test_only_plain_json_is_read(client: httpx2.AsyncClient, url: str) -> None:
    """protocol:P26"""
    form = await client.post(url, data={"content": "hi"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported-media-type")
    packed = await client.post(url, content=b"x", headers={**JSON, "Content-Encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"]) == (415, "unsupported-encoding")
    other = await client.post(url, content=b'{"content":"hi"}', headers={"Content-Type": "application/vnd.x+json"})
    assert other.status_code == 202


async def test_unknown_routes_and_methods_are_problems_too(client: httpx2.AsyncClient) -> None:
    """protocol:P27"""
    missing = await client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
    wrong = await client.delete("/v1/sessions")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert "GET" in wrong.headers["allow"]
    preflight = await client.options("/v1/sessions", headers={"Origin": "https://evil.example"})
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers
    for answer in (missing, wrong, preflight):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json().keys() >= {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=99999",
        "limit=\u0663",
        "types=a%0Ab",
        "types=Text",
        "after=x",
        "after=-1",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(world: World, client: httpx2.AsyncClient, query: str) -> None:
    session = await world.session_with(STARTED)
    answer = await client.get(f"/v1/sessions/{session}/events?{query}")
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid-query", "invalid-cursor")


class Broken:
    """A log whose every answer is the same error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, _: str) -> object:
        def refuse(*_: object, **__: object) -> object:
            raise self.error

        return refuse


def broken(error: Exception) -> SessionLog:
    return Broken(error)  # pyright: ignore[reportReturnType] - a log in name only


async def test_a_log_that_cannot_be_reached_is_unavailable_but_never_503_to_an_event_stream(world: World) -> None:
    """protocol:P39"""
    parts = replace(world.parts(), log=broken(Unavailable("the broker at 10.0.0.1 is gone")))
    session = SessionId("ses_" + "a" * 26)
    async with client_of(parts) as client:
        for answer in (
            await client.get(f"/v1/sessions/{session}"),
            await client.get(f"/v1/sessions/{session}/events"),
            await client.post("/v1/sessions", json={}),
            await client.post("/v1/stream", json={"input": "hi"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"].isdigit()
            assert "10.0.0.1" not in answer.text
        stream = await client.get(f"/v1/sessions/{session}/events", headers=SSE)
        assert stream.status_code == 200
        assert stream.text.startswith("event: draining\nretry: ")
        assert "id:" not in stream.text


async def test_an_error_of_ours_is_a_problem_without_a_look_inside(world: World) -> None:
    parts = replace(world.parts(), log=broken(RuntimeError("secret")))
    async with client_of(parts) as client:
        answer = await client.get(f"/v1/sessions/ses_{'a' * 26}")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "secret" not in answer.text


async def test_a_local_gateway_answers_only_to_its_own_name(world: World) -> None:
    async with client_of(world.parts(allowed_hosts=("127.0.0.1", "localhost"))) as client:
        for host, status in (("127.0.0.1:4141", 200), ("localhost", 200), ("evil.example", 421), ("", 421)):
            assert (await client.get("/livez", headers={"Host": host})).status_code == status
        for origin, status in (("http://localhost:4141", 200), ("https://evil.example", 403), ("null", 403)):
            headers = {"Host": "localhost:4141", "Origin": origin}
            assert (await client.get("/livez", headers=headers)).status_code == status


async def test_only_configured_origins_may_read_from_a_browser(world: World) -> None:
    """protocol:P30"""
    session = await world.session_with(STARTED)
    async with client_of(world.parts(allowed_origins=("https://app.example",))) as client:
        asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}
        yes = await client.options(f"/v1/sessions/{session}/events", headers={"Origin": "https://app.example", **asks})
        assert yes.headers["access-control-allow-origin"] == "https://app.example"
        no = await client.get(f"/v1/sessions/{session}/events", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in no.headers
