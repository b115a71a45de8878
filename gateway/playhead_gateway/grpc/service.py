"""The gRPC service: each call is the HTTP request that it stands for; watching is the session's own speech."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast
from urllib.parse import urlencode

import grpc
import orjson
from playhead.errors import PlayheadError
from playhead.ids import SessionId, parse_session_id
from starlette.requests import HTTPConnection

from playhead_gateway.bodies import parsed
from playhead_gateway.fanout import SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.grpc import sessions_pb2 as pb
from playhead_gateway.grpc.inside import Inside, scope_of
from playhead_gateway.problems import Problem, document_of, problem_of
from playhead_gateway.projections.native import farewell
from playhead_gateway.stream import retry_ms
from playhead_gateway.tail import Viewer
from playhead_gateway.walk import Dropped
from playhead_gateway.watch import messages_of

__all__ = ["Sessions", "handler_of"]

SERVICE = "playhead.v1.Sessions"
PROBLEM = "playhead-problem-bin"
"""The trailer that has a refusal's problem document."""

PROBLEM_BYTES_MAX = 4 * 1024
DETAIL_CHARS_MAX = 500
"""How much a refusal says, which may quote what was sent: clients take 8 KiB of trailers, and are told of no more."""

FORWARDED = frozenset({"authorization", "x-api-key", "idempotency-key", "traceparent"})
"""The metadata that is taken for HTTP headers; nothing else that a client sends is."""

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    410: grpc.StatusCode.OUT_OF_RANGE,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

Context = Any  # grpc.aio.ServicerContext: grpcio comes without types
Headers = list[tuple[bytes, bytes]]


def handler_of(sessions: Sessions) -> Any:  # grpc.GenericRpcHandler
    """Make the handler that a gRPC server is given."""
    calls: dict[str, tuple[Callable[[Any, Context], Awaitable[Any]], Any]] = {
        "Start": (sessions.start, pb.StartRequest),
        "Say": (sessions.say, pb.SayRequest),
        "Cancel": (sessions.cancel, pb.CancelRequest),
        "Answer": (sessions.answer, pb.AnswerRequest),
        "Close": (sessions.close, pb.CloseRequest),
        "Get": (sessions.get, pb.GetRequest),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=kind.FromString, response_serializer=_written
        )
        for name, (call, kind) in calls.items()
    }
    handlers["Watch"] = grpc.unary_stream_rpc_method_handler(
        sessions.watch, request_deserializer=pb.WatchRequest.FromString, response_serializer=_written
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


class Sessions:
    """The calls, one method each."""

    def __init__(self, gateway: Gateway, inside: Inside) -> None:
        self._gateway = gateway
        self._inside = inside

    async def start(self, request: pb.StartRequest, context: Context) -> pb.StartReply:
        """Begin a session."""
        body: dict[str, Any] = {}
        if request.agent:
            body["agent"] = request.agent
        if request.HasField("content"):
            body["input"] = await self._content(request.content, context)
        if request.metadata_json:
            body["metadata"] = await self._json(request.metadata_json, "metadata_json", context)
        said = await self._post("/v1/sessions", body, context)
        return pb.StartReply(
            session=said["id"],
            status=said["status"],
            last_seq=said["last_seq"],
            run_id=said.get("run_id"),
            message_id=said.get("message_id"),
        )

    async def say(self, request: pb.SayRequest, context: Context) -> pb.SayReply:
        """Say something."""
        body: dict[str, Any] = {"content": await self._content(request.content, context)}
        if request.mode:
            body["mode"] = request.mode
        said = await self._post(f"{_path(request.session)}/messages", body, context)
        return pb.SayReply(run_id=said["run_id"], message_id=said["message_id"])

    async def cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:
        """Cancel a run, or all."""
        body = {"run_id": request.run_id} if request.run_id else {}
        await self._post(f"{_path(request.session)}/cancel", body, context)
        return pb.CancelReply()

    async def answer(self, request: pb.AnswerRequest, context: Context) -> pb.AnswerReply:
        """Answer a question."""
        body = {"content": await self._json(request.content_json, "content_json", context)}
        await self._post(f"{_path(request.session)}/answers/{_part(request.question_id)}", body, context)
        return pb.AnswerReply()

    async def close(self, request: pb.CloseRequest, context: Context) -> pb.CloseReply:
        """End a session."""
        await self._post(f"{_path(request.session)}/close", {}, context)
        return pb.CloseReply()

    async def get(self, request: pb.GetRequest, context: Context) -> pb.GetReply:
        """Show a session."""
        asked = await self._inside.ask("GET", _path(request.session), _headers(context))
        if asked.status >= 400:
            await _refuse(context, asked.status, asked.body)
        return pb.GetReply(session_json=asked.body.decode())

    async def watch(self, request: pb.WatchRequest, context: Context) -> None:
        """Tell a session's events."""
        connection = _watching(request, _headers(context))
        session = SessionId(request.session)
        try:
            parse_session_id(session)
            await self._gateway.entry.admit(connection, "sessions:read", f"GRPC {SERVICE}/Watch")
            speech = await messages_of(self._gateway, session, connection)
        except Problem as problem:
            await _refuse_with(context, problem)
        except PlayheadError as error:
            await _refuse_with(context, problem_of(error))
        if isinstance(speech, str):
            await self._send_away(session, speech, context)
            return
        clients = self._gateway.telemetry.stream_clients.labels("grpc")
        clients.inc()
        try:
            async with asyncio.timeout(None) as patience:
                viewer = CallViewer(context, patience)
                with self._gateway.fanout.attach(viewer, speech.tails, speech.names):
                    await speech.hold(viewer)
        except TimeoutError:
            self._gateway.telemetry.stream_dropped.labels("slow").inc()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "you read too slowly: watch again from your last cursor")
        except (Dropped, SentAway) as dropped:
            self._gateway.telemetry.stream_dropped.labels(dropped.reason).inc()
            await self._send_away(session, dropped.reason, context)
        finally:
            clients.dec()

    async def _send_away(self, session: SessionId, reason: str, context: Context) -> None:
        retry = retry_ms(self._gateway.limits)
        _, _, data = farewell(session, reason, retry).partition(b"data: ")
        await context.write(
            pb.WatchReply(control=pb.Control(name="draining", json=data.strip().decode(), retry_ms=retry))
        )

    async def _content(self, content: pb.Content, context: Context) -> Any:  # JSON
        if content.WhichOneof("kind") == "blocks_json":
            return await self._json(content.blocks_json, "blocks_json", context)
        return content.text

    async def _json(self, text: str, where: str, context: Context) -> Any:  # JSON
        try:
            return parsed(text, self._gateway.limits)
        except Problem as problem:
            problem.detail = f"{where}: {problem.detail}"
            await _refuse_with(context, problem)

    async def _post(self, path: str, body: dict[str, Any], context: Context) -> dict[str, Any]:
        asked = await self._inside.ask("POST", path, _headers(context), body)
        if asked.status >= 400:
            await _refuse(context, asked.status, asked.body)
        return asked.json


class CallViewer(Viewer):
    """A viewer at the end of a gRPC call: each line is a message."""

    def __init__(self, context: Context, patience: asyncio.Timeout) -> None:
        super().__init__(context.write, patience)
        self._context = context

    async def _put(self, data: bytes, *, more: bool) -> None:
        for line in data.split(b"\n"):
            if line:
                await self._context.write(_reply(line))


def _reply(line: bytes) -> pb.WatchReply:
    """Read a message of the native protocol; its `data` stays as it is written."""
    start = line.index(b',"data":')
    head = cast("dict[str, Any]", orjson.loads(line[:start] + b"}"))
    data = line[start + 8 : -1].decode()
    if "id" in head:
        return pb.WatchReply(event=pb.Event(type=head["event"], cursor=head["id"], json=data))
    return pb.WatchReply(control=pb.Control(name=head["event"], json=data, retry_ms=head.get("retry", 0)))


def _watching(request: pb.WatchRequest, headers: Headers) -> HTTPConnection:
    query = {"after": request.after, "types": ",".join(request.types), "until": request.until}
    query["deltas"] = "final" if request.final_deltas else "all"
    scope = scope_of("http", f"{_path(request.session)}/events", headers)
    scope["query_string"] = urlencode({name: value for name, value in query.items() if value}).encode()
    scope["path_params"] = {"session": request.session}
    return HTTPConnection(scope)


def _path(session: str) -> str:
    return f"/v1/sessions/{_part(session)}"


def _part(name: str) -> str:
    """Have a stranger's name be one part of a path, or none that there is."""
    return name if name and "/" not in name else "-"


def _headers(context: Context) -> Headers:
    given = ((name, value) for name, value in context.invocation_metadata() or () if name in FORWARDED)
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in given if isinstance(value, str)]


async def _refuse_with(context: Context, problem: Problem) -> NoReturn:
    await _refuse(context, problem.status, orjson.dumps(document_of(problem)))


async def _refuse(context: Context, status: int, document: bytes) -> NoReturn:
    said = cast("dict[str, Any]", orjson.loads(document))
    detail = str(said.get("detail", ""))[:DETAIL_CHARS_MAX]
    if len(document) > PROBLEM_BYTES_MAX:
        document = orjson.dumps(
            {name: said.get(name) for name in ("type", "title", "status", "code")} | {"detail": detail}
        )
    await context.abort(CODES.get(status, grpc.StatusCode.INTERNAL), detail, ((PROBLEM, document),))
    raise AssertionError("unreachable")


def _written(message: Any) -> bytes:  # google.protobuf.message.Message
    return message.SerializeToString()
