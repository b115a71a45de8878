"""What strangers ask of a gateway: bytes of HTTP and of WebSockets, messages of a WebSocket, gRPC requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, cast

import orjson
from starlette.types import Message

from tests.fuzz.target import Run, Target
from tests.fuzz.wire import CLOSED_SESSION, LIMITS, OPEN_SESSION, Serving, Site, a_site, serving
from tests.gateway.support import RUN

__all__ = ["TARGETS", "http_seeds", "message_seeds"]

FAULT = re.compile(rb"HTTP/1\.1 5[0-9][0-9] ")
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")
LENGTH = b"Content-Length: @\r\n"
"""Stands for the length of the body, whatever became of that."""

NO_HTTP = b"Invalid HTTP request received."

PROBE = b"GET /v1/sessions/%b HTTP/1.1\r\nHost: g\r\n\r\n" % CLOSED_SESSION.encode()
PROBE_EVERY = 50
HANGS_UP_EVERY = 7
REPLY_SECONDS_MAX = 3.0


def checked(data: bytes, answered: bytes, published: int) -> None:
    """Hold what came back against what may be said to anything."""
    fault = FAULT.search(answered)
    assert fault is None or fault[0] in data, answered[:500]
    if not answered:
        return
    first = STATUS.match(answered)
    assert first is not None, f"this is no answer: {answered[:100]!r}"
    # What is no HTTP is told so at once, and before what came ahead of it is answered.
    if int(first[1]) >= 400 and NO_HTTP not in answered:
        assert published == 0 or answered.count(b"HTTP/1.1 ") > 1, "refused, and done all the same"
        head, _, body = answered.partition(b"\r\n\r\n")
        if body and b"json\r\n" in head:
            orjson.loads(body[: int((re.search(rb"content-length: ([0-9]+)", head, re.I) or [0, b"0"])[1])])


@contextmanager
def http() -> Generator[Run, None, None]:
    """Answer anything with what is documented, or close; what is refused leaves no trace, and others are served."""
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()

        async def opened() -> tuple[Site, Serving]:
            site = await a_site()
            return site, await stack.enter_async_context(serving(site.world.parts(**LIMITS)))

        site, gateway = loop.run(opened())
        count = 0

        def run(data: bytes) -> None:
            nonlocal count
            count += 1
            _, end, body = data.partition(b"\r\n\r\n")
            sent = data.replace(LENGTH, b"Content-Length: %d\r\n" % len(body)) if end else data
            before = site.published
            size = 1 + len(sent) // (1 + count % 3)
            pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
            answered = loop.run(gateway.talk(pieces, listens=count % HANGS_UP_EVERY != 0))
            checked(data, answered, site.published - before)
            if count % PROBE_EVERY == 0:
                assert loop.run(gateway.talk([PROBE])).startswith(b"HTTP/1.1 200 "), "others are not served"

        yield run
        loop.run(stack.aclose())


def http_seeds() -> list[bytes]:
    """Give a request that is good for each route, by the examples of the OpenAPI document."""
    from tests.gateway.test_openapi import DOCUMENT  # noqa: PLC0415 - takes a second

    given = {"session": OPEN_SESSION, "call_id": "call_" + "c" * 26, "question_id": "q_1", "tool": "weather"}
    given |= {"letter": "0-0", "name": "0" * 64, "thread": "t", "chat": "c"}
    given |= {"response_id": f"resp_{OPEN_SESSION[4:]}_{RUN[4:]}"}
    seeds: list[bytes] = []
    for path, methods in cast("dict[str, dict[str, Any]]", DOCUMENT["paths"]).items():
        for method, said in methods.items():
            query = "&".join(
                f"{one['name']}={_example(one['schema'])}" for one in said.get("parameters", ()) if one["in"] == "query"
            )
            where = path.format_map({name: given.get(name, "x") for name in re.findall(r"\{(\w+)", path)})
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            bodies = [b""] if content is None else [orjson.dumps(one) for one in content.get("examples", [{}])]
            seeds += [request(method.upper(), where + (f"?{query}" if query else ""), body) for body in bodies]
    return [*seeds, *_handwritten()]


def request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", *headers]
    if body:
        lines += ["Content-Type: application/json", "Idempotency-Key: k1"]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return head + (LENGTH if body else b"") + b"\r\n" + body


def _example(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return str(schema["enum"][0])
    return {"integer": "3", "number": "0.01", "boolean": "true"}.get(str(schema.get("type")), "1")


def _handwritten() -> list[bytes]:
    events = f"/v1/sessions/{OPEN_SESSION}/events"
    text = {"content": [{"type": "text", "text": "hi"}, {"type": "image", "source": {"type": "url", "url": "x"}}]}
    chunked = b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"con\r\n9\r\ntent":"a"\r\n1\r\n}\r\n0\r\n\r\n'
    agui: dict[str, object] = {"threadId": "t", "runId": "r", "state": {}, "forwardedProps": {},
            "messages": [{"id": "1", "role": "user", "content": "hi"}], "tools": [], "context": []}  # fmt: skip
    chat = {"id": "c", "trigger": "submit-message",
            "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]}  # fmt: skip
    response = {"model": "support", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}
    return [
        request("GET", f"{events}?after=3&limit=2&types=text_delta,run_completed&until={RUN}"),
        request("GET", events, b"", "Last-Event-ID: 3-00000000", "Accept: text/event-stream"),
        request("GET", f"/v1/sessions/{CLOSED_SESSION}/events", b"", "Accept: text/event-stream", "Last-Event-ID: 2"),
        request("GET", f"/v1/stream/{CLOSED_SESSION}?offset=0000000000000002&live=long-poll&cursor=1"),
        request("GET", f"/v1/stream/{CLOSED_SESSION}?offset=-1", b"", 'If-None-Match: "x"'),
        request("GET", f"/v1/events?sessions={OPEN_SESSION},{CLOSED_SESSION}", b"", "Accept: text/event-stream"),
        request("POST", f"/v1/sessions/{OPEN_SESSION}/messages", orjson.dumps(text), "Traceparent: 00-" + "a" * 32),
        request("POST", "/v1/sessions", b'{"input":"x","metadata":{"a":[1,{"b":null}]}}', "Expect: 100-continue"),
        request("POST", "/agui", orjson.dumps(agui)),
        request("POST", "/ui/chat", orjson.dumps(chat)),
        request("POST", "/v1/responses", orjson.dumps({**response, "stream": True})),
        request(
            "POST", "/v1/responses", orjson.dumps({**response, "previous_response_id": f"resp_{'a' * 26}_{'b' * 26}"})
        ),
        b"POST /v1/sessions/%b/messages HTTP/1.1\r\nContent-Type: application/json\r\n" % OPEN_SESSION.encode()
        + chunked,
        request("OPTIONS", "/v1/sessions", b"", "Origin: https://a.example", "Access-Control-Request-Method: POST"),
        request("GET", "/livez") + request("GET", "/v1/agents") + request("GET", "/v1/sessions?limit=2"),
    ]


SOCKET = f"/v1/sessions/{OPEN_SESSION}/ws"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = request("GET", SOCKET, b"", "Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 13")


def frame(opcode: int, payload: bytes) -> bytes:
    """Frame a client's message, under a mask that changes nothing."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


def frame_seeds() -> list[bytes]:
    say = b'{"type":"message","ref":"r","content":"hi"}'
    fragments = b"\x01" + frame(1, say[:9])[1:] + frame(0, say[9:])
    ends = frame(8, b"\x03\xe8bye")
    return [
        UPGRADE + frame(1, say) + ends,
        UPGRADE + frame(2, say) + frame(9, b"ping") + frame(10, b""),
        UPGRADE + fragments + ends,
        UPGRADE.replace(b"/ws", b"/ws?after=3") + frame(1, b" " * 300 + say),
        UPGRADE.replace(
            b"gateway\r\n", b"gateway\r\nSec-WebSocket-Protocol: playhead, x\r\nSec-WebSocket-Extensions: a\r\n"
        ),
    ]


def message_seeds() -> list[bytes]:
    said: list[dict[str, object]] = [
        {"type": "message", "ref": "1", "content": "hi"},
        {"type": "message", "ref": "2", "content": [{"type": "text", "text": "a"}], "mode": "interrupt"},
        {"type": "interrupt", "ref": "3", "content": "stop"},
        {"type": "cancel", "ref": "4", "run_id": RUN},
        {"type": "cancel", "ref": "5"},
        {"type": "answer", "ref": "6", "question_id": "q_1", "content": {"amount": 12.5}},
    ]
    return [orjson.dumps(one) for one in said]


class Talk:
    """A WebSocket that stays open, on the inside of the server."""

    def __init__(self, app: Any) -> None:
        self.into: asyncio.Queue[Message] = asyncio.Queue()
        self.out: asyncio.Queue[Message] = asyncio.Queue()
        headers = [(b"host", b"gateway")]
        scope: dict[str, object] = {"type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1",
                 "scheme": "ws", "path": SOCKET,
                 "raw_path": SOCKET.encode(), "root_path": "", "query_string": b"", "headers": headers, "client": None,
                 "server": None, "subprotocols": [], "extensions": {"websocket.http.response": {}}}  # fmt: skip
        self.into.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.get_running_loop().create_task(app(scope, self.into.get, self.out.put))

    async def heard(self) -> dict[str, Any]:
        """Wait for what answers a command."""
        async with asyncio.timeout(REPLY_SECONDS_MAX):
            while True:
                sent = await self.out.get()
                assert sent["type"] in ("websocket.accept", "websocket.send"), sent
                text = sent["text"] if sent["type"] == "websocket.send" else "{}"
                said: dict[str, Any] = orjson.loads(text)
                if said.get("event") in ("ack", "refused"):
                    return said

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Say something and give the one answer."""
        self.into.put_nowait({"type": "websocket.receive", **message})
        return await self.heard()

    async def leave(self) -> None:
        self.into.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(REPLY_SECONDS_MAX):
            await self.task


@contextmanager
def messages() -> Generator[Run, None, None]:
    """Acknowledge or refuse each message, once; what is refused leaves no trace, and the connection goes on."""
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()

        async def opened() -> tuple[Site, Talk]:
            site = await a_site()
            gateway = await stack.enter_async_context(serving(site.world.parts(**LIMITS)))
            talk = Talk(gateway.app)
            stack.push_async_callback(talk.leave)
            return site, talk

        site, talk = loop.run(opened())

        async def one(data: bytes) -> None:
            before = site.published
            try:
                message: dict[str, Any] = {"text": data.decode()}
            except UnicodeDecodeError:
                message = {"bytes": data}
            said = await talk.ask(message)
            if said["event"] == "refused":
                assert said["data"]["status"] < 500, said
                assert site.published == before, "refused, and done all the same"
            else:
                again = await talk.ask(message)
                assert again["event"] == "ack", "what was taken is not taken again"
            assert talk.out.empty(), "more than one answer"

        yield lambda data: loop.run(one(data))
        loop.run(stack.aclose())


TARGETS = (
    Target("http", http, http_seeds, 300),
    Target("websocket-frames", http, frame_seeds, 80),
    Target("websocket-messages", messages, message_seeds, 500),
)
