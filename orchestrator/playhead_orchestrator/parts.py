"""What an orchestrator is made of; built by the composition root and handed down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from playhead.agents import Agent
from playhead.archive import Archive
from playhead.codec import Codec
from playhead.commands import Command, Request, StartSession
from playhead.errors import Unavailable
from playhead.failpoints import Reach, nowhere
from playhead.log import SessionLog
from playhead.queue import Queue, Topics
from playhead.session import Snapshot
from playhead.telemetry import Telemetry, logger

from playhead_orchestrator.model import Model

__all__ = ["Agents", "OrchestratorParts", "Waits"]

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long an orchestrator waits for what nobody tells it, all in seconds.

    `again`: before it asks a store again that could not be reached. `reacquire`: before an owner that was superseded
    reads the log again; whoever has the session then is left alone, unless the group still says that it is ours.
    `handover`: until sessions whose partitions were taken away are let go of, if these have not come back by then.
    `silence`: without a word of a running call (three heartbeats) until its worker counts as lost; `lost`: the same for
    a `once` call, which is not simply run again. `look`: between two
    looks at all sessions. `idle`: until a session in which nothing goes on is forgotten. `unassigned`: until a member
    without partitions counts as one too many, which is ready too.
    """

    again: float = 1.0
    reacquire: float = 5.0
    handover: float = 4.0
    silence: float = 7.0
    lost: float = 15.0
    look: float = 1.0
    idle: float = 60.0
    unassigned: float = 15.0


@dataclass(frozen=True, slots=True)
class OrchestratorParts:
    """The ports and settings of an orchestrator.

    `owner` names this instance, and no other that ever was. `clock` gives microseconds since the epoch. `lease_key` is
    shared by all orchestrators of a deployment. `models` are by provider.
    """

    log: SessionLog
    queue: Queue
    topics: Topics
    codec: Codec
    telemetry: Telemetry
    clock: Callable[[], int]
    owner: str
    lease_key: bytes
    models: Mapping[str, Model]
    waits: Waits = Waits()
    reach: Reach = nowhere
    archive: Archive | None = None

    async def publish(self, topic: str, key: str, command: Command) -> None:
        """Publish, again and again while the queue cannot be reached. Raises `TooLarge`, `Misconfigured`."""
        value = self.codec.encode(command)
        while True:
            try:
                return await self.queue.publish(topic, key, value)
            except Unavailable as error:
                log.warning("could not publish: trying again", topic=topic, error=str(error))
                await asyncio.sleep(self.waits.again)


class Agents:
    """The agents that are served, by name."""

    def __init__(self, agents: tuple[Agent, ...]) -> None:
        self._by_name = {agent.name: agent for agent in agents}
        self.default = next((agent for agent in agents if agent.default), agents[0])

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._by_name.values())

    def named(self, name: str | None) -> Agent | None:
        """Find an agent by name; without a name, the default one."""
        return self.default if name is None else self._by_name.get(name)

    def snapshot(self, request: Request) -> Snapshot | None:
        """Describe the agent that a request would begin a session with, or `None` if there is none of that name."""
        agent = self.named(request.agent if isinstance(request, StartSession) else None)
        return None if agent is None else Snapshot(agent.name, agent.version, agent.model, agent.budget)
