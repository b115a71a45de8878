"""The connection to one server: started, kept, started again when it ends, and told of changes.

One task owns the SDK's client from its beginning to its end, as the SDK demands; calls come from other tasks. A server
that ends is started again, with growing delays, for as long as the worker lives. The client is given up on by a scope
of anyio's alone: the SDK ends a program behind a shield against those. `Task.cancel` breaks it, and the SDK then waits
for as long as the program lives.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import anyio
import httpx2
import mcp.types as mcp_types
from mcp import Client, ClientSession, MCPError
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.client.subscriptions import SubscriptionLost
from playhead.errors import Misconfigured, Unavailable
from playhead.telemetry import logger

from playhead_tool_workers.mcp.hiding import Redact
from playhead_tool_workers.mcp.limits import McpLimits
from playhead_tool_workers.mcp.servers import Server
from playhead_tool_workers.mcp.transports import Reach, Words, watched

__all__ = ["Connection", "Surroundings"]

MODERN = "2026-07-28"
"""The first protocol version whose servers are asked for changes, and ask users between calls."""

NO_QUESTIONS = (
    "Playhead asks users between calls, not while one runs: this needs a server that returns what it requires "
    "(MCP 2026-07-28, input_required)"
)

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a process share. `chance` gives numbers in [0, 1)."""

    limits: McpLimits
    reach: Reach
    redact: Redact
    chance: Callable[[], float]


class Connection:
    """The connection to one server. `changed` is called when it offers other tools than before."""

    def __init__(self, server: Server, parts: Surroundings, changed: Callable[[], None]) -> None:
        self.server = server
        self.redact = parts.redact
        self.tools: tuple[mcp_types.Tool, ...] = ()
        self.name: str | None = server.name
        """The server's name: the operator's, or else its own."""
        self._limits, self._reach, self._chance, self._changed = parts.limits, parts.reach, parts.chance, changed
        self._words = Words(server, parts.limits, parts.redact)
        self._task: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._scope = anyio.CancelScope()
        self._up = asyncio.Event()
        self._known = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = self._stale = self._closing = False
        self._trouble = ""

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What keeps the connection. It ends before `close` only by a mistake of ours."""
        return self._task

    async def start(self) -> None:
        """Connect and list the tools. Raises `Misconfigured` if that does not work, or not in time."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=self.server.label)
        knowing = asyncio.get_running_loop().create_task(self._known.wait())
        try:
            await asyncio.wait(
                {self._task, knowing}, timeout=self._limits.start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            knowing.cancel()
        if self._task.done():
            self._task.result()
        if not self._known.is_set():
            await self.close()
            seconds, trouble = self._limits.start_seconds, f": {self._trouble}" if self._trouble else ""
            raise Misconfigured(f"the {self.server.label} has not started within {seconds:g} s{trouble}{self._words}")

    async def close(self) -> None:
        """End the server, or leave it to its end."""
        self._closing = True
        self._wake.set()
        if self._task is None:
            return
        if self._session is None:
            self._scope.cancel()
        _, running = await asyncio.wait({self._task}, timeout=self._limits.close_seconds)
        if running:
            self._scope.cancel()
            _, running = await asyncio.wait({self._task}, timeout=self._limits.close_seconds)
        if running:
            log.warning("an MCP server does not end; leaving it", server=self.server.label)
            self._task.cancel()

    async def session(self) -> ClientSession:
        """Give what to call with. Raises `Unavailable` if the server is not there, nor soon."""
        if self._session is None:
            try:
                async with asyncio.timeout(self._limits.patience_seconds):
                    await self._up.wait()
            except TimeoutError:
                raise Unavailable(f"the {self.server.label} is not there; it is being started again") from None
        if self._session is None:
            raise Unavailable(f"the {self.server.label} has just ended")
        return self._session

    def relist(self) -> None:
        """List the tools again: they may not be what they were."""
        self._stale = True
        self._wake.set()

    def shown(self, error: BaseException) -> str:
        """Say what went wrong, without secrets."""
        return self.redact(f"{type(error).__name__}: {error}")

    def _end(self) -> None:
        self._ended = True
        self._session = None  # at once: calls are to wait for the next one
        self._up.clear()
        self._wake.set()

    async def _keep(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while not self._closing:
            began = loop.time()
            try:
                await self._once()
                self._trouble = "it ended"
            except Exception as failure:
                cause = _leaf(failure)
                self._trouble = self.shown(cause)
                # What does not answer may come yet, and `start` gives up on it.
                if not self._known.is_set() and not isinstance(cause, httpx2.TransportError | TimeoutError):
                    why = f"the {self.server.label} cannot be used: {self._trouble}{self._words}"
                    raise Misconfigured(why) from failure
            if self._closing:
                return
            failures = failures + 1 if loop.time() - began < self._limits.steady_seconds else 1
            delay_seconds = self._limits.reconnect.delay_seconds(failures, self._chance())
            log.warning("an MCP server is gone; connecting again", server=self.server.label, error=self._trouble,
                        failures=failures, delay_seconds=round(delay_seconds, 1))  # fmt: skip
            self._wake.clear()
            await self._woken(delay_seconds)

    async def _once(self) -> None:
        self._ended = self._stale = False
        client = Client(
            watched(self._reach(self.server, self._words, self._end), self._end),  # pyright: ignore[reportArgumentType]  its Protocol also asks for a base class
            client_info=mcp_types.Implementation(name="playhead", version=importlib.metadata.version("playhead")),
            elicitation_callback=_refuse,
            message_handler=self._hear,
            cache=None,
        )
        with anyio.move_on_after(self._limits.start_seconds) as self._scope:
            async with client:
                await self._list(client)
                if self._ended:
                    raise Unavailable("it ended at once")
                self._scope.deadline = math.inf
                self._session = client.session
                self._up.set()
                self._known.set()
                log.info("an MCP server is connected", server=self.server.label, name=self.name, tools=len(self.tools),
                         protocol=client.protocol_version)  # fmt: skip
                try:
                    await self._attend(client)
                finally:
                    self._end()
        if self._scope.cancelled_caught:
            raise TimeoutError("no answer")

    async def _attend(self, client: Client) -> None:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(client))
            again: float | None = None
            while not (self._ended or self._closing):
                if self._stale or again is not None:
                    self._stale = False
                    again = await self._try_list(client)
                await self._woken(again)
            listening.cancel()

    async def _woken(self, seconds: float | None) -> None:
        """Wait until something happened, or so long."""
        if not self._wake.is_set():
            waiting = asyncio.get_running_loop().create_task(self._wake.wait())
            try:
                await asyncio.wait({waiting}, timeout=seconds)
            finally:
                waiting.cancel()
        self._wake.clear()

    async def _try_list(self, client: Client) -> float | None:
        """List the tools; give after how many seconds to try again if that failed."""
        try:
            async with asyncio.timeout(self._limits.start_seconds):
                await self._list(client)
        except (MCPError, TimeoutError, Misconfigured, ValueError) as error:
            log.warning("cannot list the tools of an MCP server; trying again", server=self.server.label,
                        error=self.shown(error))  # fmt: skip
            return self._limits.relist_seconds
        return None

    async def _list(self, client: Client) -> None:
        tools: list[mcp_types.Tool] = []
        cursor: str | None = None
        for _ in range(self._limits.pages_max):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None or len(tools) > self._limits.tools_max:
                break
        if cursor is not None or len(tools) > self._limits.tools_max:
            most = f"{self._limits.tools_max} tools on {self._limits.pages_max} pages"
            raise Misconfigured(f"the {self.server.label} lists more than {most}")
        if self.name is None and client.server_info is not None:
            self.name = client.server_info.name
        if self.tools != tuple(tools):
            self.tools = tuple(tools)
            self._changed()

    async def _listen(self, client: Client) -> None:
        """Hear of changes, of servers that must be asked to tell; the others tell unasked."""
        failures = 0
        while client.protocol_version >= MODERN and client.server_capabilities.tools is not None:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    if not changes.honored.tools_list_changed:
                        return
                    failures = 0
                    self.relist()  # nothing is told again that changed before
                    async for _ in changes:
                        self.relist()
            except MCPError as error:
                if error.code in {mcp_types.METHOD_NOT_FOUND, mcp_types.INVALID_PARAMS, mcp_types.INVALID_REQUEST}:
                    return
                log.debug("cannot hear of changes; trying again", server=self.server.label, error=self.shown(error))
            except (SubscriptionLost, TimeoutError) as error:
                log.debug("cannot hear of changes; trying again", server=self.server.label, error=self.shown(error))
            failures += 1
            await asyncio.sleep(self._limits.reconnect.delay_seconds(failures, self._chance()))

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.relist()


async def _refuse(
    context: ClientRequestContext, params: mcp_types.ElicitRequestParams
) -> mcp_types.ElicitResult | mcp_types.ErrorData:
    """Answer a server that asks while a call runs. A refusal, not a decline: no user has declined anything."""
    return mcp_types.ErrorData(code=mcp_types.INVALID_REQUEST, message=NO_QUESTIONS)


def _leaf(error: BaseException) -> BaseException:
    """Give the first error in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
