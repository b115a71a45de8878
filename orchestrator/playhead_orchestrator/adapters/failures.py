"""What a provider's refusals mean for an attempt: one table of HTTP statuses for every provider. Pure.

Which are worth another try follows the providers' own clients: 408, 409, 429, 5xx and lost connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

from playhead_orchestrator.model import ModelFailed

__all__ = ["GARBAGE", "broken", "from_status", "retry_after", "timed_out", "unreachable"]

RETRYABLE = {408: "timeout", 409: "unavailable", 429: "rate_limited", 503: "overloaded", 529: "overloaded"}
REFUSED_KEY = {401, 403}

GARBAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON raises that is not of the form that its provider describes, or no JSON at all."""


def from_status(status: int, message: str, headers: Mapping[str, str], now: float) -> ModelFailed:
    """Translate an HTTP error. `headers` are looked up in lower case; `now` in seconds since the epoch."""
    if status in REFUSED_KEY:
        code, retryable = "authentication", False
    elif status in RETRYABLE:
        code, retryable = RETRYABLE[status], True
    else:
        code, retryable = ("unavailable", True) if status >= 500 else ("invalid_request", False)
    # Both providers may overrule the rule for one answer, as their own clients let them.
    retryable = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), retryable)
    return ModelFailed(code, message, retryable, retry_after(headers, now) if retryable else None)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read how many seconds to wait: `retry-after-ms`, or `retry-after` as seconds or as a date (RFC 9110 10.2.3)."""
    seconds: float | None = None
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError):
            seconds = float(headers.get(name, "")) * unit
            break
    else:
        with suppress(ValueError, OverflowError):
            seconds = parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now
    # A date that has passed says nothing; neither do `nan` and `inf`, which `float` reads.
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def broken(why: str) -> ModelFailed:
    """Say that a stream ended, or went wrong, before its message was whole."""
    return ModelFailed("stream_broken", why, retryable=True)


def timed_out(why: str) -> ModelFailed:
    """Say that the provider was silent for too long."""
    return ModelFailed("timeout", why, retryable=True)


def unreachable(why: str) -> ModelFailed:
    """Say that the provider cannot be reached."""
    return ModelFailed("unavailable", why, retryable=True)
