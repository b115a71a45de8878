"""Asking a gateway: its address, its token, its refusals, and asking again without asking twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, cast

import httpx2

from playhead.errors import PlayheadError, Unavailable

__all__ = [
    "BUSY",
    "RETRY_AFTER_SECONDS_MAX",
    "Asking",
    "Refused",
    "Token",
    "advice_of",
    "object_of",
    "refusal",
    "retry_after_of",
    "text_in",
]

ANSWER_SECONDS_MAX = 15.0
"""How long one answer may take."""

POST_TRIES_MAX = 3
"""How often a request with an idempotency key is sent when its answer is lost."""

POST_WAIT_SECONDS = 0.2
"""The bound of the first wait between two tries; it doubles."""

RETRY_AFTER_SECONDS_MAX = 30.0
"""How long a gateway may have itself waited for, whatever it says."""

CONNECTIONS_MAX = 1_000
"""How many streams and requests one client has open at a time; httpx2's own bound of 100 would starve streams."""

BUSY = frozenset({429, 502, 503, 504})
"""The statuses of answers that may be others a moment later."""

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or what gives one that is still good: awaited before each request, and before each reconnect."""


class Refused(PlayheadError):
    """The gateway answered with an error that asking again will not mend. `code` is its problem's (protocol P28)."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class _Busy(Unavailable):
    """The gateway asks to be asked later."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Asking:
    """A gateway's JSON side, and the connections (`http`) that streams use as well. Close it."""

    def __init__(self, url: str, token: Token | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise PlayheadError(f"{url!r} is not the address of a gateway: give one like http://127.0.0.1:4141")
        self.http = httpx2.AsyncClient(
            base_url=url,
            # A proxy in the environment is for the internet; it would break (and buffer) a stream from this machine.
            trust_env=httpx2.URL(url).host not in {"127.0.0.1", "localhost", "::1"},
            auth=None if token is None else _Bearer(token),
            limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """Read something. Raises `Unavailable`, `Refused`."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """Ask for something once: when an answer is lost, the same key is sent again. Raises as `get` does."""
        for tried in range(POST_TRIES_MAX):
            try:
                return await self._ask("POST", path, json=body, headers={"Idempotency-Key": key})
            except Unavailable as error:
                if tried == POST_TRIES_MAX - 1 or isinstance(error.__cause__, httpx2.ConnectError):
                    raise
                wait = POST_WAIT_SECONDS * 2**tried * random.uniform(0.5, 1)
                await asyncio.sleep(max(wait, error.retry_after_seconds) if isinstance(error, _Busy) else wait)
        raise AssertionError("unreachable")

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:  # httpx2's own parameters
        try:
            response = await self.http.request(method, path, timeout=ANSWER_SECONDS_MAX, **request)
        except httpx2.ConnectError as error:
            raise Unavailable(
                f"nothing answers at {self.http.base_url}: start a gateway (`playhead dev`), or give another address"
            ) from error
        except httpx2.RequestError as error:  # also a body that is not compressed as it says
            raise Unavailable(f"{self.http.base_url} did not answer ({error!r}): try again") from error
        if response.status_code in BUSY:
            busy = f"{self.http.base_url} is busy ({advice_of(response)}): try again"
            raise _Busy(busy, retry_after_of(response))
        if response.status_code >= 400:
            raise refusal(response)
        return object_of(response.content)


class _Bearer(httpx2.Auth):
    """Sends a token; one that is refused is asked for anew, once: it may have expired on its way."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send a request, perhaps twice, as httpx2 has it."""
        if isinstance(self._token, str):
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request
            return
        request.headers["Authorization"] = f"Bearer {await self._token()}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {await self._token()}"
            yield request


def refusal(response: httpx2.Response) -> Refused:
    """Read an RFC 9457 problem (or whatever came instead) into an error."""
    code: object = object_of(response.content).get("code")
    return Refused(response.status_code, advice_of(response), code if isinstance(code, str) else "")


def advice_of(response: httpx2.Response) -> str:
    """Give the sentence in which a response says what is wrong."""
    problem = object_of(response.content)
    parts: tuple[object, ...] = problem.get("title"), problem.get("detail")
    said = ": ".join(part for part in parts if part and isinstance(part, str))
    return said or f"{response.status_code} {response.reason_phrase} from {response.url}"


def retry_after_of(response: httpx2.Response) -> float:
    """Give for how many seconds a gateway asks to be left alone: those of `Retry-After`, within bounds, or none."""
    given = response.headers.get("retry-after", "")
    return min(float(given), RETRY_AFTER_SECONDS_MAX) if given.isascii() and given.isdigit() else 0.0


def text_in(answer: Mapping[str, Any], name: str) -> str:
    """Give a text that an answer must have. Raises `PlayheadError`."""
    value = answer.get(name)
    if not isinstance(value, str):
        raise PlayheadError(f"the answer has no {name!r}: is it of a Playhead gateway?")
    return value


def object_of(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
