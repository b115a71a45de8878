"""One model call, from the session's state to the inputs that it brings. The only place that waits for a model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import orjson
from playhead.agents import Agent
from playhead.events import Failure, Json, TextDelta, Thinking, ToolInputDelta
from playhead.ids import SessionId, call_id
from playhead.session import Answered, Broke, CallModel, PlannedCall, Session, Spoke
from playhead.telemetry import Telemetry, logger

from playhead_orchestrator.catalogue import Offered
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
from playhead_orchestrator.prompt import messages_of

__all__ = ["CALLS_MAX", "PIECES_MAX", "converse", "plan_calls", "request_of"]

PIECES_MAX = 256
"""The most pieces in one input: what an input leads to must fit into one append."""

CALLS_MAX = 100
"""The most calls of one message that are run; all of them can still be cancelled by one append."""

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
        offered = offers.get(name)
        refusal = None
        if "invalid" in block:
            refusal = f"the input was not valid JSON: {block['invalid']}"
            given = {"invalid": given}
        elif len(planned) >= CALLS_MAX:
            refusal = f"a message may ask for at most {CALLS_MAX} calls"
        elif offered is None:
            refusal = f"there is no tool named {name!r}; there are: {', '.join(sorted(offers)) or 'none'}"
        effect, pool = ("read", "") if offered is None else (offered.effect, offered.pool)
        planned.append(PlannedCall(identity, name, Json(orjson.dumps(given).decode()), effect, pool, refusal))
        content.append({"type": "tool_use", "id": identity, "name": name, "input": given})
    return content, tuple(planned)
