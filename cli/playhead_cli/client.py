"""Asking a gateway: one place for its address, its refusals, and for asking again without asking twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
from playhead.errors import PlayheadError, Unavailable

__all__ = ["Gateway", "Refused", "advice_of", "object_of", "open_gateway", "refusal"]

ANSWER_SECONDS_MAX = 15.0
"""How long one answer may take."""

POST_TRIES_MAX = 3
"""How often a request with an idempotency key is sent when its answer is lost."""


class Refused(PlayheadError):
    """The gateway answered with an error that asking again will not mend."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Gateway:
    """A gateway's JSON side."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, params: dict[str, str | int] | None = None) -> dict[str, Any]:
        """Read something. Raises `Unavailable`, `Refused`."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: dict[str, Any], *, key: str) -> dict[str, Any]:
        """Ask for something once: when an answer is lost, the same key is sent again. Raises as `get` does."""
        for tried in range(POST_TRIES_MAX):
            try:
                return await self._ask("POST", path, json=body, headers={"Idempotency-Key": key})
            except Unavailable as error:
                if tried == POST_TRIES_MAX - 1 or isinstance(error.__cause__, httpx2.ConnectError):
                    raise
                await asyncio.sleep(0.2 * 2**tried)
        raise AssertionError("unreachable")

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:  # httpx2's own parameters
        try:
            response = await self.http.request(method, path, timeout=ANSWER_SECONDS_MAX, **request)
        except httpx2.ConnectError as error:
            raise Unavailable(
                f"nothing answers at {self.http.base_url}: start it with `playhead dev`, or name another with --url"
            ) from error
        except httpx2.TransportError as error:
            raise Unavailable(f"{self.http.base_url} did not answer ({error!r}): try again") from error
        if response.status_code in {429, 502, 503, 504}:
            raise Unavailable(f"{self.http.base_url} is busy ({advice_of(response)}): try again")
        if response.status_code >= 400:
            raise refusal(response)
        return object_of(response.text)


@asynccontextmanager
async def open_gateway(url: str) -> AsyncGenerator[Gateway, None]:
    """Open a client of the gateway at a URL."""
    if not url.startswith(("http://", "https://")):
        raise PlayheadError(f"{url!r} is not the address of a gateway: give one like http://127.0.0.1:4141")
    async with httpx2.AsyncClient(base_url=url, trust_env=not _is_local(url)) as http:
        yield Gateway(http)


def refusal(response: httpx2.Response) -> Refused:
    """Read an RFC 9457 problem (or whatever came instead) into an error."""
    return Refused(response.status_code, advice_of(response))


def advice_of(response: httpx2.Response) -> str:
    """Give the sentence in which a response says what is wrong."""
    problem = object_of(response.text)
    title, detail = problem.get("title"), problem.get("detail")
    said = ": ".join(str(part) for part in (title, detail) if part)
    return said or f"{response.status_code} {response.reason_phrase} from {response.url}"


def object_of(text: str) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_local(url: str) -> bool:
    # A proxy in the environment is for the internet; it would break (and buffer) a stream from this machine.
    return httpx2.URL(url).host in {"127.0.0.1", "localhost", "::1"}
