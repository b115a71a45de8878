"""MCP servers as a pool of tools: what they offer now, and word when that changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Self

from playhead.errors import Misconfigured
from playhead.redaction import Redactor
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_tool_workers.mcp.calling import RemoteTool
from playhead_tool_workers.mcp.connection import Connection, Surroundings
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.offering import name_of, offered
from playhead_tool_workers.mcp.servers import Offer, Server
from playhead_tool_workers.mcp.transports import Reach, reach

__all__ = ["McpHost", "OnChange"]

OnChange = Callable[[Sequence[Tool[..., object]]], Awaitable[None]]
"""Told all tools that are offered now, after each change. It may take its time: what changes meanwhile comes next."""

log = logger(__name__)


class McpHost:
    """The servers of one process: started on entering, ended on leaving. `tools` is what they offer now.

    A tool that did not change stays the same object, whatever happens to the others and to the connection. The servers'
    secrets are registered with `redactor`, and kept out of all that comes from them.
    """

    def __init__(  # noqa: PLR0913 - all but two are options by name
        self,
        servers: Sequence[Server],
        offer: Offer,
        *,
        limits: McpLimits | None = None,
        redactor: Redactor | None = None,
        reach_by: Reach | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not servers:
            raise Misconfigured("no MCP server is named")
        self.tools: tuple[Tool[..., object], ...] = ()
        self._offer = offer
        self._limits = limits or McpLimits()
        self._changed = asyncio.Event()
        keeping_out = redactor or Redactor()
        for server in servers:
            keeping_out.register(server.secrets)
        way = reach_by or partial(reach, seconds=offer.timeout_seconds)
        parts = Surroundings(self._limits, way, keeping_out.redact, chance)
        self._connections = [Connection(one, parts, self._changed.set) for one in servers]
        self._made: dict[tuple[Connection, str], Tool[..., object]] = {}

    async def __aenter__(self) -> Self:
        """Start all servers and learn what they offer. Raises `Misconfigured`."""
        try:
            async with asyncio.TaskGroup() as group:
                for connection in self._connections:
                    group.create_task(connection.start())
            self._refuse_same_names()
            self.tools = self._collect(strict=True)
        except BaseExceptionGroup as failures:
            await self.close()
            raise failures.exceptions[0] from failures.exceptions[0].__cause__
        except BaseException:
            await self.close()
            raise
        self._changed.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all servers."""
        async with asyncio.TaskGroup() as group:
            for connection in self._connections:
                group.create_task(connection.close())

    async def serve(self, stop: asyncio.Event, on_change: OnChange | None = None) -> None:
        """Pass changes on until `stop`. What keeps the servers cannot fail but by a mistake of ours, raised here."""
        keeping = [connection.task for connection in self._connections if connection.task is not None]
        while not stop.is_set():
            loop = asyncio.get_running_loop()
            waiting = [loop.create_task(event.wait()) for event in (stop, self._changed)]
            try:
                await asyncio.wait([*waiting, *keeping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            for task in keeping:
                if task.done():
                    task.result()
            if self._changed.is_set():
                self._changed.clear()
                await self._pass_on(on_change)

    async def _pass_on(self, on_change: OnChange | None) -> None:
        before, self.tools = self.tools, self._collect(strict=False)
        if self.tools == before:
            return
        names, old = {tool.name for tool in self.tools}, {tool.name for tool in before}
        log.info("MCP servers offer other tools", added=sorted(names - old), withdrawn=sorted(old - names))
        if on_change is not None:
            await on_change(self.tools)

    def _refuse_same_names(self) -> None:
        named: dict[str, Connection] = {}
        for connection in self._connections:
            if connection.name is None:
                raise Misconfigured(f"the {connection.server.label} does not say its name: give it one, `--mcp NAME=…`")
            known = named.setdefault(connection.name, connection)
            if known is not connection:
                both = f"the {known.server.label} and the {connection.server.label}"
                raise Misconfigured(f"{both} are both named {connection.name!r}: give one another, `--mcp NAME=…`")

    def _collect(self, *, strict: bool) -> tuple[Tool[..., object], ...]:
        """Declare what the servers list. Not `strict`, tools that clash with others are left out, and logged."""
        found: dict[str, Tool[..., object]] = {}
        made: dict[tuple[Connection, str], Tool[..., object]] = {}
        for connection in self._connections:
            for key, tool in self._declared(connection).items():
                if tool.name in found:
                    why = (
                        f"two tools of MCP servers are both named {tool.name!r}: rename a server with `--mcp NAME=…`, "
                    )
                    why += "or leave one out with --mcp-allow"
                    if strict:
                        raise Misconfigured(why)
                    log.error("a tool is not offered", why=why)
                    continue
                made[connection, key] = found[tool.name] = tool
        if strict and not found:
            allowed = f" that fits --mcp-allow {' '.join(self._offer.allow)}" if self._offer.allow else ""
            labels = ", ".join(f"the {connection.server.label}" for connection in self._connections)
            raise Misconfigured(f"{labels}: no tool is offered{allowed}")
        self._made = made
        return tuple(found.values())

    def _declared(self, connection: Connection) -> Mapping[str, Tool[..., object]]:
        """Declare one server's tools, by all that it says of each."""
        tools: dict[str, Tool[..., object]] = {}
        server = connection.name or ""
        for remote in connection.tools:
            if not self._offer.allows(remote.name):
                continue
            key = remote.model_dump_json()
            known = self._made.get((connection, key))
            try:
                call = RemoteTool(connection, remote.name).call
                tools[key] = known or offered(server, remote, self._offer, self._limits, call)
            except Misconfigured as error:
                log.warning("a tool is not offered", server=connection.server.label, tool=name_of(server, remote.name),
                            why=str(error))  # fmt: skip
        return tools
