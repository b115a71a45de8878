"""From flags to a running command. Like `main` it imports only what it is about to use."""

from __future__ import annotations

import gc
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from playhead.settings import Settings

__all__ = ["begin_collecting", "cluster_settings_of", "finish", "run", "settings_of"]


def run(work: Coroutine[Any, Any, int], *, fast: bool = False) -> int:
    """Run a command to its end and give its exit code; `fast` is for those that serve, and collect once they do."""
    import asyncio

    if not fast:
        gc.enable()
        return asyncio.run(work)
    from playhead_cli.compose import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def begin_collecting() -> None:
    """Collect garbage from now on, and never look at what is there already: modules and classes stay for ever.

    To look at all of it again and again would hold up every stream of the process for a tenth of a second.
    """
    gc.freeze()
    gc.enable()


def finish(code: int) -> None:
    """End the command with an exit code."""
    raise typer.Exit(code)


def settings_of(**flags: object) -> Settings:
    """Read the settings; flags that were given win. A setting that cannot be is wrong usage."""
    from playhead.settings import Settings
    from pydantic import ValidationError

    try:
        return Settings.model_validate({name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]).upper()
        raise typer.BadParameter(f"PLAYHEAD_{name}: {first['msg']}") from error


def cluster_settings_of(**flags: object) -> Settings:
    """Read the settings of a role. Not to name a broker is wrong usage."""
    settings = settings_of(**flags)
    if not settings.kafka:
        raise typer.BadParameter("give HOST:PORT, or set PLAYHEAD_KAFKA", param_hint="--kafka")
    return settings
