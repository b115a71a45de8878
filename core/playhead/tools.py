"""`@tool`: what a team writes to offer a function to agents.

A `Tool` is a declaration: the function, what it takes, and how a worker is to run it. It runs nothing itself, and it
stays callable as the plain function. How calls reach it and where their results go is the worker's affair.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from playhead.errors import Misconfigured, PlayheadError
from playhead.ids import CallId, SessionId, digest

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    from playhead.arguments import Arguments

__all__ = ["Effect", "Running", "Tool", "ToolContext", "ToolFailed", "ToolOptions", "check_name", "distinct", "tool"]

Effect = Literal["read", "write"]
"""What a call does outside: `read` may be repeated freely, `write` is repeated with the same idempotency key."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every model provider takes as the name of a tool. Pools and agents are named alike."""

TIMEOUT_SECONDS_MAX = 24 * 3600
RETRIES_MAX = 100
CONCURRENCY_MAX = 10_000

DEFAULTS: Mapping[str, Any] = {"effect": "read", "pool": "default", "timeout": 60, "retries": 0, "concurrency": 16}

NOT_YET = frozenset(
    {
        "after", "approval", "cache", "exclusive", "fallback", "rate_limit", "reconcile", "sandbox", "secrets",
        "soft_timeout",
    }
)  # fmt: skip
"""What the design names and this version does not do. Refused, so that nobody believes to be protected by it."""

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class ToolFailed(PlayheadError):
    """Raised by a tool to end its call for good: the model is told the message, and no retry follows."""


class ToolOptions(TypedDict, total=False):
    """What `tool` takes."""

    effect: Effect
    """`read` (the default) or `write`."""
    pool: str
    """The group of workers that runs it; `default` unless named."""
    timeout: float
    """Seconds that one try may take before it is stopped; 60 unless given."""
    retries: int
    """Tries after the first, when one fails or takes too long; 0 unless given."""
    concurrency: int
    """How many calls of it one worker runs at a time; 16 unless given."""
    name: str
    """What the model calls it; the function's name unless given."""
    description: str
    """What the model is told of it; the first part of the docstring unless given."""


class Running(Protocol):
    """What the worker knows of a try while it runs. Any thread may ask."""

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the call any more, or its time is up."""
        ...

    def remaining(self) -> float:
        """Tell how many seconds this try has left: 0 or more."""
        ...

    def progress(self, done: float, total: float | None, message: str | None) -> Awaitable[None]:
        """Take note of how far the call is."""
        ...

    def emit(self, output: object) -> Awaitable[None]:
        """Publish a part of the output."""
        ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its call and say while it runs.

    A parameter annotated with this class is filled in by the worker and hidden from the model. In a function that is
    not `async`, which runs in a thread, leave the `await` before `progress` and `emit` away: they work without.
    """

    session_id: SessionId
    call_id: CallId
    idempotency_key: str
    """The same however often the call is delivered or tried: hand it to whatever must not happen twice."""
    try_number: int
    """1 for the first try."""
    deadline: datetime
    """When this try's time is up, in UTC. To count down, ask `remaining`: it minds no clock changes."""
    log: BoundLogger
    """A logger that knows the session, the run and the call."""
    running: Running = field(repr=False)

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the result, or the time is up. A thread must look: it cannot be stopped."""
        return self.running.cancelled

    def remaining(self) -> float:
        """Tell how many seconds this try has left: 0 or more."""
        return self.running.remaining()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Say how far the call is, in any unit. Never waits; at most four a second are shown; it cannot go back."""
        return self.running.progress(done, total, message)

    def emit(self, output: object) -> Awaitable[None]:
        """Show a part of the output (anything that JSON can carry) before the result replaces it."""
        return self.running.emit(output)


@dataclass(frozen=True, slots=True, eq=False)
class Tool(Generic[P, R_co]):
    """A function that agents can call, and how it is to be run. Made by `tool`."""

    function: Callable[P, R_co]
    name: str
    description: str
    arguments: Arguments = field(repr=False)
    effect: Effect
    pool: str
    timeout_seconds: float
    retries: int
    concurrency: int

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The plain function, for `inspect`."""
        return self.function

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return self.arguments.schema

    @property
    def schema_hash(self) -> str:
        """A digest of the JSON Schema: the same for the same schema, whatever the order of its keys."""
        return digest("tool schema", json.dumps(self.input_schema, sort_keys=True, separators=(",", ":")))


@overload
def tool(function: Callable[P, R_co], /) -> Tool[P, R_co]: ...


@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[P, R_co]], Tool[P, R_co]]: ...


def tool(
    function: Callable[P, R_co] | None = None, /, **options: Unpack[ToolOptions]
) -> Tool[P, R_co] | Callable[[Callable[P, R_co]], Tool[P, R_co]]:
    """Offer a function to agents: `@tool`, or `@tool(effect="write", timeout=5, retries=3)`.

    Its schema comes from its type hints, its description from its docstring. A function that is not `async` runs in a
    thread. Raises `Misconfigured`, which says what to change.
    """
    chosen = {**DEFAULTS, **options}
    _refuse_unknown(chosen)

    def declare(function: Callable[P, R_co]) -> Tool[P, R_co]:
        return _declare(function, chosen)

    return declare if function is None else declare(function)


def check_name(kind: str, name: object) -> str:
    """Check the name of a tool, a pool or an agent. Raises `Misconfigured`."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Misconfigured(f"{kind} {name!r}: a name has 1 to 64 of A-Z, a-z, 0-9, `_` and `-`")
    return name


def distinct(tools: Iterable[Tool[..., object]]) -> tuple[Tool[..., object], ...]:
    """Drop repeated mentions of a tool. Raises `Misconfigured` where two different tools have one name."""
    by_name: dict[str, Tool[..., object]] = {}
    for each in tools:
        known = by_name.setdefault(each.name, each)
        if known is not each:
            raise Misconfigured(
                f"two tools are named {each.name!r} ({_whence(known)} and {_whence(each)}); rename one with "
                "`@tool(name=…)`"
            )
    return tuple(by_name.values())


def _refuse_unknown(options: Mapping[str, object]) -> None:
    for option in options:
        if option in NOT_YET:
            raise Misconfigured(
                f"@tool({option}=…) is not supported by this version; remove it, or wait for one that is"
            )
        if option not in ToolOptions.__annotations__:
            known = ", ".join(ToolOptions.__annotations__)
            raise Misconfigured(f"@tool takes no {option!r}; it takes {known}")


def _declare(function: Callable[P, R_co], options: Mapping[str, Any]) -> Tool[P, R_co]:
    from playhead.arguments import describe  # noqa: PLC0415 - pydantic is needed by those who declare a tool only

    if not inspect.isfunction(function):
        raise Misconfigured(f"@tool goes on a function, not on {function!r}")
    name = check_name("tool", options.get("name", function.__name__))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise Misconfigured(f"tool {name} yields; return the result, and show parts of it with `ToolContext.emit`")
    arguments = describe(cast("Callable[..., object]", function), name, ToolContext)
    description = options.get("description", arguments.description)
    if not isinstance(description, str) or not description.strip():
        raise Misconfigured(f"tool {name} needs a docstring: it is what the model knows of it")
    return Tool(
        function=cast("Callable[P, R_co]", function),
        name=name,
        description=description.strip(),
        arguments=arguments,
        effect=_effect(name, options["effect"]),
        pool=check_name(f"tool {name}: pool", options["pool"]),
        timeout_seconds=_seconds(name, options["timeout"]),
        retries=_count(name, "retries", options["retries"], 0, RETRIES_MAX),
        concurrency=_count(name, "concurrency", options["concurrency"], 1, CONCURRENCY_MAX),
    )


def _effect(name: str, effect: object) -> Effect:
    match effect:
        case "read":
            return "read"
        case "write":
            return "write"
        case "once":
            raise Misconfigured(f"tool {name}: effect 'once' is not supported by this version: it could run twice")
        case _:
            raise Misconfigured(f"tool {name}: effect is 'read' or 'write', not {effect!r}")


def _seconds(name: str, timeout: object) -> float:
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout <= TIMEOUT_SECONDS_MAX:
        return float(timeout)
    raise Misconfigured(
        f"tool {name}: timeout is in seconds, more than 0 and at most {TIMEOUT_SECONDS_MAX}: {timeout!r}"
    )


def _count(name: str, option: str, count: object, least: int, most: int) -> int:
    if isinstance(count, int) and not isinstance(count, bool) and least <= count <= most:
        return count
    raise Misconfigured(f"tool {name}: {option} is a whole number from {least} to {most}, not {count!r}")


def _whence(tool: Tool[..., object]) -> str:
    return f"{tool.function.__module__}.{tool.function.__qualname__}"
