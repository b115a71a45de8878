"""What users ask of sessions, turned into commands on the queue, each asked at most once.

Ids come from the client's key, so the same request gives the same ids through any replica, before and after a crash.
Whether a request was made before is read from the log; what was published and is not in the log yet is remembered
here, as a convenience: without it the command would go out twice, and the session takes the first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol, cast

import orjson
from playhead.codec import Codec
from playhead.commands import AnswerQuestion, CallTool, CancelRun, CloseSession, Request, Say, StartSession
from playhead.events import Json
from playhead.ids import MessageId, RunId, SessionId, digest, message_id, run_id, session_id
from playhead.log import SessionLog
from playhead.queue import Queue
from playhead.session import Session

from playhead_gateway.limits import Limits
from playhead_gateway.problems import Problem
from playhead_gateway.questions import Found

__all__ = ["Asked", "Intake", "NewAnswer", "NewCall", "NewSession", "Started"]

Mode = Literal["queue", "interrupt", "reject"]


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a user wants a session to begin with."""

    agent: str | None
    content: Json | None
    metadata: Json
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call of a tool that a user makes by hand."""

    name: str
    input: Json
    metadata: Json
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """What a user answers to a question."""

    question: str
    content: Json
    by: str = "user"


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that was taken. `replayed` means that it had been taken before, and nothing was sent now."""

    run_id: RunId
    message_id: MessageId
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A session that was begun, with its first message if it has one."""

    session: SessionId
    message: Asked | None
    replayed: bool = False


class Allow(Protocol):
    """Tells whether a tenant may have one more session, or one more run in a session."""

    def __call__(self, session: SessionId, tenant: str | None, *, is_new: bool, runs: bool) -> None:
        """Count it. Raises `Problem`."""
        ...


class Recent:
    """The fingerprints of what was published a short time ago, by id. Bounded; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def same(self, name: str, *parts: str | None) -> bool | None:
        """Tell whether the thing of this name was published with these parts, or None if it was not published."""
        kept = self._kept.get(name)
        return None if kept is None else kept == _fingerprint(parts)

    def add(self, name: str, *parts: str | None) -> None:
        """Remember what was published."""
        self._kept[name] = _fingerprint(parts)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


class Intake:
    """Publishes requests to sessions."""

    def __init__(
        self, log: SessionLog, publish: Publisher, allow: Allow, entropy: Callable[[], bytes], limits: Limits
    ) -> None:
        self._log = log
        self._allow = allow
        self._publish = publish
        self._entropy = entropy
        self._recent = Recent(limits.recent_max)

    @staticmethod
    def named(key: str, tenant: str | None = None) -> SessionId:
        """Name the session that a tenant's key names, whether there is one or not. It is another for each tenant."""
        name = key.encode() if tenant is None else orjson.dumps([tenant, key])
        return session_id(sha256(name).digest()[:16])

    async def create(self, key: str | None, tenant: str | None = None) -> SessionId:
        """Make the session that a tenant's key names, or a new one."""
        return await self._log.create(None if key is None else self.named(key, tenant))

    async def start(self, state: Session, new: NewSession, key: str | None, trace: str | None) -> Started:
        """Begin a session that `create` made; `state` is what its log shows. Raises `Problem`, `Unavailable`."""
        session = state.id
        message = message_id(session, key or self._entropy().hex())
        run = run_id(session, message)
        parts = new.agent, new.content, new.metadata
        same = self._recent.same(session, *parts)
        if state.started:
            same = _began_with(state, new, message)
        if same is False:
            raise _other_request(key)
        if same:
            return Started(session, None if new.content is None else Asked(run, message, replayed=True), replayed=True)
        self._allow(session, new.tenant, is_new=True, runs=new.content is not None)
        say = None if new.content is None else Say(message, session, message, run, new.content, trace=trace)
        # A session is begun once, so its id is enough to name the request that begins it.
        request = f"req_{digest('start', session)}"
        await self._publish(StartSession(request, session, new.agent, new.metadata, say, trace, new.tenant))
        self._recent.add(session, *parts)
        return Started(session, None if say is None else Asked(run, message))

    async def call(self, state: Session, new: NewCall, key: str | None, trace: str | None) -> Asked:
        """Begin a session, which `create` made, with one call. Raises `Problem`, `Unavailable`."""
        session = state.id
        message = message_id(session, key or self._entropy().hex())
        run = run_id(session, message)
        parts = "call", new.name, new.input, new.metadata
        same = self._recent.same(session, *parts)
        if state.started:
            same = _began_with_call(state, new, run)
        if same is False:
            raise _other_request(key)
        if not same:
            self._allow(session, new.tenant, is_new=True, runs=True)
            request = f"req_{digest('call', session)}"
            await self._publish(
                CallTool(request, session, message, run, new.name, new.input, new.metadata, trace, new.tenant)
            )
            self._recent.add(session, *parts)
        return Asked(run, message, replayed=bool(same))

    async def say(self, state: Session, content: Json, mode: Mode, key: str | None, trace: str | None) -> Asked:
        """Say something to a session whose log shows `state`. Raises `Problem`, `Unavailable`."""
        session = state.id
        message = message_id(session, key or self._entropy().hex())
        run = run_id(session, message)
        same = self._recent.same(message, content)
        if same is None:
            same = _was_said(state, run, content)
        if same is False:
            raise _other_request(key)
        if same:
            return Asked(run, message, replayed=True)
        if state.closed:
            raise Problem(409, "session-closed", f"{session} is closed; nothing can be said to it any more")
        if mode == "reject" and state.run is not None:
            detail = f"{state.run.run_id} is going; wait for its end, or use the mode queue or interrupt"
            raise Problem(409, "run-in-progress", detail, run_id=state.run.run_id)
        self._allow(session, state.tenant, is_new=False, runs=True)
        await self._publish(Say(message, session, message, run, content, mode, trace))
        self._recent.add(message, content)
        return Asked(run, message)

    async def answer(self, state: Session, given: NewAnswer, key: str | None, found: Found) -> bool:
        """Answer a question of a session; `found` are all it asked. Tells whether that was done before.

        Raises `Problem`, `Unavailable`.
        """
        session, question = state.id, given.question
        request = f"req_{digest('answer', session, question, key or self._entropy())}"
        same = self._recent.same(request, given.content)
        if same is None and request in state.seen and question in found.answered:
            same = _equal(found.answered[question].content, given.content)
        if same is False:
            raise _other_request(key)
        if same:
            return True
        if question not in found.asked:
            raise Problem(404, "unknown-question", f"{session} asked no question {question}")
        is_open = any(call.question == question for call in state.open_calls)
        if not is_open or self._recent.same(f"answer:{session}:{question}") is not None:
            why = "is answered" if is_open or question in found.answered else "ended unanswered: nobody waits for it"
            raise Problem(409, "question-closed", f"{question} {why}")
        await self._publish(AnswerQuestion(request, session, question, given.content, given.by))
        self._recent.add(request, given.content)
        self._recent.add(f"answer:{session}:{question}")
        return False

    async def cancel(self, session: SessionId, run: RunId | None, key: str | None, reason: str = "requested") -> None:
        """Ask for a run, or for all that is going or waiting, to be stopped. Raises `Unavailable`."""
        request = f"req_{digest('cancel', session, key or self._entropy())}"
        await self._publish(CancelRun(request, session, run, reason))

    async def close(self, session: SessionId, key: str | None) -> None:
        """Ask for a session to be ended. Raises `Unavailable`."""
        request = f"req_{digest('close', session, key or self._entropy())}"
        await self._publish(CloseSession(request, session, "requested"))


class Publisher:
    """Puts requests on their topic, keyed by session, so that each session's come in order to one owner."""

    def __init__(self, queue: Queue, topic: str, codec: Codec) -> None:
        self._queue = queue
        self._topic = topic
        self._codec = codec

    async def __call__(self, request: Request) -> None:
        """Publish; when this returns the request is safe. Raises `TooLarge`, `Unavailable`."""
        await self._queue.publish(self._topic, request.session, self._codec.encode(request))


def _began_with(state: Session, new: NewSession, message: MessageId) -> bool:
    """Tell whether a session that has begun, began with just this request."""
    if new.agent not in (None, state.agent) or not _equal(new.metadata, state.metadata):
        return False
    said = _said(state, run_id(state.id, message))
    if said is None:
        return new.content is None or run_id(state.id, message) in state.runs
    return new.content is not None and _equal(said, new.content)


def _began_with_call(state: Session, new: NewCall, run: RunId) -> bool:
    """Tell whether a session that has begun, began with just this call: its message is the call, written as text."""
    said = _said(state, run)
    if said is None or not _equal(new.metadata, state.metadata):
        return False
    match cast("object", orjson.loads(said)):
        case [{"type": "text", "text": str(text)}]:
            with suppress(orjson.JSONDecodeError):
                return orjson.loads(text) == {"call": new.name, "input": orjson.loads(new.input)}
        case _:
            pass
    return False


def _was_said(state: Session, run: RunId, content: Json) -> bool | None:
    """Tell whether a message is in the log with this content, or None if it is not there."""
    said = _said(state, run)
    if said is not None:
        return _equal(said, content)
    # A message whose run ended before it began is no longer part of the conversation: its content is not in the state.
    return True if run in state.runs else None


def _said(state: Session, run: RunId) -> Json | None:
    waiting = next((one.content for one in state.waiting if one.run_id == run), None)
    if waiting is not None:
        return waiting
    return next((one.content for one in state.messages if one.run_id == run and one.role == "user"), None)


def _equal(one: Json, other: Json) -> bool:
    return one == other or cast("object", orjson.loads(one)) == cast("object", orjson.loads(other))


def _other_request(key: str | None) -> Problem:
    return Problem(422, "idempotency-mismatch", f"the Idempotency-Key {key!r} was used with another request before")


def _fingerprint(parts: tuple[str | None, ...]) -> bytes:
    return sha256(orjson.dumps(parts)).digest()
