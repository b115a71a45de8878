"""`@lifespan`: what a pool's tools share in each process, such as connections: made at its start, closed at its end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from playhead.errors import Misconfigured
from playhead.tools import check_name

__all__ = ["Lifespan", "lifespan"]

Opens = Callable[[], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True, eq=False)
class Lifespan:
    """What a worker of `pool` opens before its first call and closes after its last. Made by `lifespan`."""

    pool: str
    open: Callable[[], AbstractAsyncContextManager[Any]]


def lifespan(pool: str = "default") -> Callable[[Opens], Lifespan]:
    """Have a worker of `pool` run an `async` generator function around its life: `@lifespan(pool="billing")`.

    What it yields, once, is `ToolContext.resources` for every call. Raises `Misconfigured`.
    """
    if not isinstance(pool, str):  # pyright: ignore[reportUnnecessaryIsInstance] - `@lifespan` without parentheses
        raise Misconfigured('write `@lifespan()` or `@lifespan(pool="…")`, with parentheses')
    check_name("lifespan: pool", pool)

    def declare(function: Opens) -> Lifespan:
        if not inspect.isasyncgenfunction(function):
            raise Misconfigured("@lifespan goes on an `async def` that yields, once, what the pool's tools share")
        needed = [one.name for one in inspect.signature(function).parameters.values() if _must_be_given(one)]
        if needed:
            raise Misconfigured(f"@lifespan: nobody gives {function.__name__} its {', '.join(needed)}")
        return Lifespan(pool, asynccontextmanager(function))

    return declare


def _must_be_given(parameter: inspect.Parameter) -> bool:
    starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not starred
