"""One model call, from the session's state to the inputs that it brings. The only place that waits for a model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import orjson
from playhead.agents import Agent
from playhead.commands import CallTool
from playhead.events import Failure, Json, TextDelta, Thinking, ToolInputDelta
from playhead.ids import CallId, SessionId, call_id, digest
from playhead.session import Answered, Broke, CallModel, PlannedCall, Session, Spoke
from playhead.telemetry import Telemetry, logger

from playhead_orchestrator.catalogue import Catalogue, Offered
from playhead_orchestrator.model import (
    Finished,
    Model,
    ModelFailed,
    ModelRequest,
    Said,
    TextSaid,
    ThinkingSaid,
    ToolInputSaid,
)
from playhead_orchestrator.ordering import UNORDERED, waits
from playhead_orchestrator.prompt import messages_of

__all__ = ["CALLS_MAX", "PIECES_MAX", "converse", "plan_by_hand", "plan_call", "plan_calls", "request_of"]

PIECES_MAX = 256
"""The most pieces in one input: what an input leads to must fit into one append."""

CALLS_MAX = 100
"""The most calls of one message that are run; all of them can still be cancelled by one append."""

NAMES_SHOWN_MAX = 50

ERROR_CHARS_MAX = 2_000
"""How much of a provider's error goes into the log: some answer with a page of HTML."""

log = logger(__name__)


def request_of(session: Session, agent: Agent, offers: Mapping[str, Offered], attempt: int) -> ModelRequest:
    """Make the request for the session's next message."""
    return ModelRequest(
        model=session.model.partition(":")[2] or session.model,
        instructions=agent.instructions,
        messages=messages_of(session),
        tools=tuple(offered.offer for offered in offers.values()),
        max_tokens=agent.max_tokens,
        thinking_tokens=agent.thinking_tokens,
        attempt=attempt,
    )


async def converse(
    model: Model,
    request: ModelRequest,
    place: tuple[SessionId, CallModel],
    offers: Mapping[str, Offered],
    meter: Telemetry,
) -> AsyncGenerator[Spoke | Answered | Broke, None]:
    """Call the model; yield what it says as inputs of the session, the last one `Answered` or `Broke`."""
    session, call = place
    began = time.perf_counter()
    silent = True
    try:
        async with aclosing(model.stream(request)) as stream:
            async for said in stream:
                if silent:
                    silent = False
                    meter.time_to_first_token_seconds.labels(model.provider, request.model).observe(
                        time.perf_counter() - began
                    )
                pieces, finished = _pieces(session, call, said)
                for start in range(0, len(pieces), PIECES_MAX):
                    yield Spoke(pieces[start : start + PIECES_MAX])
                if finished is not None:
                    meter.model_calls.labels(model.provider, "completed").inc()
                    elapsed_ms = int((time.perf_counter() - began) * 1000)
                    yield _answered(session, call, finished, offers=offers, elapsed_ms=elapsed_ms)
                    return
        failed = ModelFailed("stream_broken", "the model's stream ended without a whole message", retryable=True)
    except ModelFailed as error:
        failed = error
    meter.model_calls.labels(model.provider, failed.code).inc()
    log.warning("model call failed", session=session, run=call.run_id, code=failed.code, error=failed.message)
    wait = None if failed.retry_after_seconds is None else int(failed.retry_after_seconds * 1000)
    error = Failure(failed.code, failed.message[:ERROR_CHARS_MAX])
    yield Broke(call.run_id, call.step, call.attempt, error, failed.retryable, wait)


def _pieces(
    session: SessionId, call: CallModel, said: Sequence[Said]
) -> tuple[tuple[TextDelta | Thinking | ToolInputDelta, ...], Finished | None]:
    place = (call.run_id, call.step, call.attempt)
    pieces: list[TextDelta | Thinking | ToolInputDelta] = []
    finished: Finished | None = None
    for one in said:
        match one:
            case TextSaid(text):
                pieces.append(TextDelta(*place, text))
            case ThinkingSaid(text):
                pieces.append(Thinking(*place, text))
            case ToolInputSaid(index, json):
                pieces.append(ToolInputDelta(*place, call_id(session, call.run_id, call.step, index), json))
            case Finished():
                finished = one
    return tuple(pieces), finished


def _answered(
    session: SessionId, call: CallModel, finished: Finished, *, offers: Mapping[str, Offered], elapsed_ms: int
) -> Answered:
    content, calls = plan_calls(session, call, finished, offers)
    return Answered(
        run_id=call.run_id,
        step=call.step,
        attempt=call.attempt,
        message=Json(orjson.dumps({"role": "assistant", "content": content}).decode()),
        text="".join(str(block.get("text", "")) for block in content if block.get("type") == "text"),
        calls=calls,
        usage=finished.usage,
        stop_reason=finished.stop_reason,
        elapsed_ms=elapsed_ms,
    )


def plan_calls(
    session: SessionId, call: CallModel, finished: Finished, offers: Mapping[str, Offered]
) -> tuple[list[dict[str, object]], tuple[PlannedCall, ...]]:
    """Give each tool use of a message its derived id and look up where it goes. Pure.

    A use that cannot be run (no such tool, broken JSON) is planned with its refusal: the model is told, as a result.
    """
    content: list[dict[str, object]] = []
    planned: list[PlannedCall] = []
    for block in finished.content:
        if block.get("type") != "tool_use":
            content.append(block)
            continue
        name, given = str(block.get("name", "")), block.get("input", {})
        identity = call_id(session, call.run_id, call.step, len(planned))
        refusal = None
        if "invalid" in block:
            refusal = f"the input was not valid JSON: {block['invalid']}"
            given = {"invalid": given}
        elif len(planned) >= CALLS_MAX:
            refusal = f"a message may ask for at most {CALLS_MAX} calls"
        elif name not in offers:
            refusal = f"there is no tool named {name!r}; there are: {', '.join(sorted(offers)) or 'none'}"
        planned.append(plan_call(identity, name, given, offers.get(name), refusal))
        content.append({"type": "tool_use", "id": identity, "name": name, "input": given})
    return content, _ordered(planned, offers)


def plan_call(
    identity: CallId, name: str, given: object, offered: Offered | None, refusal: str | None = None
) -> PlannedCall:
    """Plan one call, of a tool that there is or, with a `refusal`, is not. Pure."""
    effect, pool = ("read", "") if offered is None else (offered.effect, offered.pool)
    return PlannedCall(
        call_id=identity,
        name=name,
        input=Json(orjson.dumps(given).decode()),
        effect=effect,
        pool=pool,
        refusal=refusal,
        key=_key(name, given, offered),
        reconciles=offered is not None and offered.reconciles,
    )


def plan_by_hand(identity: CallId, request: CallTool, catalogue: Catalogue) -> PlannedCall:
    """Plan the call that somebody asked for by hand, of any tool that is announced. Pure."""
    offered = catalogue.named(request.name)
    known = ", ".join(catalogue.names[:NAMES_SHOWN_MAX]) or "none"
    refusal = None if offered is not None else f"there is no tool named {request.name!r}; there are: {known}"
    return plan_call(identity, request.name, orjson.loads(request.input), offered, refusal)


def _key(name: str, given: object, offered: Offered | None) -> str | None:
    """Name what calls must not overlap on: the value of the argument that the tool declares. Bounded in length."""
    if offered is None or offered.key is None or not isinstance(given, dict):
        return None
    value = cast("dict[str, object]", given).get(offered.key)
    return f"key_{digest('order', name, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))}"


def _ordered(planned: Sequence[PlannedCall], offers: Mapping[str, Offered]) -> tuple[PlannedCall, ...]:
    orders = [(one.name, offers[one.name].order if one.name in offers else UNORDERED) for one in planned]
    if all(order == UNORDERED for _, order in orders):
        return tuple(planned)
    return tuple(
        replace(one, waits_for=tuple(planned[place].call_id for place in places))
        for one, places in zip(planned, waits(orders), strict=True)
    )
