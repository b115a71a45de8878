"""What a client says over a WebSocket: commands of the session, each with a `ref` that makes it safe to send again."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from playhead.ids import RunId, SessionId
from pydantic import Field

from playhead_gateway.bodies import Body, Content, checked, json_text
from playhead_gateway.gateway import Gateway
from playhead_gateway.intake import NewAnswer
from playhead_gateway.principal import Principal
from playhead_gateway.problems import Problem
from playhead_gateway.views import View, without_none

__all__ = ["Commands"]

Ref = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]


class _Command(Body):
    ref: Ref


class _Message(_Command):
    type: Literal["message"]
    content: Content
    mode: Literal["queue", "interrupt", "reject"] = "queue"


class _Interrupt(_Command):
    type: Literal["interrupt"]
    content: Content


class _Cancel(_Command):
    type: Literal["cancel"]
    run_id: Annotated[str, Field(pattern=r"^run_[0-9a-z]{26}$")] | None = None


class _Answer(_Command):
    type: Literal["answer"]
    question_id: Annotated[str, Field(min_length=1, max_length=200)]
    content: Any


C = TypeVar("C", bound=_Command)

KINDS: dict[str, type[_Command]] = {
    "message": _Message,
    "interrupt": _Interrupt,
    "cancel": _Cancel,
    "answer": _Answer,
}


class Commands:
    """Carries out what is said to one session, as the JSON routes do."""

    def __init__(self, gateway: Gateway, session: SessionId, principal: Principal) -> None:
        self._gateway = gateway
        self._session = session
        self._principal = principal

    async def take(self, value: dict[str, object]) -> View:
        """Carry a command out and give what is acknowledged. Raises `Problem` and what the ports raise."""
        kind = _kind_of(value)
        if "sessions:write" not in self._principal.scopes:
            raise Problem(403, "missing-scope", "this needs the scope 'sessions:write'", scope="sessions:write")
        self._gateway.allowances.request(self._principal, writes=True)
        match checked(value, kind):
            case _Message() as said:
                return await self._say(said.ref, said.content, said.mode)
            case _Interrupt() as said:
                return await self._say(said.ref, said.content, "interrupt")
            case _Cancel() as cancel:
                folded = await self._gateway.folded(self._session)
                if not folded.state.closed:
                    run = None if cancel.run_id is None else RunId(cancel.run_id)
                    await self._gateway.intake.cancel(self._session, run, cancel.ref)
                return without_none({"run_id": cancel.run_id})
            case _Answer() as answer:
                return await self._answer(answer)
            case other:
                raise AssertionError(other)

    async def _say(self, ref: str, content: object, mode: Literal["queue", "interrupt", "reject"]) -> View:
        gateway = self._gateway
        text = json_text(content, "a message", gateway.limits.content_bytes_max)
        state = (await gateway.folded(self._session)).state
        asked = await gateway.intake.say(state, text, mode, ref, None)
        return {"run_id": asked.run_id, "message_id": asked.message_id} | ({"replayed": True} if asked.replayed else {})

    async def _answer(self, answer: _Answer) -> View:
        gateway = self._gateway
        content = json_text(answer.content, "an answer", gateway.limits.content_bytes_max)
        state = (await gateway.folded(self._session)).state
        found = await gateway.questions.all(self._session)
        given = NewAnswer(answer.question_id, content, self._principal.name)
        replayed = await gateway.intake.answer(state, given, answer.ref, found)
        return {"question_id": answer.question_id} | ({"replayed": True} if replayed else {})


def _kind_of(value: dict[str, object]) -> type[_Command]:
    named = value.get("type")
    kind = KINDS.get(named) if isinstance(named, str) else None
    if kind is None:
        detail = f"a message is an object whose `type` is one of {', '.join(KINDS)}"
        raise Problem(422, "invalid-body", detail, errors=[{"pointer": "/type", "detail": detail}])
    return kind
