"""`@tool`: what a team writes to offer a function to agents.

A `Tool` is a declaration: the function, what it takes, and how a worker is to run it. It runs nothing itself, and it
stays callable as the plain function. How calls reach it and where their results go is the worker's affair.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from playhead.context import Running, ToolContext
from playhead.declaring import Companion, Effect, Fallback, check_name, checked
from playhead.errors import Misconfigured, PlayheadError
from playhead.ids import digest
from playhead.options import Breaker, Limit, RateLimit, Sandbox

if TYPE_CHECKING:
    from playhead.arguments import Arguments
    from playhead.returns import Returns
    from playhead.trial import Trial

__all__ = [
    "Companion",
    "Effect",
    "Fallback",
    "Running",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "ToolOptions",
    "check_name",
    "distinct",
    "tool",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class ToolFailed(PlayheadError):
    """Raised by a tool to end its call for good: the model is told the message, and no retry follows."""


class ToolOptions(TypedDict, total=False):
    """What `tool` takes. Seconds everywhere."""

    name: str
    """What the model calls it; the function's name unless given."""
    description: str
    """What the model is told of it; the first part of the docstring unless given."""
    effect: Effect
    """`read` (the default), `write` or `once`."""
    pool: str
    """The group of workers that runs it; `default` unless named."""
    timeout: float
    """How long one try may take before it is stopped; 60 unless given."""
    soft_timeout: float
    """When a try is asked to stop (`ToolContext.cancelled`), so that it can return what it has."""
    retries: int
    """Tries after the first, when one fails or takes too long; 0 unless given."""
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    """Which exceptions are worth another try; `Exception` unless given. Never `ToolFailed`, never bad arguments."""
    breaker: int | Breaker
    """How many failed tries in a row stop it from being tried for 30 s, or a `Breaker`."""
    fallback: object
    """What the agent gets when it does not work: a value, another tool, or a function of the same arguments."""
    rate_limit: str | RateLimit
    """How often it may start in all of the pool: `20/s`, `100/min`, `10/s per tenant`."""
    concurrency: int
    """How many calls of it one worker runs at a time; 16 unless given."""
    cache: float
    """How long a result may answer calls with the same arguments; only for `read`, only of the same tenant."""
    after: object
    """Tools, or their names, whose calls in the same message come first: one, or a list."""
    exclusive: bool
    """Whether nothing else of the same message runs beside it."""
    key: str
    """An argument: calls with the same value of it run one after the other, whatever session they are of."""
    limits: Mapping[str, Limit]
    """What arguments may be beyond their types; a call outside is denied."""
    approval: bool | Callable[[dict[str, Any]], object]
    """Whether a person must approve a call, or a function of the arguments (a dict) that tells."""
    secrets: Sequence[str] | Mapping[str, str]
    """References, `env:NAME` or `file:/path`, perhaps by name; the values are in `ToolContext.secrets`."""
    sandbox: bool | Sandbox
    """How commands that it runs with `ToolContext.run` are confined."""
    reconcile: Callable[..., object]
    """For `once`: a function of the same arguments that finds out what became of a call whose worker was lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Tool(Generic[P, R_co]):
    """A function that agents can call, and how it is to be run. Made by `tool`."""

    function: Callable[P, R_co]
    name: str
    description: str
    arguments: Arguments = field(repr=False)
    effect: Effect = "read"
    pool: str = "default"
    timeout_seconds: float = 60.0
    retries: int = 0
    concurrency: int = 16
    soft_timeout_seconds: float | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    rate_limit: RateLimit | None = None
    breaker: Breaker | None = None
    fallback: Fallback | None = None
    cache_seconds: float | None = None
    approval: bool | Callable[[dict[str, Any]], object] = False
    after: tuple[str, ...] = ()
    exclusive: bool = False
    key: str | None = None
    limits: Mapping[str, Limit] = field(default_factory=lambda: MappingProxyType({}))
    sandbox: Sandbox | None = None
    secrets: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    reconcile: Companion | None = None
    returns: Returns | None = field(default=None, repr=False)
    output_schema: dict[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema of what it returns, where that is declared."""

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

    def needs_approval(self, arguments: Mapping[str, object]) -> bool:
        """Tell whether a person must approve a call with these arguments."""
        return bool(self.approval(dict(arguments))) if callable(self.approval) else self.approval

    @property
    def approval_policy(self) -> Literal["never", "always", "depends"]:
        """When a person must approve a call."""
        if callable(self.approval):
            return "depends"
        return "always" if self.approval else "never"

    async def test(
        self,
        *,
        secrets: Mapping[str, str] | None = None,
        resources: object = None,
        answer: object = None,
        **arguments: object,
    ) -> Trial:
        """Call it as a worker does, without one: for unit tests. Checks the arguments, their limits and the result.

        Gives what the model would read, with all progress and partial output. What the tool raises is raised here;
        arguments that are not right raise `Invalid`. `answer` is a `playhead.content.Answer`.
        """
        from playhead.trial import Surroundings, attempt  # noqa: PLC0415 - only tests pay for it

        return await attempt(self, arguments, Surroundings(secrets or {}, resources, answer))


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
    for option in options:
        if option not in ToolOptions.__annotations__:
            known = ", ".join(ToolOptions.__annotations__)
            raise Misconfigured(f"@tool takes no {option!r}; it takes {known}")

    def declare(function: Callable[P, R_co]) -> Tool[P, R_co]:
        return _declare(function, cast("Mapping[str, Any]", options))

    return declare if function is None else declare(function)


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


def _declare(function: Callable[P, R_co], options: Mapping[str, Any]) -> Tool[P, R_co]:
    from playhead.arguments import describe  # noqa: PLC0415 - pydantic is needed by those who declare a tool only
    from playhead.returns import describe_returns  # noqa: PLC0415

    if not inspect.isfunction(function):
        raise Misconfigured(f"@tool goes on a function, not on {function!r}")
    name = check_name("tool", options.get("name", function.__name__))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise Misconfigured(f"tool {name} yields; return the result, and show parts of it with `ToolContext.emit`")
    plain = cast("Callable[..., object]", function)
    arguments = describe(plain, name, ToolContext)
    description = options.get("description", arguments.description)
    if not isinstance(description, str) or not description.strip():
        raise Misconfigured(f"tool {name} needs a docstring: it is what the model knows of it")
    fields = checked(name, options, arguments)
    returns = describe_returns(plain)
    reconcile = options.get("reconcile")
    return Tool(
        function=cast("Callable[P, R_co]", function),
        name=name,
        description=description.strip(),
        arguments=arguments,
        fallback=_fallback(name, options, arguments),
        reconcile=None if reconcile is None else _companion(name, "reconcile", reconcile, arguments),
        returns=returns,
        output_schema=None if returns is None else returns.schema,
        **fields,
    )


def _fallback(name: str, options: Mapping[str, Any], arguments: Arguments) -> Fallback | None:
    if "fallback" not in options:
        return None
    given = options["fallback"]
    if isinstance(given, Tool) or inspect.isfunction(given):
        return Fallback(function=_companion(name, "fallback", cast("object", given), arguments))
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Misconfigured(
            f"tool {name}: fallback is a value that JSON can carry, a tool or a function, not {given!r}"
        ) from error
    return Fallback(value=given)


def _companion(name: str, option: str, given: object, arguments: Arguments) -> Companion:
    """Take a function that is called with the same arguments. It may leave those out that it has no need of."""
    from playhead.arguments import describe  # noqa: PLC0415

    if isinstance(given, Tool):
        whole = cast("Tool[..., object]", given)
        companion = Companion(whole.function, whole.arguments)
    elif inspect.isgeneratorfunction(given) or inspect.isasyncgenfunction(given):
        raise Misconfigured(f"tool {name}: {option} yields; return the result")
    elif inspect.isfunction(given):
        companion = Companion(given, describe(given, f"{name}: {option}", ToolContext))
    else:
        raise Misconfigured(f"tool {name}: {option} is a function of the tool's arguments, not {given!r}")
    taken, known = companion.arguments.schema.get("properties", {}), arguments.schema.get("properties", {})
    strange = [parameter for parameter in taken if parameter not in known]
    if strange:
        raise Misconfigured(f"tool {name}: {option} takes {', '.join(strange)}, which the tool does not")
    return companion


def _whence(tool: Tool[..., object]) -> str:
    return f"{tool.function.__module__}.{tool.function.__qualname__}"
