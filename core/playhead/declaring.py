"""Checking what `@tool` is given: each option on its own, then those that exclude each other. Says what to change."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, cast

from playhead.errors import Misconfigured
from playhead.options import Breaker, Limit, RateLimit, Sandbox

if TYPE_CHECKING:
    from playhead.arguments import Arguments

__all__ = ["NAME", "Companion", "Effect", "Fallback", "check_name", "checked"]

Effect = Literal["read", "write", "once"]
"""What a call does outside: `read` may be repeated freely, `write` is repeated with the same idempotency key, and
`once` is never started twice."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every model provider takes as the name of a tool. Pools and agents are named alike."""

TIMEOUT_SECONDS_MAX = 24 * 3600
RETRIES_MAX = 100
CONCURRENCY_MAX = 10_000
CACHE_SECONDS_MAX = 7 * 24 * 3600

SECRET = re.compile(r"(env|file):(.+)", re.S)


@dataclass(frozen=True, slots=True)
class Companion:
    """A function that takes the same arguments as the tool that it belongs to."""

    function: Callable[..., object]
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Fallback:
    """What stands in for a tool that does not work: a value, or what a function makes of the same arguments."""

    value: object = None
    function: Companion | None = None


def check_name(kind: str, name: object) -> str:
    """Check the name of a tool, a pool or an agent. Raises `Misconfigured`."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Misconfigured(f"{kind} {name!r}: a name has 1 to 64 of A-Z, a-z, 0-9, `_` and `-`")
    return name


def checked(name: str, options: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """Give the fields of a `Tool` that its options lead to; those of companions are not among them."""
    fields: dict[str, Any] = {
        "effect": _effect(name, options.get("effect", "read")),
        "pool": check_name(f"tool {name}: pool", options.get("pool", "default")),
        "timeout_seconds": _seconds(name, "timeout", options.get("timeout", 60), TIMEOUT_SECONDS_MAX),
        "soft_timeout_seconds": _soft(name, options),
        "retries": _count(name, "retries", options.get("retries", 0), 0, RETRIES_MAX),
        "retry_on": _errors(name, options.get("retry_on", Exception)),
        "concurrency": _count(name, "concurrency", options.get("concurrency", 16), 1, CONCURRENCY_MAX),
        "rate_limit": _rate(name, options.get("rate_limit")),
        "breaker": _breaker(name, options.get("breaker")),
        "cache_seconds": _cache(name, options.get("cache")),
        "approval": _approval(name, options.get("approval", False)),
        "after": _names(name, options.get("after", ())),
        "exclusive": _flag(name, "exclusive", options.get("exclusive", False)),
        "key": _key(name, options.get("key"), arguments),
        "limits": _limits(name, options.get("limits"), arguments),
        "sandbox": _sandbox(name, options.get("sandbox")),
        "secrets": _secrets(name, options.get("secrets", ())),
    }
    _check_together(name, fields, options)
    return fields


def _check_together(name: str, fields: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    effect = fields["effect"]
    if effect == "once" and fields["retries"]:
        raise Misconfigured(f"tool {name}: a `once` tool has no retries: each would start it again")
    if effect != "once" and options.get("reconcile") is not None:
        raise Misconfigured(f"tool {name}: reconcile is for effect 'once'; a {effect!r} tool is simply run again")
    if effect != "read" and fields["cache_seconds"] is not None:
        raise Misconfigured(f"tool {name}: cache is for effect 'read'; a result that stands for a {effect} would lie")
    soft = fields["soft_timeout_seconds"]
    if soft is not None and soft >= fields["timeout_seconds"]:
        raise Misconfigured(f"tool {name}: soft_timeout comes before timeout, which stops the tool")


def _effect(name: str, effect: object) -> Effect:
    if effect not in ("read", "write", "once"):
        raise Misconfigured(f"tool {name}: effect is 'read', 'write' or 'once', not {effect!r}")
    return effect


def _seconds(name: str, option: str, seconds: object, most: float) -> float:
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= most:
        return float(seconds)
    raise Misconfigured(f"tool {name}: {option} is in seconds, more than 0 and at most {most}: {seconds!r}")


def _soft(name: str, options: Mapping[str, Any]) -> float | None:
    seconds = options.get("soft_timeout")
    return None if seconds is None else _seconds(name, "soft_timeout", seconds, TIMEOUT_SECONDS_MAX)


def _cache(name: str, seconds: object) -> float | None:
    return None if seconds is None else _seconds(name, "cache", seconds, CACHE_SECONDS_MAX)


def _count(name: str, option: str, count: object, least: int, most: int) -> int:
    if isinstance(count, int) and not isinstance(count, bool) and least <= count <= most:
        return count
    raise Misconfigured(f"tool {name}: {option} is a whole number from {least} to {most}, not {count!r}")


def _flag(name: str, option: str, flag: object) -> bool:
    if isinstance(flag, bool):
        return flag
    raise Misconfigured(f"tool {name}: {option} is True or False, not {flag!r}")


def _errors(name: str, errors: object) -> tuple[type[BaseException], ...]:
    given = cast("tuple[object, ...]", errors if isinstance(errors, tuple) else (errors,))
    if not all(isinstance(error, type) and issubclass(error, BaseException) for error in given):
        raise Misconfigured(f"tool {name}: retry_on is an exception class or a tuple of them, not {errors!r}")
    return cast("tuple[type[BaseException], ...]", given)


def _rate(name: str, rate: object) -> RateLimit | None:
    if rate is None or isinstance(rate, RateLimit):
        return rate
    if not isinstance(rate, str):
        raise Misconfigured(f"tool {name}: rate_limit is a text like '20/s' or a RateLimit, not {rate!r}")
    try:
        return RateLimit.parse(rate)
    except Misconfigured as error:
        raise Misconfigured(f"tool {name}: {error}") from error


def _breaker(name: str, breaker: object) -> Breaker | None:
    if breaker is None or isinstance(breaker, Breaker):
        return breaker
    return Breaker(_count(name, "breaker", breaker, 1, 1_000_000))


def _approval(name: str, approval: object) -> bool | Callable[[dict[str, Any]], object]:
    if isinstance(approval, bool):
        return approval
    if inspect.iscoroutinefunction(approval):
        raise Misconfigured(f"tool {name}: approval is asked where nothing can be awaited; leave the `async` away")
    if callable(approval):
        return cast("Callable[[dict[str, Any]], object]", approval)
    raise Misconfigured(f"tool {name}: approval is True, False or a function of the arguments, not {approval!r}")


def _names(name: str, after: object) -> tuple[str, ...]:
    given = cast("Sequence[object]", (after,) if isinstance(after, str) or hasattr(after, "name") else after)
    try:
        return tuple(check_name(f"tool {name}: after", getattr(each, "name", each)) for each in given)
    except TypeError as error:
        raise Misconfigured(f"tool {name}: after is a list of tools or their names, not {after!r}") from error


def _key(name: str, key: object, arguments: Arguments) -> str | None:
    return None if key is None else _argument(name, "key", key, arguments)


def _limits(name: str, limits: object, arguments: Arguments) -> Mapping[str, Limit]:
    given = cast("Mapping[object, object]", limits or {})
    if not isinstance(limits, Mapping | None) or not all(isinstance(each, Limit) for each in given.values()):
        raise Misconfigured(f"tool {name}: limits is a dict from an argument's name to a Limit, not {limits!r}")
    return {_argument(name, "limits", each, arguments): cast("Limit", limit) for each, limit in given.items()}


def _argument(name: str, option: str, argument: object, arguments: Arguments) -> str:
    known = arguments.schema.get("properties", {})
    if not isinstance(argument, str) or argument not in known:
        raise Misconfigured(f"tool {name}: {option} names one of its arguments ({', '.join(known)}), not {argument!r}")
    return argument


def _sandbox(name: str, sandbox: object) -> Sandbox | None:
    if sandbox is None or isinstance(sandbox, Sandbox):
        return sandbox
    if isinstance(sandbox, bool):
        return Sandbox() if sandbox else None
    raise Misconfigured(f"tool {name}: sandbox is True or a Sandbox, not {sandbox!r}")


def _secrets(name: str, secrets: object) -> Mapping[str, str]:
    """Take `{"KEY": "env:NAME"}`, or a list of references, whose names are then the variable's or the file's."""
    if isinstance(secrets, Mapping):
        named = cast("Mapping[object, object]", secrets)
    elif isinstance(secrets, Sequence) and not isinstance(secrets, str | bytes):
        given = cast("Sequence[object]", secrets)
        named = {_secret_name(each): each for each in given}
        if len(named) < len(given) and "" not in named:
            raise Misconfigured(f"tool {name}: two of its secrets have one name; give them names with a dict")
    else:
        raise Misconfigured(f"tool {name}: secrets is a list or a dict of references, `env:NAME` or `file:/path`")
    for each, reference in named.items():
        if not isinstance(each, str) or not isinstance(reference, str) or not SECRET.fullmatch(reference):
            # Not shown: who did not know what a reference is may have written the secret itself.
            raise Misconfigured(f"tool {name}: a secret is a reference, `env:NAME` or `file:/path`, never the value")
    return cast("Mapping[str, str]", dict(named))


def _secret_name(reference: object) -> str:
    found = SECRET.fullmatch(reference) if isinstance(reference, str) else None
    if found is None:
        return ""
    return found[2] if found[1] == "env" else PurePath(found[2]).name
