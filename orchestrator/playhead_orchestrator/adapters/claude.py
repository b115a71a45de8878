"""`ClaudeModel`: the models of Anthropic, by its SDK. The only module that knows the SDK.

The SDK finds the credentials, holds the connections and names the errors. Its stream helpers build a snapshot a delta,
which costs more CPU than all else that Playhead does with one; so the body's bytes are read here as they come
(`bench/model_reading.py` has the figures).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from playhead_orchestrator.adapters.claude_wire import ClaudeStream, body_of
from playhead_orchestrator.adapters.failures import from_status, timed_out, unreachable
from playhead_orchestrator.adapters.lazy import LazyClient
from playhead_orchestrator.adapters.reading import read_message, reason
from playhead_orchestrator.model import ModelFailed, ModelRequest, Said

if TYPE_CHECKING:
    from anthropic import AnthropicError, AsyncAnthropic

__all__ = ["ClaudeModel"]

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 180.0
"""The longest wait for the next bytes. The provider sends pings every few seconds while a model thinks."""
SEND_SECONDS = 60.0
"""The longest wait to send a part of the request, and for a free connection of the pool."""

NO_KEY = "no credentials for Anthropic: set ANTHROPIC_API_KEY (or use the model `scripted`, which needs none)"


class ClaudeModel:
    """Speaks to Anthropic. Without arguments the SDK's own environment variables hold."""

    provider = "anthropic"

    def __init__(self, api_key: str | None = None, base_url: str | None = None) -> None:
        self._client = LazyClient(lambda: _client(api_key, base_url))

    async def warm_up(self) -> None:
        """Import the SDK (1–2 s) in a thread, off the path to ready. What is missing is for the first call to say."""
        await self._client.warm_up()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Call the model. Raises `ModelFailed`."""
        client = await self._client.open()
        from anthropic import AnthropicError, APIConnectionError, APITimeoutError  # noqa: PLC0415  see `warm_up`

        try:
            async with aclosing(_read(client, request)) as batches:
                async for said in batches:
                    yield said
        except APITimeoutError as error:
            raise timed_out(f"Anthropic did not answer in time: {reason(error.__cause__ or error)}") from error
        except APIConnectionError as error:
            raise unreachable(f"Anthropic cannot be reached: {reason(error.__cause__ or error)}") from error
        except AnthropicError as error:
            raise _refusal(error) from error


def _client(api_key: str | None, base_url: str | None) -> AsyncAnthropic:
    from anthropic import AnthropicError, AsyncAnthropic, DefaultAioHttpClient, Timeout  # noqa: PLC0415  slow: see `warm_up`

    timeout = Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS, write=SEND_SECONDS, pool=SEND_SECONDS)
    try:
        http = DefaultAioHttpClient(timeout=timeout)
        client = AsyncAnthropic(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0, http_client=http)
    except AnthropicError as error:
        raise ModelFailed("authentication", f"{NO_KEY}. {reason(error)}", retryable=False) from error
    # The resources are modules of their own: import them here, not within the first call.
    assert client.messages.with_streaming_response
    return client


async def _read(client: AsyncAnthropic, request: ModelRequest) -> AsyncGenerator[list[Said], None]:
    if not (client.api_key or client.auth_token or client.credentials):
        raise ModelFailed("authentication", NO_KEY, retryable=False)
    create = client.messages.with_streaming_response.create
    async with (
        create(**cast("Any", body_of(request)), stream=True) as response,
        aclosing(read_message(response.http_response, ClaudeStream(), "Anthropic")) as batches,
    ):
        async for said in batches:
            yield said


def _refusal(error: AnthropicError) -> ModelFailed:
    from anthropic import APIStatusError  # noqa: PLC0415  see `stream`

    if isinstance(error, APIStatusError):
        return from_status(error.status_code, error.api_message or error.message, error.response.headers, time.time())
    # Credentials that are configured but cannot be read, and whatever else the SDK finds before it sends.
    return ModelFailed("authentication", reason(error), retryable=False)
