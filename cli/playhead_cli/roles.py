"""`playhead orchestrator`, `worker`, `gateway`: one role a process, on Kafka. And the topics that they need."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from playhead.errors import Misconfigured
from playhead.loading import App, load_app
from playhead.settings import Settings

from playhead_cli import compose, opening
from playhead_cli.access import door_of
from playhead_cli.lease import lease_key_of
from playhead_cli.running import begin_logging, run
from playhead_cli.terminal import Terminal

if TYPE_CHECKING:
    from playhead_tool_workers.mcp.host import McpHost

    from playhead_cli.flags import McpFlags

__all__ = ["Served", "create_topics", "gateway", "orchestrator", "worker"]

METRICS_OFF = -1
MCP_POOL = "mcp"


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker serves: pools of an app's tools, and the tools of MCP servers."""

    app: str | None
    pools: tuple[str, ...] = ()
    mcp: McpFlags | None = None

    @property
    def mcp_pool(self) -> str:
        """The pool of the MCP servers' tools: the one that is named, if one alone is."""
        return self.pools[0] if len(self.pools) == 1 else MCP_POOL


async def orchestrator(reference: str, settings: Settings, *, wait_seconds: float, began: float) -> int:
    """Run an orchestrator for the agents of an app."""
    begin_logging(settings)
    key, app = lease_key_of(settings), load_app(reference)
    if not app.agents:
        raise Misconfigured(f"{reference} defines no agent: make one with `Agent(…)`")
    async with (
        opening.open_cluster(settings, client="orchestrator", wait_seconds=wait_seconds) as store,
        opening.open_models(app.agents, settings) as models,
    ):
        deployment = compose.Deployment(settings, store, archive=opening.open_archive(settings))
        pools = compose.pools_of(app.tools)
        topics = (*settings.topics.fixed, *compose.pool_topics(settings.topics, pools))
        await deployment.ports("owner").queue.prepare(*topics)
        services = {"orchestrator": compose.orchestrator_service(deployment, app.agents, models, key)}
        # Before it takes part, unlike `dev`: what it is given may be another's sessions in the middle of a sentence,
        # and those would wait for the SDKs as long as importing them takes.
        await compose.warm_up(models)
        what = f"orchestrator   agents {'  '.join(agent.name for agent in app.agents)}"
        return await _run(deployment, services, what, began)


async def worker(served: Served, settings: Settings, *, wait_seconds: float, began: float) -> int:
    """Run a worker for pools of an app's tools and of MCP servers; without any named, for all of them."""
    redactor = begin_logging(settings)
    app = App((), ()) if served.app is None else load_app(served.app)
    if served.app is not None and not app.tools:
        raise Misconfigured(f"{served.app} defines no tool: decorate a function with `@tool`")
    async with AsyncExitStack() as stack:
        tools, wanted = app.tools, frozenset(served.pools or compose.pools_of(app.tools))
        host: McpHost | None = None
        if served.mcp is not None:
            host = await stack.enter_async_context(opening.open_mcp(served.mcp, served.mcp_pool, redactor))
            tools, wanted = (*tools, *host.tools), wanted | {served.mcp_pool}
        store = await stack.enter_async_context(
            opening.open_cluster(settings, client="worker", wait_seconds=wait_seconds)
        )
        deployment = compose.Deployment(settings, store, redactor, opening.open_archive(settings))
        services = compose.worker_services(
            deployment, tools, wanted, app.lifespans
        )  # before topics are made for a misspelt pool
        if host is not None:
            services["mcp"] = compose.mcp_service(host, app.tools, services[f"worker {served.mcp_pool}"])
        topics = (*settings.topics.fixed, *compose.pool_topics(settings.topics, wanted))
        await deployment.ports("worker").queue.prepare(*topics)
        names = "  ".join(tool.name for tool in tools if tool.pool in wanted)
        return await _run(deployment, services, f"worker   pools {'  '.join(sorted(wanted))}   tools {names}", began)


async def gateway(settings: Settings, *, wait_seconds: float, began: float) -> int:
    """Run a gateway. It answers the probes on its own port."""
    begin_logging(settings)
    door = door_of(settings, compose.clock, os.environ, local=False)
    async with opening.open_cluster(settings, client="gateway", wait_seconds=wait_seconds) as store:
        deployment = compose.Deployment(settings, store, archive=opening.open_archive(settings))
        await deployment.ports("gateway").queue.prepare(*settings.topics.fixed)
        store.warm()
        addresses: list[str] = []
        services = {
            "gateway": compose.gateway_service(
                deployment,
                lambda address: addresses.append(address.url),
                lease_key=lease_key_of(settings) if settings.lease_secret else None,
                door=door,
            )
        }

        def lines() -> Sequence[str]:
            return _lines(settings, "gateway", f"api       {addresses[0]}/v1")

        return await run(services, lines, settings, began)


async def create_topics(settings: Settings, terminal: Terminal, *, pools: Sequence[str], wait_seconds: float) -> int:
    """Create the topics of a deployment that are not there, and say which there are."""
    begin_logging(settings)
    specs = (*settings.topics.fixed, *compose.pool_topics(settings.topics, pools))
    async with opening.open_cluster(settings, client="topics", wait_seconds=wait_seconds) as store:
        before = {state.spec.name: state.partitions for state in (await store.describe(specs)).topics}
        await store.queue.prepare(*specs)
        for state in (await store.describe(specs)).topics:
            was = before[state.spec.name]
            how = "created" if not was else "there already" if was == state.partitions else "grown"
            terminal.line(f"{state.spec.name}  {state.partitions} partitions  {how}")
    return 0


async def _run(deployment: compose.Deployment, services: Mapping[str, compose.Running], what: str, began: float) -> int:
    settings = deployment.settings
    addresses: list[str] = []
    beside: dict[str, compose.Running] = {}
    if settings.metrics_port != METRICS_OFF:
        beside["probes"] = compose.probes_service(deployment, services, lambda address: addresses.append(str(address)))

    def lines() -> Sequence[str]:
        probes = f"probes    http://{addresses[0]}/readyz  /livez  /metrics" if addresses else "probes    off"
        return _lines(settings, what, probes)

    return await run({**services, **beside}, lines, settings, began)


def _lines(settings: Settings, what: str, where: str) -> Sequence[str]:
    return (f"playhead {version('playhead')}  {what}   kafka {settings.kafka}", f"  {where}")
