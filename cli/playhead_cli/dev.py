"""`playhead dev`: every role as a task of one process, on SQLite. The same code as in a deployment, above the ports."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from playhead.adapters.archive import FolderArchive
from playhead.errors import Misconfigured
from playhead.loading import App, load_app
from playhead.settings import Settings

from playhead_cli import compose, opening
from playhead_cli.access import door_of
from playhead_cli.compose import Running
from playhead_cli.flags import DEFAULT_URL
from playhead_cli.lease import lease_key_in
from playhead_cli.reloading import Reloading
from playhead_cli.running import GRACE_MARGIN_SECONDS, begin_logging, run
from playhead_cli.sources import Sources

__all__ = ["dev"]

DEV_GRACE_SECONDS = 3.0
"""Whoever presses Ctrl-C waits no longer than this: what is cut off goes on at the next start."""


async def dev(reference: str | None, settings: Settings, *, began: float, reload: bool = True) -> int:
    """Serve an app, or without one the built-in example, until told to stop. `reload`: anew when its files change."""
    settings = settings.model_copy(update={"grace_seconds": min(settings.grace_seconds, DEV_GRACE_SECONDS)})
    redactor = begin_logging(settings)
    door = door_of(settings, compose.clock, os.environ, local=True)
    app = opening.example_app(settings, os.environ) if reference is None else load_app(reference)
    if not app.agents:
        raise Misconfigured(f"{reference} defines no agent: make one with `Agent(…)`")
    sources = None if reference is None or not reload else Sources(reference)
    with _alone_in(settings.data):
        async with opening.open_embedded(settings) as store:
            archive = opening.open_archive(settings) or FolderArchive(settings.data / "archive")
            deployment = compose.Deployment(settings, store, redactor, archive)
            await deployment.ports("gateway").queue.prepare(*settings.topics.fixed)
            addresses: list[str] = []
            key = lease_key_in(settings.data)
            gateway = compose.gateway_service(
                deployment,
                lambda address: addresses.append(address.url),
                lease_key=key,
                door=door,
            )
            generation = partial(_generation, deployment, key, gateway)
            async with AsyncExitStack() as stack:
                if sources is None:
                    services = dict(await stack.enter_async_context(generation(app, None)))
                else:
                    reloading = Reloading(sources, app, generation, settings.grace_seconds + GRACE_MARGIN_SECONDS)
                    services = {"app": Running(reloading.serve, reloading.ready)}
                services["gateway"] = gateway
                return await run(services, lambda: _lines(app, settings, addresses[0]), settings, began)


@asynccontextmanager
async def _generation(
    deployment: compose.Deployment, key: bytes, gateway: Running, app: App, before: App | None
) -> AsyncGenerator[Mapping[str, Running], None]:
    """Build what an app takes: its orchestrator, a worker for each pool, the models that it names."""
    settings = deployment.settings
    async with opening.open_models(app.agents, settings) as models:
        pools = compose.pools_of(app.tools)
        await deployment.ports("worker").queue.prepare(*compose.pool_topics(settings.topics, pools))
        services = {
            "orchestrator": compose.orchestrator_service(deployment, app.agents, models, key),
            **compose.worker_services(deployment, app.tools, pools, app.lifespans),
        }
        if before is not None:
            await compose.withdraw(deployment, before, app)
        services["models"] = compose.warm_up_service(models, {**services, "gateway": gateway})
        yield services


def _lines(app: App, settings: Settings, origin: str) -> Sequence[str]:
    models = ", ".join(sorted({agent.model for agent in app.agents}))
    hint = "  (set ANTHROPIC_API_KEY for a real one)" if models == "scripted" else ""
    url = "" if origin == DEFAULT_URL else f" --url {origin}"
    tools = "  ".join(tool.name for tool in app.tools)
    return (
        f"playhead {version('playhead')}  dev   log {settings.data / 'log.db'}   model {models}{hint}",
        f'  api       {origin}/v1   try: playhead send "What time is it in Oslo?"{url}',
        f"  agents    {'  '.join(agent.name for agent in app.agents)}",
        f"  tools     {len(app.tools)}  {tools}".rstrip(),
    )


@contextmanager
def _alone_in(folder: Path) -> Generator[None, None, None]:
    """Hold a data folder. Raises `Misconfigured` if another process does, or if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "dev.lock").open("a+")
    except OSError as error:
        raise Misconfigured(
            f"the data folder {folder} cannot be written ({error.strerror}): give another with --data"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise Misconfigured(
                f"another `playhead dev` (process {holder}) uses {folder}: stop it, or give another folder with --data"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
