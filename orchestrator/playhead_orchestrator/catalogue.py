"""Which tools an agent can offer to the model now, and where their calls go.

What a tool's team announced in `agent.catalog` wins; before any announcement, the definition that came with the app
serves, so that an app whose tools live beside its agents needs nobody to have announced them first. Where several pools
announce one name, the pool that the app's definition names is taken, else the first by name: whoever announced last
must not get another team's calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import orjson
from playhead.agents import Agent
from playhead.codec import Codec
from playhead.commands import AnnounceTool
from playhead.errors import Undecodable
from playhead.queue import Queue
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_orchestrator.model import ToolOffer
from playhead_orchestrator.ordering import UNORDERED, Order

__all__ = ["TOOLS_MAX", "Catalogue", "Offered"]

TOOLS_MAX = 10_000
"""The most announced tools that are remembered."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as the model sees it, and how its calls are delivered: see `ToolOptions` for what orders them."""

    offer: ToolOffer
    effect: str
    pool: str
    order: Order = UNORDERED
    key: str | None = None
    reconciles: bool = False


class Catalogue:
    """Follows the announcements. `following` must run for as long as the catalogue is used."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._own = {tool.name: _of_tool(tool) for agent in agents for tool in agent.own_tools}
        self._announced: dict[str, dict[str, Offered]] = {}  # by name, then by pool
        self._known = 0
        self.caught_up = asyncio.Event()

    async def follow(self, queue: Queue, topic: str, codec: Codec) -> None:
        """Read announcements for ever; `caught_up` is set when all that were there at the start are known."""
        async with aclosing(queue.replay(topic, follow=True)) as batches:
            async for messages in batches:
                for message in messages:
                    if not message.value:
                        continue  # an agent that is offered no more
                    try:
                        command = codec.command(message.value)
                    except Undecodable as error:
                        log.warning("skipped an announcement that cannot be read", key=message.key, error=str(error))
                        continue
                    if isinstance(command, AnnounceTool) and command.withdrawn:
                        self._forget(command)
                    elif isinstance(command, AnnounceTool):
                        self._learn(command)
                if not messages:
                    self.caught_up.set()

    def offers(self, agent: Agent) -> dict[str, Offered]:
        """Give the tools of an agent that are known now, by name."""
        offers: dict[str, Offered] = {}
        for name in agent.tool_names:
            offered = self._find(name)
            if offered is None:
                log.warning("no worker has announced this tool yet: the model is not told of it", tool=name)
            else:
                offers[name] = offered
        return offers

    def _find(self, name: str) -> Offered | None:
        own, announced = self._own.get(name), self._announced.get(name)
        if not announced:
            return own
        return announced[own.pool if own is not None and own.pool in announced else min(announced)]

    def named(self, name: str) -> Offered | None:
        """Find a tool by its name, whoever's agent it is of."""
        return self._find(name)

    @property
    def names(self) -> list[str]:
        """The names of all tools that are known."""
        return sorted({*self._own, *self._announced})

    def _forget(self, withdrawn: AnnounceTool) -> None:
        pools = self._announced.get(withdrawn.name, {})
        if pools.pop(withdrawn.pool, None) is not None:
            self._known -= 1
        if not pools:
            self._announced.pop(withdrawn.name, None)

    def _learn(self, announced: AnnounceTool) -> None:
        schema = orjson.loads(announced.input_schema)
        if not isinstance(schema, dict):
            log.warning("skipped a tool whose schema is no object", tool=announced.name, pool=announced.pool)
            return
        pools = self._announced.get(announced.name, {})
        if announced.pool not in pools:
            if self._known >= TOOLS_MAX:
                log.warning("too many tools are announced: this one is not remembered", tool=announced.name)
                return
            self._known += 1
        offer = ToolOffer(announced.name, announced.description, cast("dict[str, Any]", schema))
        pools[announced.pool] = Offered(
            offer,
            announced.effect,
            announced.pool,
            Order(announced.after, announced.exclusive),
            announced.key,
            announced.reconciles,
        )
        self._announced[announced.name] = pools


def _of_tool(tool: Tool[..., object]) -> Offered:
    return Offered(
        ToolOffer(tool.name, tool.description, tool.input_schema),
        tool.effect,
        tool.pool,
        Order(tool.after, tool.exclusive),
        tool.key,
        tool.reconcile is not None,
    )
