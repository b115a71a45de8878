"""What an orchestrator is made of; built by the composition root and handed down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from playhead.agents import Agent
from playhead.codec import Codec
from playhead.commands import Request, StartSession
from playhead.log import SessionLog
from playhead.queue import Queue, Topics
from playhead.session import Snapshot
from playhead.telemetry import Telemetry

from playhead_orchestrator.model import Model

__all__ = ["Agents", "OrchestratorParts"]


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
