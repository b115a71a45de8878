"""The JavaScript client, run by node against gateways, also through connections that break."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args

import orjson
import pytest
from playhead.events import event_types, wire_name
from playhead.ids import SessionId
from playhead.schema import field_kinds
from playhead_gateway.projections.sse import HIDDEN

from tests.cli.fake_gateway import SESSION, FakeGateway, answer, end, event, fake_gateway, ready, stream
from tests.clients.support import HERE, ROOT, a_session, installed_at, need_node, run, shown
from tests.gateway.support import OWNED, STARTED, World, a_world, client_of, serving
from tests.support.cutting import cutting

STATIC = ROOT / "gateway" / "playhead_gateway" / "static"
MODULE = STATIC / "playhead.js"
PACKAGE = ROOT / "clients" / "javascript"
GZIPPED_BYTES_MAX = 8 * 1024


@pytest.fixture
async def world() -> World:
    return await a_world()


async def does(how: str, url: str, session: str = SESSION, **asked: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Have the client do something, and give what it saw and what it said of the connection."""
    need_node()
    job = {"module": str(MODULE), "how": how, "url": url, "session": session, **asked}
    out = orjson.loads(await run("node", str(HERE / "javascript" / "watch.mjs"), orjson.dumps(job).decode()))
    return out["seen"], out["states"]


async def log_of(world: World, session: SessionId) -> list[list[Any]]:
    return [list(one) for one in await shown(world, session)]


def states(said: Sequence[dict[str, Any]]) -> list[str]:
    return [one["state"] for one in said]


def text(seq: int) -> str:
    return event(seq, "text_delta", text=str(seq))


def seqs(seen: Sequence[Any]) -> list[int]:
    return [one[1]["seq"] for one in seen]


def asked_after(fake: FakeGateway) -> list[str | None]:
    return [headers.get("last-event-id") for _, headers, _ in fake.asked]


# --- streams


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_cut_off_again_and_again_it_ends_with_exactly_the_log(world: World, seed: int) -> None:
    """protocol:P40"""
    session = await a_session(world)
    log = await log_of(world, session)
    async with (
        serving(world.parts(retry_ms=20)) as one,
        serving(world.parts(retry_ms=20, ring_bytes_max=4_000)) as two,
        cutting(one.address.port, two.address.port, seed=seed, bytes_max=3_000) as cutter,
    ):
        seen, said = await does("iterate", cutter.url, session)
    assert seen == log
    assert states(said)[-1] == "ended"
    assert states(said).count("waiting") > 3


async def test_from_a_cursor_it_gets_the_rest_and_of_what_is_over_nothing(world: World) -> None:
    session = await a_session(world)
    log = await log_of(world, session)
    async with serving(world.parts()) as served:
        url = f"http://{served.address}/"
        assert (await does("iterate", url, session, after=log[9][0]))[0] == log[10:]
        seen, said = await does("iterate", url, session, after=log[-1][0])
        assert (seen, states(said)) == ([], ["connecting", "ended"])


async def test_of_some_types_it_gets_those_and_messages_without_deltas(world: World) -> None:
    session = await a_session(world)
    log = await log_of(world, session)
    async with (
        serving(world.parts(retry_ms=20)) as served,
        cutting(served.address.port, seed=7, bytes_max=3_000) as cutter,
    ):
        seen, _ = await does("iterate", cutter.url, session, types=["text_delta", "run_completed"])
        assert seen == [one for one in log if one[1]["type"] in {"text_delta", "run_completed"}]
        seen, _ = await does("iterate", cutter.url, session, deltas="final")
        assert seen == [one for one in log if one[1]["type"] != "text_delta"]


async def test_connect_calls_back_for_each_event_and_knows_where_it_is(world: World) -> None:
    session = await a_session(world)
    log = await log_of(world, session)
    async with serving(world.parts()) as served:
        seen, said = await does("connect", f"http://{served.address}", session)
    assert seen == [*log, [log[-1][0], None]]
    assert states(said) == ["connecting", "open", "ended"]
    assert said[1] == {"state": "open", "status": "closed", "last_seq": len(log)}


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_who_leaves_is_left_alone(world: World, how: str) -> None:
    session = await a_session(world, closed=False)
    async with serving(world.parts()) as served:
        seen, said = await does(how, f"http://{served.address}", session, last=5)
    if how == "close":
        assert seen.pop() is None
        assert states(said)[-1] == "closed"
    assert seqs(seen) == [1, 2, 3, 4, 5]


async def test_a_signal_ends_a_stream_that_says_nothing(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    async with serving(world.parts()) as served:
        seen, said = await does("abort", f"http://{served.address}", session, after="2")
    assert (seen, states(said)) == ([None], ["connecting", "open", "closed"])


async def test_a_page_that_is_hidden_lets_go_and_resumes_when_it_is_shown(world: World) -> None:
    session = await a_session(world, closed=False)
    log = await shown(world, session)
    async with serving(world.parts()) as served:
        seen, said = await does("hide", f"http://{served.address}", session, last=len(log), hiddenMs=20)
    assert seqs(seen) == list(range(1, len(log) + 1))
    assert states(said) == ["connecting", "open", "hidden", "connecting", "open", "closed"]


async def test_a_page_that_is_hidden_for_a_moment_keeps_its_stream(world: World) -> None:
    session = await a_session(world, closed=False)
    async with serving(world.parts()) as served:
        seen, said = await does("look_away", f"http://{served.address}", session, last=9)
    assert seqs(seen) == list(range(1, 10))
    assert states(said) == ["connecting", "open", "closed"]


async def test_characters_are_whole_wherever_the_stream_comes_in_pieces() -> None:
    data = orjson.dumps({"type": "text_delta", "seq": 1, "text": "é€😀" * 300}).decode()
    said = f"{ready()}event: text_delta\ndata: {data}\nid: 1-0\n\n{end()}".encode()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for start in range(0, len(said), 7):
            writer.write(said[start : start + 7])
            await asyncio.sleep(0)  # a write of its own
        writer.close()

    server = await asyncio.start_server(tell, "127.0.0.1", 0)
    async with server:
        seen, _ = await does("iterate", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert seen == [["1-0", orjson.loads(data)]]


async def test_after_a_gap_the_stream_is_asked_again_and_what_was_missing_is_not_lost() -> None:
    broken, whole = stream(ready(), text(1), text(3), end()), stream(ready(), text(2), text(3), end())
    async with fake_gateway(broken, whole) as fake:
        seen, said = await does("iterate", fake.url)
    assert seqs(seen) == [1, 2, 3]
    assert asked_after(fake) == [None, "1-00000001"]
    assert said[2]["reason"] == "the stream told event 3 after event 1"


async def test_a_gap_that_is_there_again_is_what_the_gateway_cannot_show() -> None:
    """protocol:P13"""
    after = stream(ready(), text(3), text(6), text(7), end())
    async with fake_gateway(stream(ready(), text(1), text(3)), after) as fake:
        seen, _ = await does("iterate", fake.url)
    assert seqs(seen) == [1, 3, 6, 7]


async def test_an_event_that_is_told_again_is_an_error_and_never_shown() -> None:
    async with fake_gateway(stream(ready(), text(1), text(1), end())) as fake:
        seen, said = await does("iterate", fake.url)
    assert seen[1:] == ["PlayheadError: the stream told event 1 after event 1"]
    assert states(said) == ["connecting", "open", "failed"]


async def test_a_busy_gateway_is_asked_again_and_one_that_drains_come_back_to() -> None:
    busy = answer({"title": "Busy"}, "503 Service Unavailable\r\nretry-after: 1")
    draining = 'event: draining\nretry: 30\ndata: {"reason": "draining"}\n\n'
    async with fake_gateway(busy, stream(ready(), text(1), draining), stream(ready(), text(2), end())) as fake:
        seen, said = await does("iterate", fake.url)
    assert seqs(seen) == [1, 2]
    waits = [one["wait_ms"] for one in said if one["state"] == "waiting"]
    assert 1_000 <= waits[0] <= 1_200
    assert 0 <= waits[1] <= 30


async def test_a_refusal_is_not_tried_again_and_says_why() -> None:
    problem = answer({"title": "Conflict", "detail": "cursor 9 is ahead", "code": "cursor-conflict"}, "409 Conflict")
    async with fake_gateway(problem) as fake:
        seen, said = await does("iterate", fake.url, after="9")
    assert seen == ["PlayheadError: Conflict: cursor 9 is ahead"]
    assert said[-1] == {"state": "failed", "error": "Conflict: cursor 9 is ahead", "status": 409}
    assert len(fake.asked) == 1


async def test_a_page_that_is_no_event_stream_is_an_error() -> None:
    async with fake_gateway(answer("hello", kind="text/html")) as fake:
        seen, _ = await does("iterate", fake.url)
    assert "is not an event stream" in seen[0]


async def test_a_token_is_asked_for_before_each_connection_and_again_where_it_is_refused() -> None:
    refused = answer({"title": "Expired"}, "401 Unauthorized")
    async with fake_gateway(refused, stream(ready(), text(1)), stream(ready(), text(2), end())) as fake:
        seen, _ = await does("tokens", fake.url)
    assert seqs(seen) == [1, 2]
    sent = [headers.get("authorization") for _, headers, _ in fake.asked]
    assert sent == ["Bearer token 1", "Bearer token 2", "Bearer token 3"]


async def test_a_token_that_stays_refused_is_an_error() -> None:
    refused = answer({"title": "Unauthorized"}, "401 Unauthorized")
    async with fake_gateway(refused, refused, refused) as fake:
        assert (await does("tokens", fake.url))[0] == ["PlayheadError: Unauthorized"]
        assert (await does("tokens", fake.url, token="fixed"))[0] == ["PlayheadError: Unauthorized"]
    assert len(fake.asked) == 3


# --- the parser


FRAMES = "data: a\ndata:b\n\n: hb\n\nretry: 7\nevent: x\ndata: é😀\nid: 1-a\n\ndata\n\nid: 2\n\nevent: lost"
PARSED = [
    {"event": "message", "data": "a\nb", "id": ""},
    {"event": "x", "data": "é😀", "id": "1-a", "retry": 7},
    {"event": "message", "data": "", "id": "1-a"},
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_frames_are_parsed_by_the_letter_wherever_they_are_cut(line_end: str) -> None:
    said = FRAMES.replace("\n", line_end)
    for pieces in ([said], list(said), [said[:9], said[9:10], said[10:]]):
        assert (await does("parse", "", pieces=pieces))[0] == PARSED


# --- asking


async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key() -> None:
    made = answer({"id": SESSION, "run_id": "run_1"}, "201 Created")
    async with fake_gateway(b"", answer({}, "503 Service Unavailable"), made, made) as fake:
        calls = [["start", {"agent": "a", "input": "hi"}], ["send", "more", {"key": "mine", "mode": "queue"}]]
        seen, _ = await does("send", fake.url, calls=calls)
    assert seen == [{"id": SESSION, "run_id": "run_1"}] * 2
    keys = [headers["idempotency-key"] for _, headers, _ in fake.asked]
    assert len(set(keys[:3])) == 1
    assert len(keys[0]) == 32
    assert keys[3] == "mine"
    assert [orjson.loads(body) for _, _, body in fake.asked[2:]] == [
        {"agent": "a", "input": "hi"},
        {"content": "more", "mode": "queue"},
    ]


async def test_a_refused_message_is_not_sent_again() -> None:
    async with fake_gateway(answer({"title": "No", "code": "session-closed"}, "409 Conflict")) as fake:
        seen, _ = await does("send", fake.url, calls=[["send", "hi"]])
    assert seen == [{"error": "No", "status": 409, "code": "session-closed"}]
    assert len(fake.asked) == 1


async def test_a_gateway_takes_what_it_sends(world: World) -> None:
    session = await world.session_with(STARTED, OWNED)
    calls = [["start", {"input": "hi"}], ["send", "more"], ["cancel"], ["close"], ["answer", "q_1", {"ok": True}]]
    async with serving(world.parts()) as served:
        seen, _ = await does("send", f"http://{served.address}", session, calls=calls)
    started, said, cancelled, closed, answered = seen
    assert SessionId(started["id"]).startswith("ses_")
    assert set(said) == {"run_id", "message_id"}
    assert (cancelled, closed) == ({"id": session}, {"id": session})
    assert answered["code"] == "unknown-question"
    published = {type(one).__name__ for one in await world.published()}
    assert published == {"StartSession", "Say", "CancelRun", "CloseSession"}


# --- the file


def test_it_is_small_enough_to_be_loaded_by_any_page() -> None:
    assert len(gzip.compress(MODULE.read_bytes(), 9)) < GZIPPED_BYTES_MAX
    assert b"import " not in re.sub(rb"/\*.*?\*/", b"", MODULE.read_bytes(), flags=re.S)


async def test_its_types_hold(request: pytest.FixtureRequest) -> None:
    installed = await installed_at(request.config, PACKAGE, "typescript")
    await run("node", str(installed / "node_modules" / "typescript" / "bin" / "tsc"), cwd=PACKAGE, seconds_max=60)


def test_its_types_of_events_are_those_of_the_log() -> None:
    """protocol:P9"""
    lines = re.search(r"interface Events \{\n(.*?)\n\}", (STATIC / "types.d.ts").read_text(), re.S)
    assert lines is not None
    found = dict(line.strip().rstrip(";").split(": ", 1) for line in lines[1].splitlines())
    assert found.keys() == {wire_name(kind) for kind in event_types()}
    for kind in event_types():
        said = found[wire_name(kind)]
        members = re.findall(r"(\w+)(\??): ", re.sub(r"(?<=: )\{[^}]*\}", "", said))
        wanted = [
            (name, "?" if is_optional(hint) else "")
            for _, name, hint, _ in field_kinds(kind)
            if name not in HIDDEN.get(kind.__name__, frozenset())
        ]
        if "OfStep" in said:
            assert [name for name, _ in wanted[:3]] == ["run_id", "step", "attempt"]
            wanted = wanted[3:]
        assert members == wanted, kind


def is_optional(hint: Any) -> bool:
    return NoneType in get_args(hint)


async def test_every_gateway_serves_it_and_says_whether_it_is_still_the_same(world: World) -> None:
    async with client_of(world.parts()) as client:
        given = await client.get("/static/playhead.js")
        assert given.content == MODULE.read_bytes()
        assert given.headers["content-type"] == "text/javascript; charset=utf-8"
        assert given.headers["cache-control"] == "no-cache"
        same = await client.get("/static/playhead.js", headers={"If-None-Match": f'"old", W/{given.headers["etag"]}'})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.get("/static/types.d.ts")).status_code == 404


def test_the_package_of_npm_is_of_this_version() -> None:
    package = orjson.loads((PACKAGE / "package.json").read_bytes())
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert package["version"] == version[1]
    assert not (PACKAGE / "playhead.js").exists()
