"""Who asks, through the HTTP door: each credential, their order, and what a browser is told and may send by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playhead.ids import SessionId
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.file import AccessFile
from playhead_gateway.app import create_app
from playhead_gateway.quotas import Quotas
from starlette.requests import Request

from tests.gateway.access.issuer import key_server
from tests.gateway.access.support import (
    ENVIRONMENT,
    SECONDS,
    Signer,
    a_key,
    access_file,
    authenticator,
    issuer_table,
    key_table,
)
from tests.gateway.support import NOW, OWNED, STARTED, World, a_world

CI, OPS, ACME, OLD = a_key(1), a_key(2), a_key(3), a_key(4)
APP = "https://app.example"
HERE = "http://gateway"
OPENAI = ("/v1/responses", "/v1/models")
"""Routes that say their errors as that protocol does."""
TABLES = (
    key_table(CI),
    key_table(OPS, name="ops", scopes='["admin", "sessions:read"]'),
    key_table(ACME, name="acme ci", more='tenant = "acme"'),
    key_table(OLD, name="old", more="expires_at = 2020-01-01T00:00:00Z"),
)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@asynccontextmanager
async def door(
    world: World, authenticate: Authenticator, base_url: str = HERE
) -> AsyncGenerator[httpx2.AsyncClient, None]:
    app = create_app(replace(world.parts(), authenticate=authenticate))
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=base_url) as client,
    ):
        yield client


@pytest.fixture
async def world() -> World:
    return await a_world()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return access_file(tmp_path, *TABLES, top=f'origins = ["{APP}"]')


@pytest.fixture
async def client(world: World, path: Path) -> AsyncGenerator[httpx2.AsyncClient, None]:
    async with door(world, authenticator(path)) as client:
        yield client


@pytest.fixture
async def session(world: World) -> SessionId:
    return await world.session_with(STARTED, OWNED)


def filled(path: str, session: str) -> str:
    """Put something that could be there into a path's places."""
    return re.sub(r"\{\w+\}", "call_" + "c" * 26, path.replace("{session}", session))


async def test_every_route_of_the_document_refuses_who_sends_nothing(
    client: httpx2.AsyncClient, session: SessionId
) -> None:
    """protocol:P87"""
    document = (await client.get("/openapi.json")).json()
    asked = 0
    for place, methods in document["paths"].items():
        for method in methods:
            answer = await client.request(method.upper(), filled(place, session))
            if place == "/v1/calls/{call_id}/result":  # it has tickets of its own, and needs a secret to check them
                assert (answer.status_code, answer.json()["code"]) == (401, "invalid-ticket")
                continue
            assert answer.status_code == 401, (method, place)
            assert answer.headers["www-authenticate"] == 'Bearer realm="playhead"', (method, place)
            if place.startswith(OPENAI):
                assert answer.json()["error"]["code"] == "unauthenticated"
            elif method != "head":  # which has no body
                assert answer.headers["content-type"] == "application/problem+json", (method, place)
                assert answer.json()["code"] == "unauthenticated"
            asked += 1
    assert asked >= 15


@pytest.mark.parametrize("place", ["/agent/stream", "/agent/task", "/agent/task/{session}", "/metrics"])
async def test_what_is_not_in_the_document_is_not_open_either(
    client: httpx2.AsyncClient, session: SessionId, place: str
) -> None:
    for method in ("GET", "POST"):
        assert (await client.request(method, filled(place, session))).status_code in (401, 405)


@pytest.mark.parametrize("place", ["/livez", "/readyz", "/openapi.json"])
async def test_probes_and_the_document_are_open(client: httpx2.AsyncClient, place: str) -> None:
    """protocol:P87"""
    assert (await client.get(place)).status_code == 200


async def test_the_document_says_what_may_be_sent(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert {"bearer", "key", "cookie", "session ticket"} <= schemes.keys()
    assert {"session ticket": []} in document["paths"]["/v1/sessions/{session}/events"]["get"]["security"]
    assert {"session ticket": []} not in document["paths"]["/v1/sessions"]["get"]["security"]


@pytest.mark.parametrize("header", [bearer(CI.text), {"Authorization": f"bearer  {CI.text} "}, {"X-API-Key": CI.text}])
async def test_a_key_is_taken_in_either_header(client: httpx2.AsyncClient, header: dict[str, str]) -> None:
    """protocol:P87"""
    assert (await client.get("/v1/sessions", headers=header)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer")],
        [("Authorization", f"Basic {CI.text}")],
        [("Authorization", CI.text)],
        [("Authorization", f"Bearer {CI.text[:-1]}")],
        [("Authorization", f"Bearer {OLD.text}")],
        [("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")],
        [("X-API-Key", "")],
        [("X-API-Key", CI.text.upper())],
        [("Authorization", f"Bearer {CI.text}"), ("X-API-Key", CI.text)],
        [("Authorization", f"Bearer {CI.text}"), ("Authorization", f"Bearer {CI.text}")],
    ],
)
async def test_a_credential_that_is_not_good_is_refused_with_a_challenge(
    client: httpx2.AsyncClient, headers: list[tuple[str, str]]
) -> None:
    """protocol:P87"""
    answer = await client.get("/v1/sessions", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="playhead", error="invalid_token"'
    assert "phk_" not in answer.text


async def test_a_wrong_header_is_not_made_good_by_a_cookie_or_a_ticket(
    client: httpx2.AsyncClient, session: SessionId
) -> None:
    """protocol:P87"""
    cookie = await cookie_of(client)
    ticket = await ticket_of(client, session)
    url = f"/v1/sessions/{session}?ticket={ticket}"
    assert (await client.get(url, headers={"Cookie": cookie})).status_code == 200
    assert (await client.get(url, headers={"Cookie": cookie, **bearer("wrong")})).status_code == 401
    wrong = f"/v1/sessions/{session}?ticket=wrong"
    assert (await client.get(wrong, headers={"Cookie": cookie})).status_code == 401
    assert (await client.get(wrong, headers=bearer(CI.text))).status_code == 200


async def test_a_key_sees_what_is_its_tenants(world: World, client: httpx2.AsyncClient, session: SessionId) -> None:
    theirs = await world.session_with(replace(STARTED, tenant="acme"), OWNED)
    seen = {
        (name, one): (await client.get(f"/v1/sessions/{one}", headers=bearer(key.text))).status_code
        for name, key in (("ci", CI), ("acme", ACME), ("ops", OPS))
        for one in (session, theirs)
    }
    assert [where for where, status in seen.items() if status == 200] == [
        ("ci", session),
        ("acme", theirs),
        ("ops", session),
        ("ops", theirs),
    ]
    assert set(seen.values()) == {200, 404}


async def test_metrics_are_for_operators(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/metrics", headers=bearer(CI.text))).status_code == 403
    assert (await client.get("/metrics", headers=bearer(OPS.text))).status_code == 200


async def test_an_admin_of_a_tenant_sees_no_metrics(world: World, tmp_path: Path) -> None:
    path = access_file(tmp_path, key_table(ACME, scopes='["admin"]', more='tenant = "acme"'))
    async with door(world, authenticator(path)) as client:
        assert (await client.get("/metrics", headers=bearer(ACME.text))).status_code == 403


async def test_a_key_is_taken_back_and_another_given_without_a_restart(world: World, tmp_path: Path) -> None:
    path = access_file(tmp_path, key_table(CI))
    async with door(world, authenticator(path)) as client:
        cookie = await cookie_of(client)
        assert (await client.get("/v1/sessions", headers={"Cookie": cookie})).status_code == 200
        access_file(tmp_path, key_table(ACME))
        for header in (bearer(CI.text), {"Cookie": cookie}):
            assert (await client.get("/v1/sessions", headers=header)).status_code == 401
        assert (await client.get("/v1/sessions", headers=bearer(ACME.text))).status_code == 200
        access_file(tmp_path)
        assert (await client.get("/v1/sessions", headers=bearer(ACME.text))).status_code == 401


def break_off(path: Path) -> None:
    path.write_text("[[keys]")


@pytest.mark.parametrize("spoil", [break_off, Path.unlink])
async def test_a_file_that_cannot_be_used_any_more_changes_nothing_until_it_is_mended(
    world: World, tmp_path: Path, spoil: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    path = access_file(tmp_path, key_table(CI))
    async with door(world, authenticator(path)) as client:
        spoil(path)
        for _ in range(3):
            assert (await client.get("/v1/sessions", headers=bearer(CI.text))).status_code == 200
        assert "".join(capfd.readouterr()).count("cannot be used") == 1
        access_file(tmp_path, key_table(ACME))
        assert (await client.get("/v1/sessions", headers=bearer(CI.text))).status_code == 401


async def test_the_file_is_looked_at_now_and_then_and_not_for_each_request(world: World, tmp_path: Path) -> None:
    path, now = access_file(tmp_path, key_table(CI)), [0.0]
    file = AccessFile(path, ENVIRONMENT, lambda: now[0], check_seconds=2.0)
    async with door(world, Authenticator(file, lambda: NOW)) as client:
        access_file(tmp_path)
        now[0] = 1.9
        assert (await client.get("/v1/sessions", headers=bearer(CI.text))).status_code == 200
        now[0] = 2.0
        assert (await client.get("/v1/sessions", headers=bearer(CI.text))).status_code == 401


async def test_a_token_of_the_issuer_is_taken_and_says_the_tenant(world: World, tmp_path: Path) -> None:
    signer = Signer("ES256", "one")
    theirs = await world.session_with(replace(STARTED, tenant="acme"), OWNED)
    async with key_server(signer) as keys:
        path = access_file(tmp_path, issuer_table(keys.url, claims='tenant = "org"'))
        async with door(world, authenticator(path)) as client:
            for org, status in (("acme", 200), ("else", 404)):
                header = bearer(signer.token(org=org))
                assert (await client.get(f"/v1/sessions/{theirs}", headers=header)).status_code == status
            late = await client.get("/v1/sessions", headers=bearer(signer.token(org="acme", exp=SECONDS - 60)))
            assert (late.status_code, "expired" in late.json()["detail"]) == (401, True)
            keys.signers = []


async def test_an_issuer_that_cannot_be_reached_is_not_now_instead_of_never(world: World, tmp_path: Path) -> None:
    signer = Signer("ES256", "one")
    async with key_server(signer) as keys:
        keys.status = "500 Internal Server Error"
        async with door(world, authenticator(access_file(tmp_path, issuer_table(keys.url)))) as client:
            answer = await client.get("/v1/sessions", headers=bearer(signer.token()))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "retry-after" in answer.headers


async def ticket_of(client: httpx2.AsyncClient, session: str, key: str = CI.text) -> str:
    answer = await client.post(f"/v1/sessions/{session}/ticket", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return answer.json()["ticket"]


async def cookie_of(client: httpx2.AsyncClient, credential: str = CI.text) -> str:
    """Get a cookie, and give it as a header: the client's own jar would send it everywhere."""
    answer = await client.post("/v1/auth/cookie", headers=bearer(credential))
    assert answer.status_code == 200, answer.text
    client.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]


async def test_a_ticket_says_where_and_until_when(client: httpx2.AsyncClient, session: SessionId) -> None:
    answer = await client.post(f"/v1/sessions/{session}/ticket", headers=bearer(CI.text))
    shown = answer.json()
    assert shown["url"] == f"/v1/sessions/{session}/events?ticket={shown['ticket']}"
    assert shown["expires_at"] == NOW + 60_000_000
    assert answer.headers["cache-control"] == "no-store"
    events = await client.get(shown["url"])
    assert (events.status_code, len(events.json()["events"])) == (200, 2)


async def test_a_ticket_is_for_reading_one_session(
    world: World, client: httpx2.AsyncClient, session: SessionId
) -> None:
    """protocol:P88"""
    other = await world.session_with(STARTED, OWNED)
    query = {"ticket": await ticket_of(client, session)}
    assert (await client.get(f"/v1/sessions/{session}", params=query)).status_code == 200
    assert (await client.get(f"/v1/sessions/{other}", params=query)).status_code == 404
    assert (await client.get("/v1/sessions", params=query)).status_code == 403
    say = await client.post(f"/v1/sessions/{session}/messages", params=query, json={"content": "hi"})
    assert (say.status_code, say.json()["code"]) == (403, "missing-scope")
    again = await client.post(f"/v1/sessions/{session}/ticket", params=query)
    assert (again.status_code, again.json()["code"]) == (403, "credential-not-allowed")
    assert (await client.post("/v1/auth/cookie", params=query)).status_code == 403
    assert await world.published() == []


async def test_nobody_gets_a_ticket_to_what_he_may_not_see(client: httpx2.AsyncClient, session: SessionId) -> None:
    for key, status in ((ACME, 404), (CI, 200)):
        answer = await client.post(f"/v1/sessions/{session}/ticket", headers=bearer(key.text))
        assert answer.status_code == status


async def test_a_ticket_that_was_not_used_in_time_is_refused(world: World, path: Path, session: SessionId) -> None:
    now = [NOW]
    authenticate = Authenticator(AccessFile(path, ENVIRONMENT), lambda: now[0])
    async with door(world, authenticate) as client:
        ticket = await ticket_of(client, session)
        now[0] = NOW + 59_999_999
        assert (await client.get(f"/v1/sessions/{session}?ticket={ticket}")).status_code == 200
        now[0] = NOW + 60_000_000
        assert (await client.get(f"/v1/sessions/{session}?ticket={ticket}")).status_code == 401


async def test_another_gateway_with_the_same_secret_redeems_a_ticket_and_one_with_another_does_not(
    world: World, tmp_path: Path, session: SessionId
) -> None:
    ours, rotated, theirs = (tmp_path / name for name in ("ours", "rotated", "theirs"))
    for folder in (ours, rotated, theirs):
        folder.mkdir()
    first = access_file(ours, key_table(CI))
    second = access_file(rotated, key_table(CI), secrets='["env:OLD_SECRET", "env:SECRET"]')
    third = access_file(theirs, key_table(CI), secrets='["env:OLD_SECRET"]')
    async with door(world, authenticator(first)) as client:
        ticket = await ticket_of(client, session)
    for file, status in ((second, 200), (third, 401)):
        async with door(world, authenticator(file)) as client:
            assert (await client.get(f"/v1/sessions/{session}?ticket={ticket}")).status_code == status


async def test_a_gateway_without_a_secret_says_what_to_set(world: World, tmp_path: Path, session: SessionId) -> None:
    """protocol:P88"""
    async with door(world, authenticator(access_file(tmp_path, key_table(CI), secrets="[]"))) as client:
        for url in (f"/v1/sessions/{session}/ticket", "/v1/auth/cookie"):
            answer = await client.post(url, headers=bearer(CI.text))
            assert (answer.status_code, answer.json()["code"]) == (503, "signing-not-configured")
            assert "secrets" in answer.json()["detail"]


async def test_a_cookie_is_set_for_whom_a_header_names(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/auth/cookie", headers=bearer(ACME.text))
    assert answer.json() == {
        "name": "acme ci",
        "tenant": "acme",
        "scopes": ["sessions:read", "sessions:write"],
        "expires_at": NOW + 12 * 3600 * 1_000_000,
    }
    assert re.fullmatch(
        r"__Host-playhead=[\w.-]+; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure",
        answer.headers["set-cookie"],
    )


async def test_a_cookie_needs_no_tls_on_this_machine_and_is_plain_nowhere_else(world: World, path: Path) -> None:
    async with door(world, authenticator(path), "http://127.0.0.1:4141") as client:
        answer = await client.post("/v1/auth/cookie", headers=bearer(CI.text))
        assert answer.headers["set-cookie"].startswith("playhead=")
        assert "Secure" not in answer.headers["set-cookie"]
        cookie = await cookie_of(client)
        assert (await client.get("/v1/sessions", headers={"Cookie": cookie})).status_code == 200
    async with door(world, authenticator(path), "https://app.example") as client:
        assert (await client.get("/v1/sessions", headers={"Cookie": cookie})).status_code == 401


async def test_a_cookie_does_not_outlive_the_token_that_it_was_made_with(world: World, tmp_path: Path) -> None:
    signer, now = Signer("EdDSA", "one"), [NOW]
    async with key_server(signer) as keys:
        path = access_file(tmp_path, issuer_table(keys.url, "leeway_seconds = 0"))
        authenticate = Authenticator(AccessFile(path, ENVIRONMENT), lambda: now[0])
        async with door(world, authenticate) as client:
            token = signer.token(exp=SECONDS + 100)
            made = await client.post("/v1/auth/cookie", headers=bearer(token))
            assert made.json()["expires_at"] == NOW + 100_000_000
            assert "Max-Age=100;" in made.headers["set-cookie"]
            cookie = await cookie_of(client, token)
            now[0] = NOW + 99_000_000
            assert (await client.get("/v1/sessions", headers={"Cookie": cookie})).status_code == 200
            now[0] = NOW + 100_000_000
            assert (await client.get("/v1/sessions", headers={"Cookie": cookie})).status_code == 401


async def test_a_cookie_does_not_make_another_one(client: httpx2.AsyncClient) -> None:
    """protocol:P88"""
    headers = {"Cookie": await cookie_of(client), "Origin": APP}
    answer = await client.post("/v1/auth/cookie", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "credential-not-allowed")


async def test_a_cookie_is_taken_away(client: httpx2.AsyncClient) -> None:
    headers = {"Cookie": await cookie_of(client), "Origin": HERE}
    answer = await client.delete("/v1/auth/cookie", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["set-cookie"].startswith("__Host-playhead=; Path=/; Max-Age=0;")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (APP, 201),
        (HERE, 201),
        ("https://gateway", 201),  # a proxy ended TLS
        (None, 403),
        ("null", 403),
        ("https://evil.example", 403),
        ("https://app.example.evil.example", 403),
        ("http://app.example", 403),
        ("ftp://gateway", 403),
        ("https://[", 403),
    ],
)
async def test_a_cookie_counts_for_writing_from_pages_of_ours_only(
    world: World, client: httpx2.AsyncClient, origin: str | None, status: int
) -> None:
    """protocol:P88"""
    headers = {"Cookie": await cookie_of(client)} | ({} if origin is None else {"Origin": origin})
    answer = await client.post("/v1/sessions", json={"input": "hi"}, headers=headers)
    assert answer.status_code == status
    assert (await world.published() == []) is (status == 403)
    assert (await client.get("/v1/sessions", headers=headers)).status_code == 200


async def test_a_key_writes_from_anywhere(client: httpx2.AsyncClient) -> None:
    headers = {**bearer(CI.text), "Origin": "https://evil.example"}
    assert (await client.post("/v1/sessions", json={}, headers=headers)).status_code == 201


async def _preflight(client: httpx2.AsyncClient, origin: str) -> httpx2.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-api-key",
    }
    return await client.options("/v1/sessions", headers=headers)


async def test_pages_of_named_origins_may_call_with_credentials(client: httpx2.AsyncClient) -> None:
    preflight = await _preflight(client, APP)
    assert preflight.status_code == 200
    refused = await client.get("/v1/sessions", headers={"Origin": APP})
    assert refused.status_code == 401
    for answer in (preflight, refused):  # a page must be able to read why
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


async def test_pages_of_other_origins_are_told_nothing(client: httpx2.AsyncClient) -> None:
    preflight = await _preflight(client, "https://evil.example")
    assert preflight.status_code == 400
    answer = await client.get("/v1/sessions", headers={"Origin": "https://evil.example", **bearer(CI.text)})
    for one in (preflight, answer):
        assert "access-control-allow-origin" not in one.headers
        assert "Origin" in one.headers["vary"]


async def test_an_origin_is_let_in_and_out_without_a_restart(world: World, tmp_path: Path) -> None:
    path = access_file(tmp_path, key_table(CI))
    async with door(world, authenticator(path)) as client:
        for origins, allowed in ((f'origins = ["{APP}"]', True), ("", False)):
            access_file(tmp_path, key_table(CI), top=origins)
            await client.get("/v1/sessions", headers=bearer(CI.text))  # each request has the file looked at
            assert ("access-control-allow-origin" in (await _preflight(client, APP)).headers) is allowed


async def test_every_answer_tells_a_browser_what_not_to_do_with_it(client: httpx2.AsyncClient) -> None:
    for url in ("/livez", "/v1/sessions", "/nowhere", "/openapi.json"):
        headers = (await client.get(url)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "strict-transport-security" not in headers
        assert len(headers.get_list("x-content-type-options")) == 1


async def test_over_tls_a_browser_is_told_to_stay_there(world: World, path: Path) -> None:
    async with door(world, authenticator(path), "https://gateway") as client:
        assert (await client.get("/livez")).headers["strict-transport-security"] == "max-age=31536000"


async def test_agents_and_pools_of_a_key_go_before_its_tenants_and_an_empty_list_is_none(tmp_path: Path) -> None:
    limits = 'limits = { requests = "5/s" }'
    path = access_file(
        tmp_path,
        key_table(CI, more=f'tenant = "acme"\nagents = ["support"]\n{limits}'),
        key_table(OPS, more='tenant = "acme"\nagents = []'),
        key_table(ACME, more='tenant = "acme"'),
        key_table(OLD),
        '[tenants.acme]\nagents = ["sales", "support"]\npools = ["default"]\nlimits = { streams = 9 }',
    )
    authenticate = authenticator(path)
    found: list[Any] = [await authenticate(_request(key.text)) for key in (CI, OPS, ACME, OLD)]
    assert [one.agents for one in found] == [("support",), (), ("sales", "support"), ("*",)]
    assert [one.pools for one in found] == [("default",), ("default",), ("default",), ("*",)]
    mine, shared = authenticate.quotas(found[0].key, "acme"), authenticate.quotas(None, "acme")
    assert (mine.requests is not None, mine.streams, shared.streams) == (True, None, 9)
    assert authenticate.quotas(found[3].key, None) == authenticate.quotas(None, None) == Quotas()


async def test_what_a_key_opens_ends_now_and_then_so_that_the_key_is_asked_for_again(tmp_path: Path) -> None:
    soon = "expires_at = 2023-11-14T22:13:50Z"  # half a minute after the time of these tests
    path = access_file(
        tmp_path, key_table(CI), key_table(OPS, more=soon), top="stream_seconds = 40\ncookie_seconds = 60"
    )
    authenticate = authenticator(path)
    for key, seconds, cookie_seconds in ((CI, 40, 60), (OPS, 30, 30)):
        principal = await authenticate(_request(key.text))
        assert principal.expires_at == SECONDS + seconds
        cookie, until = authenticate.cookie(principal)
        assert until == SECONDS + cookie_seconds
        by_cookie = await authenticate(_request(cookie=f"__Host-playhead={cookie}"))
        assert (by_cookie.expires_at, by_cookie.key) == (principal.expires_at, principal.key)


def _request(key: str | None = None, cookie: str = "") -> Request:
    headers = [(b"host", b"gateway"), (b"cookie", cookie.encode())]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    return Request(
        {"type": "http", "method": "GET", "scheme": "http", "path": "/", "query_string": b"", "headers": headers}
    )
