"""What a test that waited in vain waited for: what the logs say, who holds what, and what the queues have for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing

from playhead.events import RunCancelled, RunCompleted, RunFailed, Stamped, TextDelta
from playhead.ids import RunId, SessionId
from playhead.session import Session, empty, fold, pending
from playhead_orchestrator.service import Orchestrator

from tests.orchestrator.stage import Stage

__all__ = ["what_is_waited_for"]

SHOWN_MAX = 12
"""How many of the last events of a session, and of the last messages of each topic about it, are shown."""


async def what_is_waited_for(
    stage: Stage, asked: Mapping[SessionId, Collection[RunId]], alive: Mapping[Orchestrator, str]
) -> str:
    """Say of each session that is not done with how it stands. `alive` are the orchestrators there are, with names."""
    under_way = {f"{name} ({id(one):x})": one.under_way for one, name in alive.items()}
    told = [f"still waiting; messages under way: {under_way}"]
    for session, runs in asked.items():
        events = await _read(stage, session)
        state = empty(session)
        for one in events:
            state = fold(state, one)
        ended = {one.event.run_id for one in events if isinstance(one.event, RunCompleted | RunFailed | RunCancelled)}
        holders = [(one, one.held[session]) for one in alive if session in one.held]
        if set(runs) <= ended and not pending(state) and all(held == state for _, held in holders):
            continue
        told.append(f"\n{session}: {len(events)} events; not ended: {sorted(set(runs) - ended)}")
        told.append(f"  the log: {_stands(state)}")
        told += [f"  held by {alive[one]} ({id(one):x}): {_stands(held)}" for one, held in holders]
        told += _last(events)
        told += await _queued(stage, session)
    return "\n".join(told)


def _stands(state: Session) -> str:
    return f"epoch {state.epoch} of {state.owner}, waiting {[one.run_id for one in state.waiting]}, {state.run}"


def _last(events: Sequence[Stamped]) -> list[str]:
    telling = [one for one in events if not isinstance(one.event, TextDelta)]
    return [f"  {one.stamp.seq} (epoch {one.stamp.epoch}): {one.event}" for one in telling[-SHOWN_MAX:]]


async def _read(stage: Stage, session: SessionId) -> list[Stamped]:
    async with aclosing(stage.log.read(session)) as pages:
        return [stage.codec.event(record.value) async for page in pages for record in page.records]


async def _queued(stage: Stage, session: SessionId) -> list[str]:
    topics, codec, told = stage.topics, stage.codec, list[str]()
    places = [topics.requests, topics.results, topics.sessions, topics.tools("default"), topics.control("default")]
    calls = set[str | None]()
    for place in places:
        of_place = list[str]()
        async with aclosing(stage.queue.replay(place.name)) as batches:
            async for messages in batches:
                for message in messages:
                    command = codec.command(message.value)
                    call: str | None = getattr(command, "call_id", None)
                    if getattr(command, "session", None) == session:
                        calls.add(call)
                    elif call is None or call not in calls:
                        continue
                    of_place.append(f"  {place.name} {message.partition}/{message.offset}: {command}")
        told += of_place[-SHOWN_MAX:]
    return told
