"""`OpenAIModel`: OpenAI and the servers compatible with it, by OpenAI's SDK. The only module that knows the SDK.

As in `claude`, the SDK finds the key, holds the connections and names the errors, and the body's bytes are read here.
The SDK is an extra: without it every call fails with how to install it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from playhead_orchestrator.adapters.failures import from_status, timed_out, unreachable
from playhead_orchestrator.adapters.lazy import LazyClient
from playhead_orchestrator.adapters.openai_wire import ChatStream, body_of, out_of_quota
from playhead_orchestrator.adapters.reading import read_message, reason
from playhead_orchestrator.model import ModelFailed, ModelRequest, Said

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAIError

__all__ = ["OpenAIModel"]

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
"""The longest wait for the next bytes. This API sends nothing at all while a model thinks."""
SEND_SECONDS = 60.0
"""The longest wait to send a part of the request, and for a free connection of the pool."""

NO_SDK = "the OpenAI SDK is not installed: pip install 'playhead[openai]'"
NO_KEY = "no key for OpenAI: set OPENAI_API_KEY (any text, for a server that asks for none)"

OPENAI_HOSTS = ("openai.com", "azure.com")
"""OpenAI's newer models refuse `max_tokens`; many compatible servers know nothing else."""


class OpenAIModel:
    """Speaks chat completions. Without arguments the SDK's own environment variables hold."""

    provider = "openai"

    def __init__(self, api_key: str | None = None, base_url: str | None = None) -> None:
        self._client = LazyClient(lambda: _client(api_key, base_url))

    async def warm_up(self) -> None:
        """Import the SDK in a thread, off the path to ready. What is missing is for the first call to say."""
        await self._client.warm_up()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Call the model. Raises `ModelFailed`."""
        client = await self._client.open()
        from openai import APIConnectionError, APITimeoutError, OpenAIError  # noqa: PLC0415  see `warm_up`

        try:
            async with aclosing(_read(client, request)) as batches:
                async for said in batches:
                    yield said
        except APITimeoutError as error:
            raise timed_out(f"the provider did not answer in time: {reason(error.__cause__ or error)}") from error
        except APIConnectionError as error:
            raise unreachable(f"the provider cannot be reached: {reason(error.__cause__ or error)}") from error
        except OpenAIError as error:
            raise _refusal(error) from error


def _client(api_key: str | None, base_url: str | None) -> AsyncOpenAI:
    try:
        from openai import AsyncOpenAI, OpenAIError, Timeout  # noqa: PLC0415  slow: see `warm_up`
    except ImportError as error:
        raise ModelFailed("misconfigured", NO_SDK, retryable=False) from error
    timeout = Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS, write=SEND_SECONDS, pool=SEND_SECONDS)
    try:
        client = AsyncOpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)
    except OpenAIError as error:
        raise ModelFailed("authentication", NO_KEY, retryable=False) from error
    # The resources are modules of their own: import them here, not within the first call.
    assert client.chat.completions.with_streaming_response
    return client


async def _read(client: AsyncOpenAI, request: ModelRequest) -> AsyncGenerator[list[Said], None]:
    is_openai = client.base_url.host.endswith(OPENAI_HOSTS)
    body = body_of(request, "max_completion_tokens" if is_openai else "max_tokens")
    create = client.chat.completions.with_streaming_response.create
    async with (
        create(**cast("Any", body), stream=True) as response,
        aclosing(read_message(response.http_response, ChatStream(), "the provider")) as batches,
    ):
        async for said in batches:
            yield said


def _refusal(error: OpenAIError) -> ModelFailed:
    from openai import APIStatusError  # noqa: PLC0415  see `stream`

    if not isinstance(error, APIStatusError):
        return ModelFailed("authentication", reason(error), retryable=False)
    is_object = isinstance(error.body, Mapping)
    body = cast("Mapping[str, object]", error.body) if is_object else dict[str, object]()
    message = str(body.get("message") or error.message)
    failed = from_status(error.status_code, message, error.response.headers, time.time())
    if out_of_quota(body):
        return ModelFailed(failed.code, message, retryable=False)
    return failed
